"""A column that arrives in parts: what is added to in place until its profile is taken.

`merge` of two profiles says the same and copies; this is the one that a hundred million rows go through. Cells are
added into one array, values are put aside unsorted until there are too many, and labels are counted by their position
in the batch's dictionary.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches import categories, distribution, moments
from monitoring.sketches.categories import Categories, Label
from monitoring.sketches.distribution import Cells, Counts, Distribution, Values
from monitoring.sketches.grid import BLOCK, Grid
from monitoring.sketches.limits import Limits
from monitoring.sketches.moments import Moments
from monitoring.sketches.profile import ColumnProfile, shaped

Floats = NDArray[np.float64]
LATTICE = 1 << 16
"""Whole numbers that span at most this many are counted by position, without sorting them."""


class Accumulator(Protocol):
    """A column of which more may come."""

    def add(self, part: Any) -> None:
        """Take the rows of a pyarrow array of the column."""

    def profile(self) -> ColumnProfile:
        """What was taken so far. More may be added afterwards."""


class NumericColumn:
    """A column of numbers (or booleans)."""

    def __init__(self, name: str, grid: Grid, limits: Limits) -> None:
        self._name, self._grid, self._limits = name, grid, limits
        self._rows = self._nulls = self._infinite = 0
        self._moments = Moments()
        self._integer = True
        self._aside: list[Floats] | None = []
        self._counts: Counts | None = None
        self._cells = np.zeros(0, dtype=np.int64)
        # cells that may hold something: from the first, before the second
        self._lowest, self._highest = 0, 0

    def add(self, part: Any) -> None:
        import pyarrow as pa

        self._rows += len(part)
        self._integer &= pa.types.is_integer(part.type)
        if part.null_count:
            self._nulls += part.null_count
            part = part.drop_null()
        if pa.types.is_boolean(part.type):
            part = part.cast(pa.uint8())
        values = part.to_numpy(zero_copy_only=False)
        for start in range(0, len(values), BLOCK):
            # a copy also of doubles: a block in the cache, and what is put aside must not hold the batch
            self._add_block(values[start : start + BLOCK].astype(np.float64))

    def _add_block(self, block: Floats) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            whole = bool(np.isfinite(np.add.reduce(block)))
        if not whole:
            missing = np.isnan(block)
            finite = block[np.isfinite(block)]
            nulls = int(np.count_nonzero(missing))
            self._nulls += nulls
            self._infinite += len(block) - len(finite) - nulls
            block = finite
        if not len(block):
            return
        self._moments = moments.merge(self._moments, Moments.of(block))
        if self._aside is not None:
            self._aside.append(block)
            if self._moments.n > self._limits.values:
                values = np.sort(np.concatenate(self._aside))
                self._aside = None
                self._take(shaped(values, self._limits, self._grid))
        elif self._counts is not None:
            joined = distribution.add_counts(self._counts, count_values(block))
            self._counts = None
            within = len(joined.values) <= self._limits.distinct
            self._take(joined if within else distribution.in_cells(joined, self._grid))
        else:
            self._count(self._grid.cells(block))

    def _take(self, kept: Distribution) -> None:
        if isinstance(kept, Counts):
            self._counts = kept
        elif isinstance(kept, Cells):
            self._cells = np.zeros(self._grid.size, dtype=np.int64)
            self._lowest, self._highest = kept.first, kept.first + len(kept.counts)
            self._cells[self._lowest : self._highest] += kept.counts

    def _count(self, found: NDArray[np.int64]) -> None:
        low = int(found.min())
        found -= low
        counts = np.bincount(found)
        self._cells[low : low + len(counts)] += counts
        self._lowest, self._highest = min(self._lowest, low), max(self._highest, low + len(counts))

    def profile(self) -> ColumnProfile:
        content: Distribution
        if self._aside is not None:
            values = np.concatenate(self._aside) if self._aside else np.empty(0)
            self._aside = [values]
            values.sort()  # in place: a second copy of all columns is what does not fit
            content = Values(values)
        elif self._counts is not None:
            content = self._counts
        else:
            content = Cells(self._grid, self._lowest, self._cells[self._lowest : self._highest].copy())
        return ColumnProfile(
            name=self._name,
            rows=self._rows,
            nulls=self._nulls,
            infinite=self._infinite,
            moments=self._moments,
            content=content,
            grid=self._grid,
            limits=self._limits,
            integer=self._integer and self._rows > 0,
        )


class CategoricalColumn:
    """A column of labels: texts, or numbers that stand for something."""

    def __init__(self, name: str, known: frozenset[Label], limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._rows = self._nulls = self._infinite = 0
        self._counts = Categories({}, None, known)

    def add(self, part: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._rows += len(part)
        self._nulls += part.null_count
        if pa.types.is_dictionary(part.type):
            labels = part.dictionary.to_pylist()
            positions = part.indices.drop_null().to_numpy(zero_copy_only=False)
            counts = np.bincount(positions, minlength=len(labels)).tolist()
        else:
            counted = pc.value_counts(part.drop_null())
            labels, counts = counted.field(0).to_pylist(), counted.field(1).to_pylist()
        self._counts = categories.add(self._counts, self._labelled(labels, counts), self._limits)

    def _labelled(self, labels: list[Any], counts: list[int]) -> list[tuple[Label, int]]:
        found: list[tuple[Label, int]] = []
        for label, count in zip(labels, counts, strict=True):
            if not count:
                continue
            if isinstance(label, str):
                found.append((label, count))
            elif label is None or label != label:
                self._nulls += count
            elif label in (np.inf, -np.inf):
                self._infinite += count
            else:
                # 1, 1.0 and True are one label, as they are to pandas; so are both zeros
                found.append((float(label) + 0.0, count))
        return found

    def profile(self) -> ColumnProfile:
        return ColumnProfile(
            name=self._name,
            rows=self._rows,
            nulls=self._nulls,
            infinite=self._infinite,
            content=self._counts,
            limits=self._limits,
        )


def count_values(block: Floats) -> Counts:
    """The different values of a block of finite values and their counts."""
    low, high = float(block.min()), float(block.max())
    if high - low < LATTICE and abs(low) < 2**52:
        offsets = np.subtract(block, low)
        positions = offsets.astype(np.int64)
        if low.is_integer() and np.array_equal(positions, offsets):
            counts = np.bincount(positions)
            present = np.flatnonzero(counts)
            return Counts(present.astype(np.float64) + low, counts[present].astype(np.int64))
    values, counts = np.unique(block, return_counts=True)
    return Counts(values, counts.astype(np.int64))
