"""The prediction log: a JSON line for each scored row, written beside the request path.

A line is encoded after its response went out and waits in memory; a thread of its own writes what has
gathered every few milliseconds. The queue is bounded: where the disk cannot follow, lines are dropped and
counted, and no request ever waits. Rows of a batch are told apart by their ids: `<request id>/<row>`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from windlass.errors import WindlassError

FLUSH_S = 0.020
CLOSE_S = 5.0
COMPLAINTS_APART_S = 60.0
MOST_BYTES = 16 * 1024 * 1024
ONE_WRITE = 1024 * 1024


@dataclass
class Counts:
    """Lines taken, written and dropped; each field has one writing thread."""

    taken: int = 0
    taken_bytes: int = 0
    written: int = 0
    settled_bytes: int = 0
    refused: int = 0
    failed: int = 0

    @property
    def dropped(self) -> int:
        return self.refused + self.failed

    @property
    def queued_bytes(self) -> int:
        return self.taken_bytes - self.settled_bytes


class PredictionLog:
    """Appends records to a file; several processes may append to the same.

    Raises:
        WindlassError: the file cannot be opened for appending.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, flush_s: float = FLUSH_S) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._flush_s = flush_s
        self._queue: deque[bytes] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._complained = -COMPLAINTS_APART_S
        self.counts = Counts()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._cut_torn_tail()
        except OSError as error:
            text = f"cannot write the prediction log {path}: {error.strerror}; give another --log"
            raise WindlassError(text) from error
        self._thread = threading.Thread(target=self._write_until_stopped, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, record: Mapping[str, Any]) -> bool:
        """Take one record; False where the queue is full and the record is dropped. Never blocks."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        counts = self.counts
        if counts.queued_bytes + len(line) > self._most_bytes:
            counts.refused += 1
            return False
        counts.taken += 1
        counts.taken_bytes += len(line)
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def close(self) -> None:
        """Write what is queued and close the file; records appended later are lost."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            # a file that takes no more must not keep the process from its end
            sys.stderr.write(
                f"prediction log {self._path}: {self.counts.queued_bytes} bytes could not be written\n"
            )
        else:
            os.close(self._file)

    def _write_until_stopped(self) -> None:
        while True:
            self._wake.wait()
            # lines that come while we wait are written together; on close nothing more comes
            self._stopping.wait(self._flush_s)
            stopping = self._stopping.is_set()
            # cleared before the queue is emptied: a line appended meanwhile sets it again
            self._wake.clear()
            self._write_queued()
            if stopping:
                return

    def _write_queued(self) -> None:
        while self._queue:
            lines, size = [], 0
            while self._queue and size < ONE_WRITE:
                lines.append(self._queue.popleft())
                size += len(lines[-1])
            try:
                self._write(b"".join(lines))
                self.counts.written += len(lines)
            except OSError as error:
                self.counts.failed += len(lines)
                self._complain(error)
            self.counts.settled_bytes += size

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAINTS_APART_S:
            self._complained = now
            text = f"prediction log {self._path}: {error.strerror}; dropping and counting its records"
            sys.stderr.write(f"{text}\n")

    def _write(self, data: bytes) -> None:
        """Append all of `data` or, as far as nobody else appended meanwhile, none of it."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:] if done else data)
        except OSError:
            if done:
                # a full disk takes a part: a reader must not find half a line before the next whole one
                os.ftruncate(self._file, os.fstat(self._file).st_size - done)
            raise

    def _cut_torn_tail(self) -> None:
        """Remove a last line without its end, left by a process that was killed while it wrote."""
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            start = max(0, end - 65536)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
