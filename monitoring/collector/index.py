"""What was seen before, by 128-bit keys, in sorted files that are mapped and not loaded.

A set of keys in memory would grow with the store. Here a commit adds one sorted run, runs of like sizes are merged (a
log-structured merge tree, O'Neil et al. 1996), and a lookup is a binary search in each: memory holds one batch and
one merge of at most `LARGEST` rows, whatever the horizon. A key is BLAKE2b of 16 bytes: among 10^9 of them the odds of
any two alike are 10^-21.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.collector.manifest import Run
from windlass import atomic

Array = NDArray[Any]
Rows = dict[str, Array]
KEY = (("hi", "u8"), ("lo", "u8"))
#: values beside the key. `day` counts from 1970, `model` is a number of the manifest's list, times are epoch seconds.
COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "seen": (("model", "i4"), ("day", "i4")),
    "predicted": (("model", "i4"), ("day", "i4"), ("at", "f8")),
    "labelled": (
        ("day", "i4"), ("label", "f8"), ("reward", "f8"), ("per", "f8"), ("covariate", "f8"), ("at", "f8"),
        ("received", "f8"),
    ),
}  # fmt: skip
#: a merge makes no run of more rows than this
LARGEST = 8_000_000


def keys(texts: Iterable[str]) -> Rows:
    """The keys of texts, as columns `hi` and `lo`."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    both = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
    return {"hi": both[:, 0].copy(), "lo": both[:, 1].copy()}


def run_path(name: str, generation: int) -> str:
    """A path that no run had before, here or where another machine wrote to the same store."""
    return f"index/{name}/g{generation:09d}-{secrets.token_hex(6)}.run"


def first_of_each(rows: Rows) -> NDArray[np.bool_]:
    """True for the first row of each key, in the order given."""
    order = np.lexsort((np.arange(len(rows["hi"])), rows["lo"], rows["hi"]))
    hi, lo = rows["hi"][order], rows["lo"][order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    found = np.zeros(len(order), dtype=bool)
    found[order[new]] = True
    return found


def layout(name: str) -> tuple[tuple[str, str], ...]:
    """Columns of an index with their types, the key first."""
    return KEY + COLUMNS[name]


def write(name: str, path: Path, rows: Rows) -> int:
    """Write rows as a sorted run, durably; return their number."""
    order = np.lexsort((rows["lo"], rows["hi"]))
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        for column, kind in layout(name):
            file.write(np.ascontiguousarray(rows[column][order].astype(f"<{kind}", copy=False)).data)
    return len(order)


def mapped(name: str, path: Path, rows: int) -> Rows:
    """The columns of a run, mapped from its file."""
    found, offset = {}, 0
    for column, kind in layout(name):
        dtype = np.dtype(f"<{kind}")
        found[column] = np.memmap(path, dtype, "r", offset, (rows,)) if rows else np.empty(0, dtype)
        offset += dtype.itemsize * rows
    return found


def joined(parts: Sequence[Rows], name: str) -> Rows:
    """Rows below each other."""
    return {
        column: np.concatenate([part[column] for part in parts]) if parts else np.empty(0, f"<{kind}")
        for column, kind in layout(name)
    }


class Index:
    """The runs of one index.

    Args:
        folder: the collector's folder on this machine.
        fresh: rows of the batch that is being worked on, which no run holds yet; looked at last.
    """

    def __init__(self, name: str, folder: Path, runs: Iterable[Run]) -> None:
        self.name = name
        self._folder = folder
        self._runs = [run for run in runs if run.index == name]
        self._maps: dict[str, Rows] = {}

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(self._runs)

    def find(self, wanted: Mapping[str, Array]) -> tuple[NDArray[np.intp], Rows]:
        """Every row whose key is wanted.

        Returns:
            The position in `wanted` of each row found, and the rows; a key may have several.
        """
        positions: list[Array] = []
        rows: list[Rows] = []
        for run in self._runs:
            columns = self._map(run)
            hi, lo = columns["hi"], columns["lo"]
            queries = np.arange(len(wanted["hi"]))
            at = np.searchsorted(hi, wanted["hi"])
            while len(queries):
                inside = at < run.rows
                queries, at = queries[inside], at[inside]
                same = hi[at] == wanted["hi"][queries]
                queries, at = queries[same], at[same]
                hit = lo[at] == wanted["lo"][queries]
                if hit.any():
                    positions.append(queries[hit])
                    rows.append({c: np.asarray(values[at[hit]]) for c, values in columns.items()})
                at = at + 1
        none = np.empty(0, dtype=np.intp)
        return (np.concatenate(positions) if positions else none), joined(rows, self.name)

    def has(self, wanted: Mapping[str, Array]) -> NDArray[np.bool_]:
        """Whether each wanted key has a row."""
        found = np.zeros(len(wanted["hi"]), dtype=bool)
        found[self.find(wanted)[0]] = True
        return found

    def add(self, rows: Rows, path: str, keep: Callable[[Rows], NDArray[np.bool_]]) -> list[str]:
        """Add rows as a run at `path`, merged with those of like size; return the paths of runs it replaces.

        Args:
            keep: rows that a merge keeps; the others are past their horizon.
        """
        if not len(rows["hi"]):
            return []
        gone: list[str] = []
        parts, size = [rows], len(rows["hi"])
        while self._runs and self._runs[-1].rows <= 2 * size and size + self._runs[-1].rows <= LARGEST:
            last = self._runs.pop()
            columns = self._map(last)
            parts.append({c: values[keep(columns)] for c, values in columns.items()})
            size += len(parts[-1]["hi"])
            gone.append(last.path)
        merged = joined(parts, self.name)
        self._runs.append(
            Run(self.name, path, write(self.name, self._folder / path, merged)),
        )
        return gone

    def _map(self, run: Run) -> Rows:
        if run.path not in self._maps:
            self._maps[run.path] = mapped(self.name, self._folder / run.path, run.rows)
        return self._maps[run.path]
