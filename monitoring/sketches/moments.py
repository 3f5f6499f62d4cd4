"""Count, mean, variance and range of a column, exact in one pass and mergeable.

Each block of values is summed pairwise around its own mean and joined to the rest by the update of Chan, Golub and
LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979), eq. 1.5: no difference of
large squares is ever taken, so a column far from zero keeps its digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Of finite values.

    Attributes:
        squares: sum of the squared distances from the mean.
        minimum: infinity where there is no value.
        maximum: minus infinity where there is no value.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """The moments of a block of finite values."""
        n = len(values)
        if n == 0:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            around = float(values[0])
            away = values - around
            shift = float(np.add.reduce(away)) / n
            np.subtract(away, shift, out=away)
            np.multiply(away, away, out=away)
            squares = float(np.add.reduce(away))
            return cls(n, around + shift, squares, float(values.min()), float(values.max()))

    @property
    def variance(self) -> float:
        """Population variance; NaN where there is no value."""
        return self.squares / self.n if self.n else math.nan

    @property
    def deviation(self) -> float:
        """Population standard deviation; NaN where there is no value."""
        return math.sqrt(self.variance)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both samples together."""
    if a.n == 0 or b.n == 0:
        return b if a.n == 0 else a
    n = a.n + b.n
    apart = b.mean - a.mean
    mean = a.mean + apart * (b.n / n)
    squares = a.squares + b.squares + apart * apart * (a.n * (b.n / n))
    return Moments(n, mean, squares, min(a.minimum, b.minimum), max(a.maximum, b.maximum))
