"""What of an effect lasts: a change of the data moves every day from its beginning on, a storm moves one or two.

The mean over a span of days is most of all what its stormiest day was. So the same mean is taken once more without the
outermost days on either side (a trimmed mean; Huber, Robust Statistics, 1981, section 3.3), and what is evidence is the
smaller of both. The noise stays that of the plain mean: to ask for more costs no false alarm.
"""

from __future__ import annotations

import numpy as np

from monitoring.columns import Floats

ONE_OF = 7
"""One day of so many, on either side, may be a storm."""
FEWEST_DAYS = 3
"""Of fewer days none can be left out."""


def outermost(days: int) -> int:
    """How many days of so many are left out on either side."""
    return max(days // ONE_OF, 1) if days >= FEWEST_DAYS else 0


def trimmed(effects: Floats, counts: Floats) -> Floats:
    """Mean of each statistic over days, by their rows, without its outermost days.

    Args:
        effects: days × statistics.
        counts: the same of the rows behind each; a day without rows is none.
    """
    present = (counts > 0).sum(axis=0)
    left_out = np.array([outermost(days) for days in range(len(counts) + 1)])[present]
    order = np.argsort(np.where(counts > 0, effects, np.inf), axis=0, kind="stable")
    place = np.arange(len(counts))[:, None]
    kept = (place >= left_out) & (place < present - left_out)
    rows = np.where(kept, np.take_along_axis(counts, order, axis=0), 0.0)
    values = np.where(kept, np.take_along_axis(effects, order, axis=0), 0.0)
    mean: Floats = (values * rows).sum(axis=0) / np.maximum(rows.sum(axis=0), 1.0)
    return mean


def smaller(effect: Floats, without_outermost: Floats) -> Floats:
    """The one nearer to zero; zero where a few days decide which way it points."""
    same_way = np.sign(effect) == np.sign(without_outermost)
    nearer = np.minimum(np.abs(effect), np.abs(without_outermost))
    lasts: Floats = np.where(same_way, np.sign(effect) * nearer, 0.0)
    return lasts
