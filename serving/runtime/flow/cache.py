"""The prediction cache: the same inputs get the same answer for a while. Off unless a bundle asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.manifest import Cache


class PredictionCache:
    """Answers by the bytes of the inputs that the bundle names as keys.

    Two generations bound it: when the younger is full it becomes the older one, and what was there is forgotten.

    Args:
        names: of the model's inputs, in order.
        clock: seconds that never go back.
    """

    def __init__(
        self, settings: Cache, names: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_s = settings.ttl_seconds
        self._columns = [names.index(k) for k in settings.keys] if settings.keys else None
        self._generation = max(1, settings.entries // 2)
        self._clock = clock
        self._young: dict[bytes, tuple[float, Any]] = {}
        self._old: dict[bytes, tuple[float, Any]] = {}
        self.hits = 0
        self.misses = 0

    def keys(self, matrix: NDArray[np.float32]) -> list[bytes]:
        """The key of each row."""
        # zero has two signs and one meaning
        chosen = (matrix if self._columns is None else matrix[:, self._columns]) + np.float32(0.0)
        return [row.tobytes() for row in chosen]

    def get(self, keys: Sequence[bytes]) -> list[Any] | None:
        """The answers of rows, None where one of them is not there or too old."""
        oldest = self._clock() - self._ttl_s
        found = []
        for key in keys:
            entry = self._young.get(key) or self._old.get(key)
            if entry is None or entry[0] < oldest:
                self.misses += 1
                return None
            found.append(entry[1])
        self.hits += 1
        return found

    def put(self, keys: Sequence[bytes], answers: Sequence[Any]) -> None:
        """Keep the answers of rows."""
        now = self._clock()
        for key, answer in zip(keys, answers, strict=True):
            self._young[key] = (now, answer)
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
