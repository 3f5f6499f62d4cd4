"""The write-ahead journal: what is acknowledged lies here, fsynced, until it lies in the store.

Numbered segments of frames; a frame is what one fsync made durable: a line with its length and CRC-32, then JSON lines,
one an event. A request's events share a frame, so that they are kept together or not at all. A process appends to
segments of its own only: a torn frame, left by one that was killed, is the last of its segment and was never
acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from windlass import atomic
from windlass.errors import WindlassError

SEGMENT_BYTES = 16 * 1024 * 1024
SUFFIX = ".wal"
HEADER = b"%08x %08x\n"
HEADER_BYTES = 18


class StorageError(WindlassError):
    """The disk did not take it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a segment holds.

    Attributes:
        lines: of the whole frames, in order.
        torn: bytes behind them that are no whole frame.
        damaged: those bytes cannot be explained by a process that was killed while it wrote: more follows.
    """

    lines: list[bytes]
    torn: int = 0
    damaged: bool = False


def frame(payload: bytes) -> bytes:
    """The bytes of a frame."""
    return HEADER % (len(payload), zlib.crc32(payload)) + payload


def content(data: bytes) -> Content:
    """Read the frames of a segment up to the first that is not whole."""
    lines: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + HEADER_BYTES
        try:
            length, crc = int(data[at : at + 8], 16), int(data[at + 9 : at + 17], 16)
        except ValueError:
            return Content(lines, len(data) - at, damaged=len(data) - at >= HEADER_BYTES)
        payload = data[begin : begin + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            return Content(lines, len(data) - at, damaged=begin + length < len(data))
        lines += payload.splitlines()
        at = begin + length
    return Content(lines)


def path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:012d}{SUFFIX}"


def numbers(folder: Path) -> list[int]:
    """The segments that there are."""
    return sorted(int(p.stem) for p in folder.glob(f"*{SUFFIX}") if p.stem.isdigit())


def size(folder: Path) -> int:
    """Bytes of all segments."""
    total = 0
    for found in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # consolidated meanwhile
            total += found.stat().st_size
    return total


class Wal:
    """The appending end; one process has it.

    Args:
        first: number of the first segment to write, larger than any that was written or consolidated before.
    """

    def __init__(self, folder: Path, first: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        atomic.make_directory(folder)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._size = 0
        #: the segment that is written to; those below it are closed
        self.active = first

    def append(self, payload: bytes) -> None:
        """Write a frame and fsync it, all or nothing.

        Raises:
            StorageError: the disk did not take it; nothing of it will be read.
        """
        data = frame(payload)
        try:
            if self._file is None:
                self._file = self._open()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            self._take_back()
            raise StorageError(
                f"cannot append to the journal {path(self._folder, self.active)}: {error.strerror}; nothing of this "
                "request was kept; free some space, then send it again"
            ) from error
        self._size += len(data)
        if self._size >= self._segment_bytes:
            self.roll()

    def roll(self) -> None:
        """Close the active segment, so that it may be consolidated; an empty one stays."""
        if self._size == 0:
            return
        self._release()
        self.active += 1

    def close(self) -> None:
        self._release()

    def _open(self) -> int:
        target = path(self._folder, self.active)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC
        file = os.open(target, flags, 0o600)
        try:
            atomic.sync_directory(self._folder)
        except OSError:
            os.close(file)
            raise
        return file

    def _take_back(self) -> None:
        """Make sure that no part of a frame that failed is followed by another one."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        except OSError:
            # what a failed fsync left behind is unknown: another segment goes on, this one ends in a torn frame
            self._release()
            self.active += 1
        else:
            if self._size:
                self.roll()  # a limit on the size of one file must not keep the next one from being written

    def _release(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what was acknowledged was fsynced before
                os.close(self._file)
        self._file, self._size = None, 0
