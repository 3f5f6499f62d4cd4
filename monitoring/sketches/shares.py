"""Distances between shares of bins or labels, as Evidently defines them, when the counts are known to an interval.

Each distance is a sum over bins of a function that is convex in the two shares and 0 where they are equal. So over a
rectangle of possible shares it is largest at a corner, and smallest where the intervals come closest: bounds of the sum
are sums of bounds. A *group* is a count of which it is not known how it divides among labels: at best as if it were
one label, at worst as if no label in it occurred in both samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches.steps import Bounded

Floats = NDArray[np.float64]
LOG_2 = math.log(2.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """Counts of one sample's bins and groups, each between `low` and `high`.

    Attributes:
        low, middle, high: of the bins, in the same order as the other sample's.
        group_low, group_middle, group_high: of the groups.
    """

    n: int
    low: Floats
    middle: Floats
    high: Floats
    group_low: Floats
    group_middle: Floats
    group_high: Floats

    @classmethod
    def exactly(cls, n: int, counts: NDArray[np.int64], groups: NDArray[np.int64] | None = None) -> Sample:
        bins = counts.astype(np.float64)
        group = np.empty(0) if groups is None else groups.astype(np.float64)
        return cls(n, bins, bins, bins, group, group, group)


def jensen_shannon(reference: Sample, current: Sample) -> Bounded:
    """Jensen-Shannon distance, natural logarithm: the root of the divergence."""
    found = _sum(_divergence, reference, current, LOG_2 / 2.0)
    return Bounded(*(math.sqrt(max(x, 0.0)) for x in (found.value, found.lower, found.upper)))


def total_variation(reference: Sample, current: Sample) -> Bounded:
    """Half the sum of the absolute differences of the shares."""
    return _sum(lambda p, q: np.abs(p - q) / 2.0, reference, current, 0.5)


def psi(reference: Sample, current: Sample) -> Bounded:
    """Population stability index. As Evidently does, an empty bin counts as a share of 0.0001, or of a millionth of
    the smallest share that is not 0 if that is below 0.0001.
    """
    empty_p, empty_q = _share_of_empty(reference), _share_of_empty(current)
    p, q = _filled(reference, empty_p), _filled(current, empty_q)
    value, lower, upper = _box(_stability, p, q)
    groups = _group_shares(reference), _group_shares(current)
    if any(g[2].any() for g in groups):
        grouped = [np.where(g[1] > 0, g[1], e.value) for g, e in zip(groups, (empty_p, empty_q), strict=True)]
        occurs = (groups[0][1] > 0) | (groups[1][1] > 0)
        value += float(_stability(*grouped)[occurs].sum())
        # at most a label a row; none of its shares is below the smallest, which bounds every logarithm
        held = float(groups[0][2].sum() + groups[1][2].sum())
        labels = float(reference.group_high.sum() + current.group_high.sum())
        smallest = min(empty_p.lower, empty_q.lower, 1.0 / reference.n, 1.0 / current.n)
        upper += (held + labels * (empty_p.upper + empty_q.upper)) * math.log(1.0 / smallest)
    return _ordered(value, lower, upper)


def chi_square(reference: Sample, current: Sample) -> Bounded:
    """The p-value of the chi-square test of the current counts against the reference's shares.

    Raises:
        ValueError: the bins' counts are intervals.
    """
    from scipy.special import chdtrc

    if not np.array_equal(reference.low, reference.high) or not np.array_equal(current.low, current.high):
        raise ValueError("a chi-square test needs counts and not intervals")
    new = bool(((reference.high == 0) & (current.low > 0)).any())
    if new or bool(((reference.group_high == 0) & (current.group_low > 0)).any()):
        return Bounded.exactly(0.0)  # a label that was impossible: the statistic is infinite
    expected = reference.middle * (current.n / reference.n)
    statistic = float(((current.middle - expected) ** 2 / expected).sum())
    # one label leaves nothing to test
    value = float(chdtrc(len(expected) - 1, statistic)) if len(expected) > 1 else 1.0
    return Bounded(value, 0.0, 1.0) if current.group_high.any() else Bounded.exactly(value)


def _divergence(p: Floats, q: Floats) -> Floats:
    middle = (p + q) / 2.0
    return (_entropy(p, middle) + _entropy(q, middle)) / 2.0


def _entropy(p: Floats, q: Floats) -> Floats:
    present = p > 0
    return np.where(present, p * np.log(np.where(present, p, 1.0) / np.where(present, q, 1.0)), 0.0)


def _stability(p: Floats, q: Floats) -> Floats:
    return (p - q) * np.log(p / q)


Shares = tuple[Floats, Floats, Floats]
Convex = Callable[[Floats, Floats], Floats]


def _sum(term: Convex, reference: Sample, current: Sample, disjoint: float) -> Bounded:
    # `disjoint`: what a share adds in labels that the other sample does not have
    p, q = ((s.low / s.n, s.middle / s.n, s.high / s.n) for s in (reference, current))
    value, lower, upper = _box(term, p, q)
    groups = _group_shares(reference), _group_shares(current)
    if len(groups[0][1]):
        apart, least, _ = _box(term, *groups)
        value, lower = value + apart, lower + least
        upper += disjoint * float(groups[0][2].sum() + groups[1][2].sum())
    return _ordered(value, lower, upper)


def _box(term: Convex, p: Shares, q: Shares) -> tuple[float, float, float]:
    value = term(p[1], q[1])
    corners = [term(a, b) for a in (p[0], p[2]) for b in (q[0], q[2])]
    upper = np.max(corners, axis=0)
    lower = np.where(p[0] > q[2], corners[1], np.where(q[0] > p[2], corners[2], 0.0))
    return float(value.sum()), float(lower.sum()), float(upper.sum())


def _ordered(value: float, lower: float, upper: float) -> Bounded:
    # rounding may turn around what is equal
    if math.isclose(lower, upper, rel_tol=1e-12, abs_tol=1e-15):
        return Bounded.exactly(value)
    return Bounded(min(max(value, lower), upper), lower, upper)


def _group_shares(sample: Sample) -> Shares:
    return sample.group_low / sample.n, sample.group_middle / sample.n, sample.group_high / sample.n


def _share_of_empty(sample: Sample) -> Bounded:
    bins = np.concatenate((sample.low, sample.group_low))
    middles = np.concatenate((sample.middle, sample.group_middle))
    highs = np.concatenate((sample.high, sample.group_high))
    at_least = np.concatenate((np.maximum(sample.low, 1.0), np.ones(len(sample.group_low))))
    return Bounded(
        _of_empty(middles[middles > 0], sample.n),
        _of_empty(at_least[highs > 0], sample.n),
        _of_empty(highs[bins > 0], sample.n),
    )


def _of_empty(counts: Floats, n: int) -> float:
    smallest = float(counts.min()) / n if len(counts) else 1.0
    return smallest / 10**6 if smallest <= 0.0001 else 0.0001


def _filled(sample: Sample, empty: Bounded) -> Shares:
    low, middle, high = sample.low / sample.n, sample.middle / sample.n, sample.high / sample.n
    middle = np.where(sample.middle > 0, middle, empty.value)
    if empty.lower == empty.upper and sample.low is sample.high:
        return middle, middle, middle
    open_low = np.minimum(empty.lower, 1.0 / sample.n)
    low = np.where(sample.low > 0, low, np.where(sample.high > 0, open_low, empty.lower))
    high = np.where(sample.low > 0, high, np.maximum(high, empty.upper))
    return low, middle, high
