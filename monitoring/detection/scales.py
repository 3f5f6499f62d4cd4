"""How each column is measured: as normal scores of its reference, so that one unit means the same for all columns.

Delays have long tails and rain is mostly none: in raw units a single storm would be most of a window's mean. Normal
scores (van der Waerden; the rank of a value in the reference, through the normal quantile function) keep order, are
not moved by how far a tail reaches, and a shift by half a standard deviation moves them by half or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.columns import Floats

ColumnKind = Literal["numeric", "categorical", "score"]

KNOTS = 400
EXTREME = 0.001
TAIL = 0.05
SLACK = 1.0
"""Weather sets records; a wrong unit leaves the range by more than its width."""
ATOM_SHARE = 0.1
"""A value that this share of the rows have is a fact of its own: no rain, ten miles of sight."""
SMALLEST_MAGNITUDE = 1e-9


@dataclass(frozen=True, eq=False)
class ColumnScale:
    """One column of the reference.

    Attributes:
        knots, scores: values in ascending order and their standardised normal scores.
        low, high: smallest and largest value, and their distance once more to either side.
        tail_low, tail_high: 5 % and 95 % quantile.
        atom: the most frequent value, if it is frequent; else NaN.
        log_mean: mean logarithm of the magnitudes that are not zero; NaN where there are none.
        null_share: share of rows without a value.
        shares: of each category, empty for a number.
    """

    name: str
    kind: ColumnKind
    knots: Floats
    scores: Floats
    low: float
    high: float
    tail_low: float
    tail_high: float
    atom: float
    log_mean: float
    null_share: float
    shares: Floats

    @classmethod
    def of(cls, name: str, column: Floats, kind: ColumnKind, categories: int = 0) -> ColumnScale:
        """Measure the reference's column; `categories` is how many a categorical one has."""
        values = np.sort(column[np.isfinite(column)])
        null_share = 1.0 - len(values) / len(column) if len(column) else 0.0
        shares = np.empty(0)
        if kind == "categorical":
            known = values[(values >= 0) & (values < categories)].astype(np.int64)
            shares = np.bincount(known, minlength=categories) / max(len(values), 1)
        if not len(values):
            none = np.empty(0)
            nan = float("nan")
            return cls(name, kind, none, none, nan, nan, nan, nan, nan, nan, null_share, shares)
        knots, scores = _normal_scores(values)
        distinct, counts = np.unique(values, return_counts=True)
        frequent = int(counts.argmax())
        atom = float(distinct[frequent]) if counts[frequent] >= ATOM_SHARE * len(values) else float("nan")
        slack = SLACK * float(values[-1] - values[0])
        magnitudes = np.abs(values[np.abs(values) > SMALLEST_MAGNITUDE])
        return cls(
            name=name,
            kind=kind,
            knots=knots,
            scores=scores,
            low=float(values[0]) - slack,
            high=float(values[-1]) + slack,
            tail_low=float(np.quantile(values, TAIL)),
            tail_high=float(np.quantile(values, 1 - TAIL)),
            atom=atom,
            log_mean=float(np.log(magnitudes).mean()) if len(magnitudes) else float("nan"),
            null_share=null_share,
            shares=shares,
        )

    def normal(self, column: Floats) -> Floats:
        """Normal scores of values; NaN where there is none."""
        if not len(self.knots):
            return np.full(len(column), np.nan)
        scored: Floats = np.interp(column, self.knots, self.scores)
        return np.where(np.isfinite(column), scored, np.nan)


def _normal_scores(values: Floats) -> tuple[Floats, Floats]:
    from scipy.special import ndtri

    n = len(values)
    levels = np.concatenate(([0.0, 0.25 / KNOTS], np.arange(1, KNOTS) / KNOTS, [1 - 0.25 / KNOTS, 1.0]))
    knots = np.unique(np.quantile(values, levels, method="nearest"))

    def scores_of(x: Floats) -> Floats:
        below, upto = np.searchsorted(values, x, "left"), np.searchsorted(values, x, "right")
        scored: Floats = ndtri(np.clip((below + upto) / (2 * n), EXTREME, 1 - EXTREME))
        return scored

    scores = scores_of(knots)
    every = np.interp(values, knots, scores)
    spread = float(every.std())
    return knots, (scores - every.mean()) / (spread if spread > 0 else 1.0)
