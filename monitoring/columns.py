"""Columns that grow: what one version predicted, as numpy arrays that cost nothing to look at.

Tens of thousands of records are joined, sliced by time and measured again and again; one array a field makes
each of these a few microseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Column:
    """A growing array of floats, of rows of `width` floats if a width is given."""

    def __init__(self, width: int | None = None) -> None:
        self._tail: tuple[int, ...] = () if width is None else (width,)
        self._data: Floats = np.empty((64, *self._tail))
        self._size = 0

    def append(self, value: float | tuple[float, ...]) -> None:
        if self._size == len(self._data):
            grown = np.empty((2 * len(self._data), *self._tail))
            grown[: self._size] = self._data
            self._data = grown
        self._data[self._size] = value
        self._size += 1

    def __setitem__(self, row: int, value: float) -> None:
        self._data[row] = value

    def __getitem__(self, row: int) -> float:
        return float(self._data[row])

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> Floats:
        """A view of what was appended so far; copy it to keep it."""
        return self._data[: self._size]


class Arm:
    """What one version predicted, live or mirrored, in the order it was logged."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.request_ids: list[str] = []
        self.at = Column()
        self.score = Column()
        self.latency_ms = Column()
        self.label = Column()  # NaN until it is known
        self.label_at = Column()
        self.features = Column(width)

    def __len__(self) -> int:
        return len(self.request_ids)
