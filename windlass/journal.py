"""Append-only journals of JSON lines: written before an act, read again after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from windlass import atomic
from windlass.errors import WindlassError

BLOCK = 64 * 1024


class Journal:
    """One file, one JSON object a line; `append` returns once the line is on the disk.

    A torn last line (the process was killed while writing) is cut off when the journal is next opened for
    appending: it was never acknowledged.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        path.parent.mkdir(parents=True, exist_ok=True)
        # without a buffer: a line that could not be written must not be written later with the next one
        self._file = path.open("ab+", buffering=0)
        atomic.cut_torn_tail(self._file.fileno())
        if self._file.seek(0, os.SEEK_END) == 0 and durable:
            # a line is no safer than the name of its file
            atomic.sync_directory(path.parent)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record, keys in the given order.

        Raises:
            WindlassError: the line could not be written (for example a full disk).
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            said = "nothing was acknowledged"
            try:
                self._file.truncate(start)
            except OSError:
                said += ", and a torn line is cut off when it is next opened"
            raise WindlassError(
                f"cannot append to the journal {self.path}: {error.strerror}; {said}"
            ) from error

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal; a torn last line is left out, a missing file is empty."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def read_backwards(path: Path) -> Iterator[dict[str, Any]]:
    """As `read`, the newest record first: who looks for the last word need not read what was said before."""
    if not path.exists():
        return
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        begun, torn = b"", True
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            begun, *lines = (file.read(end - start) + begun).split(b"\n")
            if lines and torn:
                del lines[-1]  # what stands after the last line's end
                torn = False
            for line in reversed(lines):
                yield json.loads(line)
            end = start
        if begun and not torn:
            yield json.loads(begun)
