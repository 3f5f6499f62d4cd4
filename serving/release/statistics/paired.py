"""Mirrored requests: both versions answer the same request, the pair is joined by its id.

What a pair says is sharper than what two separate requests say, since whatever makes a request slow or bad for both
cancels. Disagreement of the two answers is a rate against a bound (`betting` on counts); the distance of two scores
is a bounded mean (`Distance`, a bet on each value, so that a look costs only what is new); errors and slow answers
are compared by the pairs of which exactly one has them (`Discordant`, exact from counts, no memory).

Source: the capital process of Theorem 3 of I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 86 (2024) 1-27, with a fixed mixture of bets; for zero excess `Discordant` is the
sequential form of Q. McNemar's test, Psychometrika 12 (1947) 153-157: by chance, half of the discordant pairs are
the candidate's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from serving.release.statistics import betting
from serving.release.statistics.arms import FRACTIONS
from serving.release.statistics.bernstein import EmpiricalBernstein
from serving.release.statistics.betting import RATE_BETS, Bets


@dataclass(frozen=True)
class Discordant:
    """Pairs so far, and how many of them had an event (an error, a slow answer) on one side only."""

    pairs: int
    only_candidate: int
    only_champion: int

    def swapped(self) -> Discordant:
        return Discordant(self.pairs, self.only_champion, self.only_candidate)

    @property
    def estimate(self) -> float | None:
        """The candidate's rate minus the champion's; None of no pairs."""
        return (self.only_candidate - self.only_champion) / self.pairs if self.pairs else None


def log_evidence_of_more(counts: Discordant, excess: float) -> float:
    """Log of the e-value against "the candidate's rate is at most the champion's plus `excess`" (in (-1, 1)).

    The order of the pairs does not matter, so cumulative counts are enough. `counts.swapped()` with `-excess` is the
    evidence that the candidate is safe.

    Raises:
        ValueError: counts that no pairs give.
    """
    both_or_none = counts.pairs - counts.only_candidate - counts.only_champion
    if min(counts.only_candidate, counts.only_champion, both_or_none) < 0:
        raise ValueError(f"{counts} is not a count of pairs")
    logs = []
    for fraction in FRACTIONS:
        bet = fraction / (1 + excess)  # at 1 a champion's event would take all
        logs.append(
            counts.only_candidate * math.log1p(bet * (1 - excess))
            + counts.only_champion * math.log1p(-fraction)
            + both_or_none * math.log1p(-bet * excess)
        )
    return betting.log_sum(logs) - math.log(len(logs))


@dataclass(frozen=True)
class Distance:
    """A mean of values in [0, 1] against a bound in (0, 1), one value after the other; start with `against`.

    Attributes:
        above, below: log wealth of each bet against "at most the bound" and "at least the bound".
        seen: running sums for the interval.
    """

    bound: float
    bets: Bets
    above: tuple[float, ...]
    below: tuple[float, ...]
    seen: EmpiricalBernstein

    @property
    def n(self) -> int:
        return self.seen.n

    @property
    def mean(self) -> float | None:
        return self.seen.sum_values / self.seen.n if self.seen.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Both sides together hold at all times with chance 1 - alpha; wider than the bets that decide."""
        return self.seen.interval

    @property
    def log_evidence_above(self) -> float:
        """Log of the e-value against "the mean is at most the bound"."""
        return betting.log_sum(self.above)

    @property
    def log_evidence_below(self) -> float:
        """Log of the e-value against "the mean is at least the bound"."""
        return betting.log_sum(self.below)


def against(bound: float, alpha: float, bets: Bets = RATE_BETS) -> Distance:
    """Before the first value; `alpha` is the level of the interval.

    Raises:
        ValueError: a bound outside (0, 1).
    """
    if not 0 < bound < 1:
        raise ValueError(f"bound {bound!r} is outside (0, 1)")
    start = tuple(math.log(share) for share in bets.shares)
    return Distance(bound, bets, start, start, EmpiricalBernstein(alpha))


def add(state: Distance, values: Iterable[float]) -> Distance:
    """After more values, whatever their order; the cost is that of the new values.

    Raises:
        ValueError: one outside [0, 1], or not a number.
    """
    above, below, seen = list(state.above), list(state.below), state.seen
    fractions = state.bets.fractions
    for value in values:
        seen = seen.add(value)
        over = value / state.bound - 1
        under = (1 - value) / (1 - state.bound) - 1
        for place, fraction in enumerate(fractions):
            above[place] += math.log1p(fraction * over)
            below[place] += math.log1p(fraction * under)
    return Distance(state.bound, state.bets, tuple(above), tuple(below), seen)
