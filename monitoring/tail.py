"""Following files of JSON lines that other processes append to.

A reader that asks every few milliseconds must pay for what is new and nothing else: one `stat` a file, one
read of the bytes since the last time. A last line without its newline is still being written and is left for
the next poll. Offsets can be kept and handed back, so that a restart goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from windlass import prediction_log

T = TypeVar("T")


class LineTail:
    """The complete lines that appeared in the files of a folder since the last poll.

    Args:
        folder: may not exist yet.
        pattern: which of its files.
        offsets: what `offsets` gave before a restart; other files are read from their start.
    """

    def __init__(
        self, folder: Path, pattern: str = "*.jsonl", *, offsets: Mapping[str, int] | None = None
    ) -> None:
        self._folder = folder
        self._pattern = pattern
        self._offsets: dict[str, int] = dict(offsets or {})

    @property
    def offsets(self) -> dict[str, int]:
        """Bytes consumed of each file, by name: whole lines that a poll has returned."""
        return dict(self._offsets)

    def poll(self) -> list[bytes]:
        """Return the new complete lines, file by file in the order of their names, without blank ones."""
        lines: list[bytes] = []
        for path in sorted(self._folder.glob(self._pattern)):
            lines += self._poll_file(path)
        return lines

    def _poll_file(self, path: Path) -> list[bytes]:
        offset = self._offsets.get(path.name, 0)
        try:
            size = path.stat().st_size
            if size == offset:
                return []
            if size < offset:
                offset = 0  # the file was replaced by a shorter one: what it holds now was never read
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                data = _read(file.fileno(), size - offset)
        except FileNotFoundError:
            return []  # removed between the listing and the reading
        end = data.rfind(b"\n") + 1
        self._offsets[path.name] = offset + end
        return [line for line in data[:end].splitlines() if line]


def _read(descriptor: int, count: int) -> bytes:
    # one unbuffered read may return less than was asked for
    parts: list[bytes] = []
    while count > 0:
        part = os.read(descriptor, count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class RecordTail(Generic[T]):
    """Records parsed from the new lines of a folder; a line that is none is counted and passed over.

    Args:
        parse: turns one decoded line into a record; raises KeyError, TypeError or ValueError if it is none.
    """

    def __init__(
        self,
        folder: Path,
        pattern: str,
        parse: Callable[[Any], T],
        *,
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self._lines = LineTail(folder, pattern, offsets=offsets)
        self._parse = parse
        self.malformed = 0

    @property
    def offsets(self) -> dict[str, int]:
        """See `LineTail.offsets`."""
        return self._lines.offsets

    def poll(self) -> list[T]:
        """Return the records that appeared since the last poll."""
        records: list[T] = []
        for line in self._lines.poll():
            try:
                records += [self._parse(row) for row in prediction_log.rows(orjson.loads(line))]
            except (KeyError, TypeError, ValueError):
                self.malformed += 1
        return records
