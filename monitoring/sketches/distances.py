"""How far a column has moved from its reference: one number, and what it lies between.

The distances carry Evidently's names and definitions, so that a threshold means the same wherever it was computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from monitoring import drift_statistics
from monitoring.sketches import binned, categories, distribution, shares, steps
from monitoring.sketches.categories import Categories
from monitoring.sketches.distribution import Cells
from monitoring.sketches.profile import ColumnProfile
from monitoring.sketches.shares import Sample
from monitoring.sketches.steps import Bounded, Steps
from windlass.errors import UsageError, WindlassError

Method = Literal[
    "wasserstein",  # first Wasserstein distance in standard deviations of the reference; numeric
    "ks",  # the statistic of scipy.stats.ks_2samp; numeric
    "jensenshannon",  # natural logarithm; numeric in Evidently's bins
    "psi",  # population stability index, Evidently's bins and share of an empty one
    "tvd",  # total variation; categorical
    "chisquare",  # p-value of the reference's shares; categorical
    "mean",  # shift of the mean in standard deviations of the reference; numeric
    "deviation",  # standard deviation over the reference's; numeric
    "nulls",  # change of the share of rows without a finite value
]
NUMERIC: frozenset[Method] = frozenset({"wasserstein", "ks", "mean", "deviation"})
CATEGORICAL: frozenset[Method] = frozenset({"tvd", "chisquare"})


@dataclass(frozen=True)
class Distance:
    """A column against its reference.

    Attributes:
        value: the distance, or the estimate of it that straight lines within the cells give; None where either
            side has no value, or values so far apart that no double holds it.
        lower, upper: what the true distance lies between, whatever the values within the cells are.
        exact: the value is the distance itself, to rounding.
    """

    value: float | None
    lower: float | None
    upper: float | None
    method: Method
    exact: bool


def default_method(reference: ColumnProfile, current: ColumnProfile) -> Method:
    """The distance that Evidently chooses for a reference of more than 1000 rows."""
    if isinstance(reference.content, Categories) or isinstance(current.content, Categories):
        return "jensenshannon"
    if isinstance(reference.content, Cells) or isinstance(current.content, Cells):
        return "wasserstein"
    return drift_statistics.method(reference.content.values, current.content.values, categorical=False)


def compare(
    reference: ColumnProfile,
    current: ColumnProfile,
    method: Method | None = None,
    *,
    norm: float | None = None,
) -> Distance:
    """The distance of a column from its reference.

    Args:
        method: default: Evidently's choice, see `default_method`.
        norm: standard deviation of the reference, if it is to be another than that of its values.

    Raises:
        UsageError: no such method, or one that the kind of column does not have.
        WindlassError: one is numeric and the other categorical, or they were counted on different grids.
    """
    if reference.categorical != current.categorical:
        raise WindlassError(
            f"column {current.name!r} is categorical on one side and numeric on the other; "
            "profile the window with reference="
        )
    method = method or default_method(reference, current)
    if method not in get_args(Method):
        raise UsageError(f"no distance {method!r}; there are: {', '.join(get_args(Method))}")
    if method in (NUMERIC if reference.categorical else CATEGORICAL):
        kind = "categorical" if reference.categorical else "numeric"
        raise UsageError(f"column {current.name!r} is {kind} and has no distance {method!r}")
    if method == "nulls":
        return _nulls(reference, current)
    if not reference.n or not current.n:
        return Distance(None, None, None, method, exact=False)
    with np.errstate(over="ignore", invalid="ignore"):
        found = _measure(reference, current, method, norm)
    if not all(map(math.isfinite, (found.value, found.lower, found.upper))):
        return Distance(None, None, None, method, exact=False)
    return Distance(found.value, found.lower, found.upper, method, found.lower == found.upper)


def _measure(reference: ColumnProfile, current: ColumnProfile, method: Method, norm: float | None) -> Bounded:
    if isinstance(reference.content, Categories) and isinstance(current.content, Categories):
        found = categories.paired(reference.content, current.content)
        p = Sample.exactly(reference.n, found.reference, found.reference_buckets)
        q = Sample.exactly(current.n, found.current, found.current_buckets)
        if method == "tvd":
            return shares.total_variation(p, q)
        if method == "chisquare":
            return shares.chi_square(p, q)
        return shares.psi(p, q) if method == "psi" else shares.jensen_shannon(p, q)
    if method in ("psi", "jensenshannon"):
        p, q = binned.samples(reference, current)
        return shares.psi(p, q) if method == "psi" else shares.jensen_shannon(p, q)
    norm = max(reference.moments.deviation if norm is None else norm, drift_statistics.SMALLEST_NORM)
    if method == "mean":
        return Bounded.exactly((current.moments.mean - reference.moments.mean) / norm)
    if method == "deviation":
        return Bounded.exactly(current.moments.deviation / norm)
    found_steps = _steps(reference, current)
    if method == "ks":
        return found_steps.kolmogorov_smirnov
    area = found_steps.area
    return Bounded(area.value / norm, area.lower / norm, area.upper / norm)


def _steps(reference: ColumnProfile, current: ColumnProfile) -> Steps:
    p, q = reference.distribution, current.distribution
    if not isinstance(p, Cells) and not isinstance(q, Cells):
        return steps.exact(p, q)
    grid = q.grid if isinstance(q, Cells) else reference.grid
    if isinstance(p, Cells) and p.grid != grid:
        raise WindlassError(
            f"column {current.name!r} and its reference were counted on different grids; "
            "profile the window with reference="
        )
    return steps.in_cells(
        distribution.in_cells(p, grid),
        distribution.in_cells(q, grid),
        (reference.moments.minimum, reference.moments.maximum),
        (current.moments.minimum, current.moments.maximum),
    )


def _nulls(reference: ColumnProfile, current: ColumnProfile) -> Distance:
    change = current.null_share - reference.null_share
    value = None if math.isnan(change) else change
    return Distance(value, value, value, "nulls", exact=value is not None)
