"""What is kept of a numeric column: all its values, the counts of its values, or the counts of its cells.

Which of the three is a function of the values alone, not of the way they arrived: all values while there are few;
else counts while few of them differ; else cells. Numbers of values and of different values only grow when samples are
joined, so a join in any order and grouping comes to the same form and, being sums of integers, to the same counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches.grid import Grid
from monitoring.sketches.limits import Limits

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Values:
    """All finite values, ascending."""

    values: Floats

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Counts:
    """The different values, ascending, and how often each occurred."""

    values: Floats
    counts: Integers

    @property
    def n(self) -> int:
        return int(self.counts.sum())


@dataclass(frozen=True, eq=False)
class Cells:
    """Counts of the grid's cells from number `first` on; the outermost two are not empty."""

    grid: Grid
    first: int
    counts: Integers

    @property
    def n(self) -> int:
        return int(self.counts.sum())


Distribution = Values | Counts | Cells
EMPTY = Values(np.empty(0))


def counted(kept: Values | Counts) -> Counts:
    """The counts of an exact distribution's values."""
    if isinstance(kept, Counts):
        return kept
    values, counts = np.unique(kept.values, return_counts=True)
    return Counts(values, counts.astype(np.int64))


def in_cells(kept: Distribution, grid: Grid) -> Cells:
    """The distribution counted in the cells of `grid`; cells of another grid cannot be and are a ValueError."""
    if isinstance(kept, Cells):
        if kept.grid != grid:
            raise ValueError("cells of one grid cannot be counted in another's")
        return kept
    found = grid.cells(kept.values)  # ascending, like the values
    if not len(found):
        return Cells(grid, 0, np.zeros(0, dtype=np.int64))
    first = int(found[0])
    if isinstance(kept, Values):
        return Cells(grid, first, np.bincount(found - first).astype(np.int64))
    counts = np.zeros(int(found[-1]) - first + 1, dtype=np.int64)
    np.add.at(counts, found - first, kept.counts)
    return Cells(grid, first, counts)


def merge(a: Distribution, b: Distribution, limits: Limits, grid: Grid) -> Distribution:
    """The distribution of both samples together, in the form that its size asks for."""
    if not a.n or not b.n:
        return b if not a.n else a
    if isinstance(a, Values) and isinstance(b, Values) and a.n + b.n <= limits.values:
        return Values(np.sort(np.concatenate((a.values, b.values))))
    if not isinstance(a, Cells) and not isinstance(b, Cells):
        joined = add_counts(counted(a), counted(b))
        if len(joined.values) <= limits.distinct:
            return joined
    return add_cells(in_cells(a, grid), in_cells(b, grid))


def add_counts(a: Counts, b: Counts) -> Counts:
    """Counts of both samples together."""
    values, position = np.unique(np.concatenate((a.values, b.values)), return_inverse=True)
    counts = np.zeros(len(values), dtype=np.int64)
    np.add.at(counts, position, np.concatenate((a.counts, b.counts)))
    return Counts(values, counts)


def add_cells(a: Cells, b: Cells) -> Cells:
    """Cells of both samples together, on the same grid."""
    if not len(a.counts) or not len(b.counts):
        return b if not len(a.counts) else a
    first = min(a.first, b.first)
    last = max(a.first + len(a.counts), b.first + len(b.counts))
    counts = np.zeros(last - first, dtype=np.int64)
    for part in (a, b):
        counts[part.first - first : part.first - first + len(part.counts)] += part.counts
    return Cells(a.grid, first, counts)


def distinct(kept: Distribution) -> int:
    """How many different values there are; of cells, how many at least."""
    if isinstance(kept, Cells):
        return int(np.count_nonzero(kept.counts))
    if isinstance(kept, Counts):
        return len(kept.values)
    return int(np.count_nonzero(np.diff(kept.values))) + 1 if kept.n else 0
