"""Judging drift with control of false alarms: every alarm has its uncertainty, and the alarms of a month are budgeted.

`judge` (in `judging`) takes what a `Baseline` knows of training, one window of live rows, the matured labels and the
`DetectionState` of the windows before; it returns a `Detection` and the next state. All is pure; `baseline` alone
reads and writes a file.

The unit of evidence is the day, not the row: rows of one day share its weather and its delays, so ten thousand rows
of a week are seven observations and little more. See docs/decisions/0019-drift-is-judged-by-days.md.
"""
