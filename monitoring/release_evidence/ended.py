"""Which units are over: eight bytes each, since an experiment may see more of them than memory holds by name."""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

#: hashes that are kept unsorted
MOST_NEW = 16_384


class Ended:
    """A set of names that only grows.

    It knows their 64-bit hashes, the same in every process: of ten million names one in three hundred thousand such
    sets takes one name for another.
    """

    def __init__(self) -> None:
        self._new: set[int] = set()
        #: sorted, each at least twice as long as the next one
        self._runs: list[np.ndarray[Any, Any]] = []
        self._views: list[memoryview] = []
        self._sorted = 0

    def __len__(self) -> int:
        return self._sorted + len(self._new)

    def __contains__(self, name: str) -> bool:
        found = _hash(name)
        if found in self._new:
            return True
        for view in self._views:
            place = bisect_left(view, found)
            if place < len(view) and view[place] == found:
                return True
        return False

    def add(self, name: str) -> None:
        """Add a name that is not there yet."""
        self._new.add(_hash(name))
        if len(self._new) >= MOST_NEW:
            self._sort()

    def _sort(self) -> None:
        import numpy as np

        self._sorted += len(self._new)
        run = np.sort(np.fromiter(self._new, dtype=np.uint64, count=len(self._new)))
        self._new = set()
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
        self._views = [found.data for found in self._runs]


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
