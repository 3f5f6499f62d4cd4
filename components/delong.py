"""AUC with its variance, and the paired comparison of two AUCs on the same rows.

DeLong, DeLong and Clarke-Pearson (1988) give the covariance from the placement values of the two classes; Sun and
Xu (2014) compute those from midranks in O(n log n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Auc:
    """An AUC with a confidence interval (normal, clipped to [0, 1])."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """AUC of the first scores minus AUC of the second, on the same rows.

    Attributes:
        lower: one-sided lower confidence bound of the difference at level `1 - alpha`.
    """

    value: float
    standard_error: float
    lower: float


def auc(labels: Floats, scores: Floats, *, confidence: float = 0.95) -> Auc:
    """Return the AUC and its DeLong interval; both classes must occur."""
    values, covariance = _covariance(labels, [scores])
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(max(covariance[0][0], 0.0))
    value = values[0]
    return Auc(value, max(0.0, value - half), min(1.0, value + half))


def compare(labels: Floats, first: Floats, second: Floats, *, alpha: float = 0.05) -> Difference:
    """Compare two models' scores of the same rows (DeLong's paired test)."""
    values, covariance = _covariance(labels, [first, second])
    variance = covariance[0][0] + covariance[1][1] - 2 * covariance[0][1]
    # identical scores leave a rounding error of either sign
    error = math.sqrt(max(variance, 0.0))
    value = values[0] - values[1]
    return Difference(value, error, value - NormalDist().inv_cdf(1 - alpha) * error)


def point(labels: Floats, scores: Floats) -> float:
    """Return the AUC alone; NaN where one class is absent."""
    positive = labels == 1
    m = int(positive.sum())
    n = len(labels) - m
    if m == 0 or n == 0:
        return math.nan
    return float((midranks(scores)[positive].sum() - m * (m + 1) / 2) / (m * n))


def midranks(values: Floats) -> Floats:
    """Return ranks from 1, ties sharing the mean of theirs."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _covariance(labels: Floats, scores: list[Floats]) -> tuple[list[float], list[list[float]]]:
    import numpy as np

    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        raise ValueError(f"an AUC needs both classes; there are {m} positive and {n} negative rows")
    of_positives, of_negatives, values = [], [], []
    for s in scores:
        overall = midranks(s)
        v10 = (overall[positive] - midranks(s[positive])) / n
        v01 = 1.0 - (overall[~positive] - midranks(s[~positive])) / m
        of_positives.append(v10)
        of_negatives.append(v01)
        values.append(float(v10.mean()))
    k = len(scores)
    s10 = np.cov(np.vstack(of_positives)).reshape(k, k) if m > 1 else np.zeros((k, k))
    s01 = np.cov(np.vstack(of_negatives)).reshape(k, k) if n > 1 else np.zeros((k, k))
    return values, (s10 / m + s01 / n).tolist()
