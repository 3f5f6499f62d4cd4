"""Betting on a bounded mean: evidence against a bound, and the confidence sequence of all bounds not refuted.

Who claims "the mean is at most m" must accept the bet 1 + c (x/m - 1) on each value x in [0, 1], for any fraction
c in [0, 1): its expected pay-out is at most 1 under the claim. The product over the values is a nonnegative
supermartingale, so it reaches 1/alpha with chance at most alpha, however often one looks (Ville 1939). A fixed
mixture over fractions keeps that, needs no tuning, and does not depend on the order of the values.

Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024)
1-27: the capital process of Theorem 3, with a discrete mixture of constant bets ("diversified Kelly") in place of
its plug-in bets. For zeros and ones the process is the likelihood ratio of a mixture of larger rates against the
bound: Robbins' method of mixtures, as in S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021) 1055-1080.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bets:
    """Fractions of the wealth that are bet, and the share of the starting wealth that each gets."""

    fractions: tuple[float, ...]
    shares: tuple[float, ...]


#: Rates: fractions from a small excess over a small bound up to "every request"; equal shares.
RATE_BETS = Bets(
    fractions=(0.001, 0.0025, 0.006, 0.015, 0.04, 0.1, 0.25, 0.5, 0.8, 0.97),
    shares=(0.1,) * 10,
)

#: Differences of two models' losses: small beside their range of [-1, 1], so the largest bets are nearly always
#: the best and get most of the wealth; the small ones are for metrics that do use their range.
PAIR_BETS = Bets(fractions=(0.03, 0.1, 0.3, 0.6, 0.95), shares=(0.05, 0.1, 0.15, 0.2, 0.5))


@dataclass(frozen=True)
class Sample:
    """Values in [0, 1] with their counts: order does not matter to the bets."""

    values: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return math.fsum(v * c for v, c in zip(self.values, self.counts, strict=True)) / self.size


def of_counts(n: int, events: int) -> Sample:
    """`events` ones among `n` zeros and ones.

    Raises:
        ValueError: there are fewer than none, or more than all.
    """
    if not 0 <= events <= n:
        raise ValueError(f"{events!r} events among {n!r} requests make no sense")
    return Sample((1.0, 0.0), (events, n - events))


def of_values(values: Sequence[float], low: float, high: float) -> Sample:
    """Values known to lie in [low, high], moved to [0, 1].

    Raises:
        ValueError: a value outside, or not a number: the guarantee would not hold. The range is empty.
    """
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"[{low:g}, {high:g}] is no range; its end must be above its beginning")
    for value in values:
        if not low <= value <= high:
            raise ValueError(f"value {value!r} is outside [{low:g}, {high:g}]")
    return Sample(tuple((value - low) / (high - low) for value in values), (1,) * len(values))


def log_evidence_above(sample: Sample, bound: float, bets: Bets) -> float:
    """Log of the e-value against "the mean is at most `bound`", for a bound in (0, 1).

    Raises:
        ValueError: another bound.
    """
    _require_inside(bound, "bound")
    if sample.values == _ONES_AND_ZEROS:
        ones, zeros = sample.counts
        return _log_wealth_of_counts(ones, zeros, bound, bets)
    values, counts = _arrays(sample)
    return _log_wealth(values, counts, bound, bets)


def log_evidence_below(sample: Sample, bound: float, bets: Bets) -> float:
    """Log of the e-value against "the mean is at least `bound`", for a bound in (0, 1).

    Raises:
        ValueError: another bound.
    """
    _require_inside(bound, "bound")
    if sample.values == _ONES_AND_ZEROS:
        ones, zeros = sample.counts
        return _log_wealth_of_counts(zeros, ones, 1 - bound, bets)
    values, counts = _arrays(sample)
    return _log_wealth(1 - values, counts, 1 - bound, bets)


def bounds(sample: Sample, alpha: float, bets: Bets, tolerance: float = 1e-6) -> tuple[float, float]:
    """Lower and upper bound of the mean: each holds at all times at once with chance 1 - `alpha`.

    The evidence against "at most m" falls as m grows, so the bound is where it reaches 1/alpha; the side returned is
    the safe one, at most `tolerance` (relative to the bound, for zeros and ones: much less) from it.

    Raises:
        ValueError: alpha is not between 0 and 1.
    """
    _require_inside(alpha, "alpha")
    if sample.size == 0:
        return 0.0, 1.0
    if sample.values == _ONES_AND_ZEROS:
        ones, zeros = sample.counts
        return _lower_of_counts(ones, zeros, alpha, bets), 1 - _lower_of_counts(zeros, ones, alpha, bets)
    values, counts = _arrays(sample)
    lower = _lower(values, counts, alpha, bets, tolerance)
    return lower, 1 - _lower(1 - values, counts, alpha, bets, tolerance)


def _require_inside(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} {value!r} is not between 0 and 1")


def log_sum(logs: Sequence[float]) -> float:
    """Log of the sum of the exponentials; plain, since for ten numbers an array costs more than the sum."""
    most = max(logs)
    return most + math.log(math.fsum([math.exp(log - most) for log in logs]))


# --- zeros and ones: what every guardrail asks at every look, so plain arithmetic on two counts


_ONES_AND_ZEROS = (1.0, 0.0)


def _log_wealth_of_counts(ones: int, zeros: int, bound: float, bets: Bets) -> float:
    odds = 1 / bound - 1
    return log_sum(
        [
            log_share + ones * math.log1p(fraction * odds) + zeros * log_rest
            for fraction, log_share, log_rest in _bet_logs(bets)
        ]
    )


def _lower_of_counts(ones: int, zeros: int, alpha: float, bets: Bets) -> float:
    """Where the evidence against "at most m" is 1/alpha, by Newton's method in t = log(1/m - 1).

    Each bet's log wealth is convex and rises in t, and so is that of the mixture. So from a t at which it has more
    than it needs, every step stays there: on the safe side. One bet's share alone gives such a t in closed form,
    close to the solution.
    """
    if ones == 0:
        return 0.0
    needed = math.log(1 / alpha)
    lines = [
        (math.log(fraction), log_share + zeros * log_rest)
        for fraction, log_share, log_rest in _bet_logs(bets)
    ]
    t = min(_log_expm1((needed - held) / ones) - log_fraction for log_fraction, held in lines)
    for _ in range(_STEPS):
        logs, slopes = [], []
        for log_fraction, held in lines:
            gain, slope = _softplus(t + log_fraction)
            logs.append(held + ones * gain)
            slopes.append(slope)
        value = log_sum(logs)
        surplus = value - needed
        if surplus < _SURPLUS:
            break
        slope = ones * math.fsum(
            [math.exp(log - value) * slope for log, slope in zip(logs, slopes, strict=True)]
        )
        # aims a little above: rounding must not lead to the other side
        t -= (surplus - _SURPLUS / 2) / slope
    return 1 / (1 + math.exp(t)) if t < 700 else 0.0


#: Evidence (a difference of logs) at which a bound is exact enough, and steps after which it is taken as it is.
_SURPLUS = 1e-7
_STEPS = 60


def _softplus(x: float) -> tuple[float, float]:
    """log(1 + exp(x)) and its slope."""
    if x > 0:
        rest = math.exp(-x)
        return x + math.log1p(rest), 1 / (1 + rest)
    odds = math.exp(x)
    return math.log1p(odds), odds / (1 + odds)


def _log_expm1(x: float) -> float:
    """log(exp(x) - 1) of a positive x."""
    return x + math.log(-math.expm1(-x))


@lru_cache(maxsize=16)
def _bet_logs(bets: Bets) -> tuple[tuple[float, float, float], ...]:
    """Of each bet the fraction, the log of its share, and the log of what a zero leaves of it."""
    return tuple(
        (fraction, math.log(share), math.log1p(-fraction))
        for fraction, share in zip(bets.fractions, bets.shares, strict=True)
    )


# --- any values in [0, 1]


def _lower(values: Array, counts: Array, alpha: float, bets: Bets, tolerance: float) -> float:
    needed = math.log(1 / alpha)
    low, high = 0.0, float(values @ counts / counts.sum())
    while high - low > tolerance:
        middle = (low + high) / 2
        if _log_wealth(values, counts, middle, bets) >= needed:
            low = middle
        else:
            high = middle
    return low


def _log_wealth(values: Array, counts: Array, bound: float, bets: Bets) -> float:
    if len(values) == 0:
        return 0.0
    fractions, log_shares = _bet_arrays(bets)
    gains = np.log1p(fractions[:, None] * (values / bound - 1)[None, :])
    return float(np.logaddexp.reduce(log_shares + gains @ counts))


def _arrays(sample: Sample) -> tuple[Array, Array]:
    return np.asarray(sample.values, dtype=np.float64), np.asarray(sample.counts, dtype=np.float64)


@lru_cache(maxsize=16)
def _bet_arrays(bets: Bets) -> tuple[Array, Array]:
    return np.asarray(bets.fractions), np.log(np.asarray(bets.shares))
