"""The empirical-Bernstein confidence sequence: closed form, adapts to the variance, one pass over the values.

Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86
(2024) 1-27, Theorem 2 (predictable plug-in empirical Bernstein, "PrPl-EB-CS"), its bets truncated at 1/2.
Wider than betting (`betting.py`), which is inverted numerically; a test holds one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_LARGEST_BET = 0.5


@dataclass(frozen=True)
class EmpiricalBernstein:
    """The running sums after `n` values in [0, 1]; `add` gives the next."""

    alpha: float
    n: int = 0
    sum_bets: float = 0.0
    sum_bet_values: float = 0.0
    sum_penalties: float = 0.0
    sum_values: float = 0.0
    sum_squares: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha {self.alpha!r} is not between 0 and 1")

    def add(self, value: float) -> EmpiricalBernstein:
        """Take one value.

        Raises:
            ValueError: outside [0, 1].
        """
        if not 0 <= value <= 1:
            raise ValueError(f"value {value!r} is outside [0, 1]")
        # mean and variance as known before this value: a bet may not look at what it is placed on
        mean = (0.5 + self.sum_values) / (self.n + 1)
        variance = (0.25 + self.sum_squares) / (self.n + 1)
        n = self.n + 1
        bet = min(_LARGEST_BET, math.sqrt(2 * math.log(2 / self.alpha) / (variance * n * math.log(1 + n))))
        penalty = (value - mean) ** 2 * (-math.log1p(-bet) - bet)
        new_mean = (0.5 + self.sum_values + value) / (n + 1)
        return EmpiricalBernstein(
            self.alpha,
            n,
            self.sum_bets + bet,
            self.sum_bet_values + bet * value,
            self.sum_penalties + penalty,
            self.sum_values + value,
            self.sum_squares + (value - new_mean) ** 2,
        )

    def extend(self, values: Iterable[float]) -> EmpiricalBernstein:
        state = self
        for value in values:
            state = state.add(value)
        return state

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; together they hold at all times with chance 1 - alpha."""
        if self.n == 0:
            return 0.0, 1.0
        centre = self.sum_bet_values / self.sum_bets
        width = (math.log(2 / self.alpha) + self.sum_penalties) / self.sum_bets
        return max(0.0, centre - width), min(1.0, centre + width)
