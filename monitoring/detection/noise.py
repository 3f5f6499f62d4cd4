"""How far each statistic of a span wanders although nothing changed, learned from the reference itself.

Weeks are the unit: the reference is cut into weeks, each week is measured by what was fitted without it, and the mean
square of its statistics is their variance. Rows of a day are not independent and neither are neighbouring days; weeks
nearly are, and what dependence is left between them is estimated and kept. A statistic whose worst week lies further
out than normal noise would put it (storms) has its deviation raised until that week fits, and how well forty weeks tell
a deviation follows from their kurtosis: what is calm but for a few weeks will have others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats
from monitoring.detection.statistics import DayTable

WEEK = 7
SPANS = (7, 14, 28)
GAPS = 1.6
"""A run of days of a reference with gaps may reach over so many times its length."""
FLOOR = 0.0005
LEAST_CORRELATION = 0.1
MOST_CORRELATION = 0.9
LEAST_FREEDOM = 6.0
NORMAL_KURTOSIS = 3.0
SMALLEST_PART = 0.2
"""Share of the variance of weeks that is never taken for the noise of drawing rows."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of each statistic.

    Attributes:
        between: standard deviation of a week's mean, beyond the noise of drawing its rows.
        within: standard deviation of one row within its day.
        correlation: between neighbouring weeks.
        worst: `SPANS` × statistics: deviation that the worst span of so many days would be expected of.
        kurtosis: of the means of weeks, about zero.
        weeks: independent weeks behind it.
    """

    between: Floats
    within: Floats
    correlation: Floats
    worst: Floats
    kurtosis: Floats
    weeks: float

    @property
    def normal_freedom(self) -> float:
        """Degrees of freedom of `between` where weeks are normal."""
        return max(self.weeks - 1.0, 2.0)

    @property
    def freedom(self) -> Floats:
        """Degrees of freedom of `between`: the variance of a variance is (kurtosis - 1) / weeks (Box, 1953)."""
        most = self.normal_freedom
        weeks = self.weeks * (NORMAL_KURTOSIS - 1) / (np.maximum(self.kurtosis, NORMAL_KURTOSIS) - 1)
        freedom: Floats = np.clip(weeks - 1.0, min(LEAST_FREEDOM, most), most)
        return freedom

    def deviation(self, days: float, rows: Floats) -> Floats:
        """Standard deviation of the mean over a span of `days`, with `rows` behind each statistic."""
        weeks = days / WEEK
        lags = np.arange(1, math.ceil(weeks))
        added = (2 * (1 - lags / weeks) * self.correlation[:, None] ** lags).sum(axis=1) if len(lags) else 0.0
        variance = np.square(self.between) / weeks * (1 + added)
        # a single stormy week weighs less in a longer span than many common ones do
        longest = max((k for k, span in enumerate(SPANS) if span <= max(days, SPANS[0])), default=0)
        variance = np.maximum(variance, np.square(self.worst[longest]))
        drawn = np.square(self.within) / np.maximum(rows, 1.0)
        deviation: Floats = np.sqrt(variance + drawn)
        return deviation


def learn(table: DayTable, weights: NDArray[np.int64]) -> Noise:
    """Learn from days measured by what was fitted without them; `weights`: the count behind each statistic."""
    counts = table.counts[:, weights]
    first, means, rows = _means(table, counts, WEEK)
    total = np.maximum(counts.sum(axis=0), 1.0)
    daily = table.sums / np.maximum(counts, 1.0)
    inside = np.maximum(
        (table.squares.sum(axis=0) - (counts * np.square(daily)).sum(axis=0)) / total, 1.0 / total
    )
    # about zero and not about their mean: that a week is measured by another fit is part of its noise
    square = np.square(means).mean(axis=0)
    between = np.sqrt(np.maximum(square - inside * (1.0 / rows).mean(axis=0), SMALLEST_PART * square))
    worst = []
    for span in SPANS:
        _, long_means, _ = _means(table, counts, span)
        worst.append(np.abs(long_means).max(axis=0) / _expected_worst(len(table.days) / span))
    return Noise(
        between=np.maximum(between, FLOOR),
        within=np.sqrt(inside),
        correlation=_correlation(means, first),
        worst=np.array(worst),
        kurtosis=np.square(np.square(means)).mean(axis=0)
        / np.maximum(np.square(square), np.finfo(float).tiny),
        weeks=len(table.days) / WEEK,
    )


def without_times(squares: Floats, rows: int) -> Noise:
    """Where the reference has no times: a week counts as one row, the most that its rows can depend on each other."""
    deviation = np.maximum(np.sqrt(squares), 1.0 / math.sqrt(max(rows, 1)))
    return Noise(
        between=deviation,
        within=np.zeros(len(deviation)),
        correlation=np.full(len(deviation), LEAST_CORRELATION),
        worst=np.zeros((len(SPANS), len(deviation))),
        kurtosis=np.full(len(deviation), NORMAL_KURTOSIS),
        weeks=max(rows / WEEK, 3.0),
    )


def _means(table: DayTable, counts: Floats, span: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """First day, means and rows of every run of `span` days that lie close enough together; of all if none do."""
    size = min(span, len(table.days))
    first = np.arange(len(table.days) - size + 1)
    apart = table.days[first + size - 1] - table.days[first]
    near = apart < GAPS * span
    first = first[near] if near.any() else first

    def sliding(values: Floats) -> Floats:
        running = np.concatenate((np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)))
        summed: Floats = running[first + size] - running[first]
        return summed

    rows = np.maximum(sliding(counts), 1.0)
    return first, sliding(table.sums) / rows, rows


def _correlation(means: Floats, first: NDArray[np.int64]) -> Floats:
    """Correlation of weeks that follow each other, on the high side."""
    position = {int(day): k for k, day in enumerate(first)}
    pairs = [(k, position[int(day) + WEEK]) for k, day in enumerate(first) if int(day) + WEEK in position]
    if len(pairs) < WEEK:
        return np.full(means.shape[1], LEAST_CORRELATION)
    left, right = np.array(pairs).T
    square = np.square(means).mean(axis=0)
    product = (means[left] * means[right]).mean(axis=0)
    raw = product / np.maximum(square, np.finfo(float).tiny)
    clipped: Floats = np.clip(raw + LEAST_CORRELATION, LEAST_CORRELATION, MOST_CORRELATION)
    return clipped


def _expected_worst(count: float) -> float:
    """Where the worst of so many spans stands, of overlapping ones, in standard deviations (Blom)."""
    from scipy.special import ndtri

    looks = max(1.5 * count, 4.0)
    return float(ndtri(1 - 0.5 / (looks + 0.25)))
