"""What is judged: rows with their times. Times are epoch seconds, features stand in the baseline's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats
from windlass.errors import WindlassError

Days = NDArray[np.int64]

DAY_S = 86400


@dataclass(frozen=True, eq=False)
class Rows:
    """Predictions made before `end`. Give the newest window, or more: days that were judged before are passed over.

    Attributes:
        end: every prediction before this time is here; only whole UTC days before it are judged.
        at: when each was made, in any order.
        features: rows × columns; NaN is missing, a category is its position, and a position that training did not
            know is an unknown category.
        scores: of the same rows, in [0, 1]; NaN where there is none.
    """

    end: float
    at: Floats
    features: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if not len(self.at) == len(self.features) == len(self.scores):
            raise WindlassError(
                f"{len(self.at)} times, {len(self.features)} rows of features and {len(self.scores)} scores: "
                "a window needs one of each a row"
            )

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, eq=False)
class Matured:
    """Predictions whose label is known.

    Attributes:
        through: every label of a prediction before this time has had its time to come; younger days wait.
        at: when the prediction was made (not when its label came).
        labels: 0 or 1.
    """

    through: float
    at: Floats
    labels: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if not len(self.at) == len(self.labels) == len(self.scores):
            raise WindlassError(
                f"{len(self.at)} times, {len(self.labels)} labels and {len(self.scores)} scores do not match"
            )

    def __len__(self) -> int:
        return len(self.at)


def days_of(at: Floats) -> Days:
    """Number of the UTC day (since 1970) of each time."""
    days: Days = np.floor_divide(at, DAY_S).astype(np.int64)
    return days
