"""Rows as one matrix: what a column may be predicted from — the other columns, the clock, and the season.

A week of rain moves twenty columns at once, and the mean of none of them says whether a sensor is wrong. What says it
is the column given the others; so each is regressed on all the rest, through one covariance matrix for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Floats
from monitoring.detection.rows import DAY_S
from monitoring.detection.scales import ColumnScale

RARE = 0.005
"""Missing values and categories rarer than this predict nothing."""
YEAR_S = 365.2425 * DAY_S
SEASONS = 3
HOURS = 2


@dataclass(frozen=True, eq=False)
class Design:
    """Where each column stands in the matrix.

    Attributes:
        numeric: positions in the features of the numeric columns; they are the first columns of the matrix.
        missing: positions in the features of those whose missing values are a column of the matrix, next.
        categories: (position in the features, category) of the one-hot columns, next; clock and season come last.
        deviations: by which missing and one-hot columns are divided.
    """

    numeric: tuple[int, ...]
    missing: tuple[int, ...]
    categories: tuple[tuple[int, int], ...]
    deviations: Floats
    season: bool

    @classmethod
    def of(cls, scales: Sequence[ColumnScale], *, season: bool) -> Design:
        """Lay out the matrix of these feature columns."""
        numeric = tuple(i for i, s in enumerate(scales) if s.kind == "numeric")
        missing = tuple(i for i, s in enumerate(scales) if RARE <= s.null_share <= 1 - RARE)
        categories = tuple(
            (i, k)
            for i, s in enumerate(scales)
            for k, share in enumerate(s.shares)
            if RARE <= share <= 1 - RARE
        )
        shares = [scales[i].null_share for i in missing] + [float(scales[i].shares[k]) for i, k in categories]
        deviations = np.array([math.sqrt(p * (1 - p)) for p in shares])
        return cls(numeric, missing, categories, deviations, season)

    def matrix(self, normal: Floats, features: Floats, at: Floats) -> Floats:
        """Rows of the matrix.

        Args:
            normal: normal scores of the numeric columns, NaN where missing (0 then: nothing is known).
        """
        present = np.isfinite(features)
        flags = [~present[:, i] for i in self.missing] + [features[:, i] == k for i, k in self.categories]
        blocks = [np.nan_to_num(normal)]
        if flags:
            blocks.append(np.column_stack(flags) / self.deviations)
        blocks.append(_clock(at))
        if self.season:
            blocks.append(_waves(at / YEAR_S, SEASONS))
        return np.hstack(blocks)


def _clock(at: Floats) -> Floats:
    hours = _waves(at / DAY_S, HOURS)
    weekday = (np.floor_divide(at, DAY_S).astype(np.int64) + 3) % 7  # the epoch began on a Thursday
    return np.hstack((hours, weekday[:, None] == np.arange(6)))


def _waves(turns: Floats, harmonics: int) -> Floats:
    angles = 2 * math.pi * turns[:, None] * np.arange(1, harmonics + 1)
    return np.hstack((np.sin(angles), np.cos(angles)))
