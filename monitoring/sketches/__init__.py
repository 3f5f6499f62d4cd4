"""Statistics of columns that need not fit in memory: read once, merged freely, each distance with its bounds.

Drift by effect size needs a window's distributions and not its rows. Up to a stated size a column's distribution is
kept exactly and its distances are Evidently's and scipy's own, value by value. Beyond that it is counted in fixed
cells: memory no longer grows, and what the cells cannot tell becomes a lower and an upper bound that hold for every
input, not with some probability.

`grid` has the cells, `distribution` and `categories` what is kept of a column, `moments` what is always exact,
`accumulate` and `stream` read, `profile` is what comes of it, `distances`, `steps` and `shares` compare two of
them, `window` judges a window's files as `monitoring.drift` judges its rows.
"""
