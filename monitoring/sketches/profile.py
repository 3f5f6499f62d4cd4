"""A column as it was read: counts, moments and its distribution, mergeable with another part of the same column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches import categories, distribution, moments
from monitoring.sketches.categories import Categories, Label
from monitoring.sketches.distribution import EMPTY, Cells, Distribution, Values
from monitoring.sketches.grid import QUANTILES, Grid
from monitoring.sketches.limits import LIMITS, Limits
from monitoring.sketches.moments import Moments
from windlass.errors import WindlassError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColumnProfile:
    """What is known of one column.

    Attributes:
        rows: rows read, with or without a value.
        nulls: rows without a value; NaN is none.
        infinite: rows with an infinite value; they take no part in the distribution.
        moments: of the finite values; of a categorical column without any.
        content: the distribution of a numeric column, the counts of a categorical one.
        grid: the cells that a numeric column falls into when it grows too large.
        integer: whether the column held whole numbers by type, in every part.
    """

    name: str
    rows: int = 0
    nulls: int = 0
    infinite: int = 0
    moments: Moments = field(default_factory=Moments)
    content: Distribution | Categories = EMPTY
    grid: Grid = field(default_factory=Grid)
    limits: Limits = LIMITS
    integer: bool = False

    @property
    def categorical(self) -> bool:
        return isinstance(self.content, Categories)

    @property
    def n(self) -> int:
        """Values that take part in the distribution."""
        return self.rows - self.nulls - self.infinite

    @property
    def null_share(self) -> float:
        """Share of rows without a finite value; NaN where there is no row."""
        return (self.nulls + self.infinite) / self.rows if self.rows else math.nan

    @property
    def exact(self) -> bool:
        """Whether every statistic of this column alone is exact."""
        if isinstance(self.content, Categories):
            return self.content.buckets is None
        return not isinstance(self.content, Cells)

    @property
    def distribution(self) -> Distribution:
        """The distribution of a numeric column.

        Raises:
            WindlassError: the column is categorical.
        """
        if isinstance(self.content, Categories):
            raise WindlassError(f"column {self.name!r} is categorical; it has counts and no distribution")
        return self.content


Profile = dict[str, ColumnProfile]
"""Columns by name."""


def of_values(
    name: str, values: Floats, *, grid: Grid | None = None, limits: Limits = LIMITS, integer: bool = False
) -> ColumnProfile:
    """The profile of a numeric column in memory; NaN is missing."""
    missing = np.isnan(values)
    finite = np.sort(values[np.isfinite(values)])
    return ColumnProfile(
        name=name,
        rows=len(values),
        nulls=int(missing.sum()),
        infinite=len(values) - len(finite) - int(missing.sum()),
        moments=Moments.of(finite),
        content=shaped(finite, limits, grid or Grid()),
        grid=grid or Grid(),
        limits=limits,
        integer=integer,
    )


def shaped(ordered: Floats, limits: Limits, grid: Grid) -> Distribution:
    """The distribution of ascending values in the form that its size asks for."""
    if len(ordered) <= limits.values:
        return Values(ordered)
    counts = distribution.counted(Values(ordered))
    return counts if len(counts.values) <= limits.distinct else distribution.in_cells(Values(ordered), grid)


def of_labels(
    name: str,
    counts: Mapping[Label, int],
    *,
    nulls: int = 0,
    known: frozenset[Label] = frozenset(),
    limits: Limits = LIMITS,
) -> ColumnProfile:
    """The profile of a categorical column whose labels were counted elsewhere."""
    content = categories.bounded(Categories(dict(counts), None, known), limits)
    return ColumnProfile(name, content.n + nulls, nulls, content=content, limits=limits)


def grid_for(reference: ColumnProfile) -> Grid:
    """The grid on which a column is to be counted that will be compared with `reference`."""
    kept = reference.distribution
    if isinstance(kept, Cells):
        return kept.grid
    if isinstance(kept, Values):
        return Grid.of(kept.values)
    ranks = np.linspace(1, kept.n, QUANTILES + 1)
    return Grid.of_quantiles(kept.values[np.searchsorted(np.cumsum(kept.counts), ranks.astype(np.int64))])


def merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """The profile of both parts together; of integers the same in any order and grouping.

    Raises:
        WindlassError: the parts were profiled in different ways and cannot be added.
    """
    content: Distribution | Categories
    if (a.name, a.grid, a.limits, a.categorical) != (b.name, b.grid, b.limits, b.categorical):
        raise WindlassError(
            f"profiles of {a.name!r} and {b.name!r} differ in column, kind, grid or limits; "
            "profile both parts against the same reference and with the same limits"
        )
    if isinstance(a.content, Categories) and isinstance(b.content, Categories):
        if a.content.known != b.content.known:
            raise WindlassError(
                f"parts of column {a.name!r} know different labels; profile both against the same reference"
            )
        content = categories.merge(a.content, b.content, a.limits)
    else:
        content = distribution.merge(a.distribution, b.distribution, a.limits, a.grid)
    return ColumnProfile(
        name=a.name,
        rows=a.rows + b.rows,
        nulls=a.nulls + b.nulls,
        infinite=a.infinite + b.infinite,
        moments=moments.merge(a.moments, b.moments),
        content=content,
        grid=a.grid,
        limits=a.limits,
        # a part without rows has no type of its own
        integer=(a.integer or not a.rows) and (b.integer or not b.rows),
    )


def quantile(column: ColumnProfile, q: float) -> tuple[float, float]:
    """The ends between which the q-quantile lies, equal where the column is exact.

    The quantile is the smallest value with at least a share q of the values at or below it, numpy's "inverted_cdf";
    of a column without values it is NaN.
    """
    kept = column.distribution
    n = kept.n
    if n == 0:
        return (math.nan, math.nan)
    rank = min(max(math.ceil(q * n), 1), n)
    if isinstance(kept, Values):
        value = float(kept.values[rank - 1])
        return (value, value)
    at = int(np.searchsorted(np.cumsum(kept.counts), rank))
    if isinstance(kept, distribution.Counts):
        return (float(kept.values[at]), float(kept.values[at]))
    low, high = kept.grid.ends()[kept.first + at : kept.first + at + 2]
    return (max(float(low), column.moments.minimum), min(float(high), column.moments.maximum))
