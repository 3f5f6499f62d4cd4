"""Rows of one day share its weather: errors of means that know it, because rows that hang together prove less.

Flights of a stormy day are late together; a standard error that takes them as independent is several times too
small, and an alarm that rests on it rings for the weather. So sums of whole days are what is taken as independent.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats
from monitoring.detection.rows import days_of

Ints = NDArray[np.int64]


def codes(at: Floats) -> Ints:
    """Number the days of `at` (epoch seconds, UTC) from 0, in the order of time."""
    return np.asarray(np.unique(days_of(at), return_inverse=True)[1], dtype=np.int64)


def standard_error(influence: Floats, day: Ints) -> tuple[float, int]:
    """Standard error of a sum of `influence` whose days are independent, and its degrees of freedom.

    The cluster-robust variance (Liang and Zeger 1986) with the factor D / (D - 1), but never less than that of
    independent rows: a few days can agree by chance.

    Args:
        influence: each row's part in the estimate's error, with mean 0 (a mean's is `(x - mean) / n`).
        day: `codes` of the rows.

    Returns:
        (NaN, 0) where there are fewer than two days.
    """
    days = int(day.max()) + 1 if len(day) else 0
    if days < 2:
        return math.nan, 0
    sums = np.bincount(day, weights=influence, minlength=days)
    clustered = float(np.sum(np.square(sums - sums.mean()))) * days / (days - 1)
    alone = float(np.sum(np.square(influence)))
    return math.sqrt(max(clustered, alone)), days - 1


def between_variance(influence: Floats, noise: Floats, day: Ints) -> tuple[float, int]:
    """Variance of what all rows of one day share, by moments, and its degrees of freedom.

    With rows u = b(day) + e the square of a day's sum has mean n² var(b) + sum of var(e); what the days' sums show
    beyond the rows' own noise is var(b) (analysis of variance of one way, Searle, Casella and McCulloch 1992, ch. 3).

    Args:
        influence: u, a row each, with mean 0.
        noise: var(e) of each row.
    """
    days = int(day.max()) + 1 if len(day) else 0
    if days < 2:
        return 0.0, 0
    sums = np.bincount(day, weights=influence, minlength=days)
    counts = np.bincount(day, minlength=days).astype(np.float64)
    beyond = float(np.sum(np.square(sums))) - float(np.sum(noise))
    return max(beyond / float(np.sum(np.square(counts))), 0.0), days - 1


def shared_weight(day: Ints) -> float:
    """Part of `between_variance` that is left in a mean over these rows: the sum of squared shares of the days."""
    shares = np.bincount(day) / max(len(day), 1)
    return float(np.sum(np.square(shares)))


def quantile(level: float, freedom: int) -> float:
    """Quantile of Student's t; of the normal distribution where `freedom` is 0 (unknown)."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(level) if freedom <= 0 else stdtrit(freedom, level))


def beyond(statistic: Floats, freedom: int) -> Floats:
    """One-sided p-values: how often Student's t with `freedom` exceeds each statistic."""
    from scipy.special import ndtr, stdtr

    return np.asarray(ndtr(-statistic) if freedom <= 0 else stdtr(freedom, -statistic), dtype=np.float64)
