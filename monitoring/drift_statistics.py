"""The distances by which drift is judged, as Evidently defines them by default, without its cost.

Distances and not p-values: with tens of thousands of rows every test rejects every column, and an alarm that
always rings is none. Tests hold these values to Evidently's and scipy's own.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["wasserstein", "jensenshannon"]

SMALLEST_NORM = 0.001
"""Evidently's floor of the standard deviation by which a Wasserstein distance is divided."""
FEW_VALUES = 5
"""A numeric column with at most this many values in both samples together is compared like a category."""
BRIDGE_QUANTILE = 2.4
"""99 % quantile of the area under the absolute value of a Brownian bridge, in units of its mean."""


def method(reference: Floats, current: Floats, *, categorical: bool) -> Method:
    """Return the distance that Evidently chooses for a large reference; both samples sorted and finite."""
    if categorical:
        return "jensenshannon"
    # a full count of distinct values is not needed: a few jumps tell
    distinct = _first_distinct(reference) | _first_distinct(current)
    return "jensenshannon" if len(distinct) <= FEW_VALUES else "wasserstein"


def _first_distinct(ordered: Floats) -> set[float]:
    # walks from jump to jump, at most FEW_VALUES + 1 of them
    found: set[float] = set()
    position = 0
    while position < len(ordered) and len(found) <= FEW_VALUES:
        value = float(ordered[position])
        found.add(value)
        position = int(np.searchsorted(ordered, value, side="right"))
    return found


def normed_wasserstein(reference: Floats, current: Floats, norm: float | None = None) -> float:
    """First Wasserstein distance in standard deviations of the reference; both samples sorted and finite."""
    if norm is None:
        norm = float(np.std(reference))
    merged = np.concatenate((reference, current))
    merged.sort(kind="stable")  # two sorted runs: the stable sort only merges them
    widths = np.diff(merged)
    below_reference = np.searchsorted(reference, merged[:-1], side="right") / len(reference)
    below_current = np.searchsorted(current, merged[:-1], side="right") / len(current)
    return float(np.sum(np.abs(below_reference - below_current) * widths)) / max(norm, SMALLEST_NORM)


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """Jensen–Shannon distance (natural logarithm) of the shares of each value; both samples finite."""
    values, counts = np.unique(np.concatenate((reference, current)), return_inverse=True)
    split = len(reference)
    p = np.bincount(counts[:split], minlength=len(values)) / split
    q = np.bincount(counts[split:], minlength=len(values)) / len(current)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _relative_entropy(p: Floats, q: Floats) -> float:
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / q[present])))


def distance(which: Method, reference: Floats, current: Floats, norm: float | None = None) -> float:
    """The distance named; both samples sorted and finite, `norm` the reference's deviation if known."""
    if which == "wasserstein":
        return normed_wasserstein(reference, current, norm)
    return jensen_shannon(reference, current)


def noise(which: Method, reference: Floats, n: int, norm: float | None = None) -> float:
    """The distance that one of a hundred windows of `n` rows would exceed although nothing drifted.

    A small window is never at distance 0, and what does not stand out from this is not drift. Rows are taken as
    independent. Wasserstein: the empirical distribution wanders around the true one like a Brownian bridge, so
    the mean distance is an integral over the reference alone. Jensen-Shannon: a chi-square of the shares.
    """
    spread = 1.0 / n + 1.0 / len(reference)
    if which == "wasserstein":
        if norm is None:
            norm = float(np.std(reference))
        below = np.arange(1, len(reference)) / len(reference)
        width = float(np.sum(np.sqrt(below * (1.0 - below)) * np.diff(reference)))
        mean = math.sqrt(2.0 / math.pi * spread) * width / max(norm, SMALLEST_NORM)
        return BRIDGE_QUANTILE * mean
    freedom = max(len(np.unique(reference)) - 1, 1)
    return math.sqrt(_chi_square_99(freedom) * spread / 8.0)


def _chi_square_99(freedom: int) -> float:
    # Wilson and Hilferty's approximation
    step = 2.0 / (9.0 * freedom)
    return freedom * float((1.0 - step + 2.326 * math.sqrt(step)) ** 3)
