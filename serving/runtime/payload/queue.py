"""A bounded queue and the thread that empties it: whatever a payload log is written to, no request waits for it.

Records are encoded into JSON lines when they are taken: the bound is one of bytes, and nothing of a request
stays alive behind it. The thread joins what has gathered for a while and hands it to a writer; where the writer
cannot follow, records are dropped and counted. What is written, and where to, is the writer's affair.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol

import orjson

from windlass import prediction_log

FLUSH_S = 0.020
FLUSH_BYTES = 1024 * 1024
CLOSE_S = 5.0
COMPLAINTS_APART_S = 60.0
MOST_BYTES = 16 * 1024 * 1024
OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


@dataclass
class Counts:
    """Records taken, written and dropped; each field has one writing thread.

    Attributes:
        refused: dropped before they were queued: the queue was full or closed, or a record is no JSON.
        failed: dropped after they were queued: the writer did not get rid of them.
    """

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


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the lines handed to a writer.

    Attributes:
        records: how many of them arrived; the rest is dropped.
        problem: why any did not.
    """

    records: int
    problem: str | None = None


class Writer(Protocol):
    """Where lines go; its methods are called by the queue's thread alone."""

    @property
    def name(self) -> str:
        """What it writes to, for messages."""

    def write(self, lines: bytes, give_up: threading.Event) -> Written:
        """Write complete lines; may block, but not long once `give_up` is set."""

    def close(self) -> None:
        """Release what it holds."""


def json_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Encode records as JSON lines; NaN and infinities become null, rows of numpy arrays become lists.

    Raises:
        TypeError: a record holds what JSON does not.
    """
    if len(records) == 1:
        return orjson.dumps(records[0], None, OPTIONS)
    return b"".join(map(orjson.dumps, records, repeat(None), repeat(OPTIONS)))


class RecordQueue:
    """A payload log: records go in from one thread, and leave through a writer in another.

    Args:
        encode: what makes lines of records, each ended by a newline.
        most_bytes: lines in memory at most; a batch being written is held a second time.
        flush_s: how long lines gather before they are written, unless there are `flush_bytes` of them.
        flush_bytes: about how much is written at once.
        close_s: how long `close` waits for what is queued.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        encode: Callable[[Sequence[Mapping[str, Any]]], bytes] = json_lines,
        most_bytes: int = MOST_BYTES,
        flush_s: float = FLUSH_S,
        flush_bytes: int = FLUSH_BYTES,
        close_s: float = CLOSE_S,
    ) -> None:
        self._writer = writer
        self._encode = encode
        self._most_bytes = most_bytes
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._close_s = close_s
        self._queue: deque[bytes] = deque()
        self._full = False
        self._closing = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._give_up = threading.Event()
        self._refused_told = 0
        self._complained = -COMPLAINTS_APART_S
        self.counts = Counts()
        self._thread = threading.Thread(target=self._write_until_closed, name="payload-log", daemon=True)
        self._thread.start()

    def append(self, record: Mapping[str, Any]) -> bool:
        """Take one record; False where it is dropped. Never blocks."""
        return self.append_many((record,))

    def append_many(self, records: Sequence[Mapping[str, Any]]) -> bool:
        """Take records together, for less than one by one; False where any is dropped. Never blocks.

        Where they do not fit all of them are dropped. A feature vector may be a list or a row of a numpy matrix.
        """
        counts = self.counts
        if self._full:  # until the writer has got on, a record is not even encoded
            counts.refused += len(records)
            return False
        try:
            lines = self._encode(records)
        except TypeError:
            if len(records) == 1:
                counts.refused += 1
            else:  # a record that is no JSON must not cost the others theirs
                for record in records:
                    self.append_many((record,))
            return False
        return self._take(lines, len(records))

    def append_lines(self, lines: bytes, count: int) -> bool:
        """Take `count` records that are JSON lines already; False where they are dropped. Never blocks."""
        if self._encode is not json_lines:  # this log's lines are others
            return self.append_many(
                [row for line in lines.splitlines() for row in prediction_log.rows(orjson.loads(line))]
            )
        if self._full:
            self.counts.refused += count
            return False
        return self._take(lines, count)

    def _take(self, lines: bytes, count: int) -> bool:
        counts = self.counts
        queued = counts.taken_bytes - counts.settled_bytes + len(lines)
        if queued > self._most_bytes:
            counts.refused += count
            self._full = queued > len(lines)  # a record too large for an empty queue says nothing of the next
            # the thread may have emptied the queue meanwhile: it must come by again to take the mark off
            self._hurry.set()
            self._wake.set()
            return False
        counts.taken += count
        counts.taken_bytes += len(lines)
        self._queue.append(lines)
        if not self._wake.is_set():
            self._wake.set()
        if queued >= self._flush_bytes:
            self._hurry.set()
        return True

    def close(self) -> None:
        """Write what is queued, for a bounded time; records appended later are dropped and counted."""
        self._most_bytes = -1
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(self._close_s)
        if self._thread.is_alive():
            # a place that takes no more must not keep the process from its end
            self._give_up.set()
            text = f"{self.counts.queued_bytes} bytes could not be written"
            sys.stderr.write(f"prediction log {self._writer.name}: {text}\n")

    def _write_until_closed(self) -> None:
        while True:
            self._wake.wait()
            self._hurry.wait(self._flush_s)
            # cleared before anything is looked at: what is appended, refused or closed meanwhile sets them again
            self._wake.clear()
            self._hurry.clear()
            self._full = False
            closing = self._closing
            self._write_batch()
            while self._queue and (closing or self.counts.queued_bytes >= self._flush_bytes):
                self._write_batch()
            if closing:
                self._writer.close()
                return
            if self._queue:
                self._wake.set()

    def _write_batch(self) -> None:
        batch, size = [], 0
        while self._queue and size < self._flush_bytes:
            batch.append(self._queue.popleft())
            size += len(batch[-1])
        if batch:
            lines = b"".join(batch)
            records = lines.count(b"\n")
            written = self._write(lines)
            self.counts.written += written.records
            self.counts.failed += records - written.records
            self.counts.settled_bytes += size
            self._full = False
            if written.problem is not None:
                self._complain(written.problem)
        if self.counts.refused > self._refused_told and self._complain(
            "records come faster than they are taken"
        ):
            self._refused_told = self.counts.refused

    def _write(self, lines: bytes) -> Written:
        if self._give_up.is_set():
            return Written(0, "closed before all was written")
        try:
            return self._writer.write(lines, self._give_up)
        except Exception as error:  # whatever it is, it costs these records and not the log
            return Written(0, f"{type(error).__name__}: {error}")

    def _complain(self, problem: str) -> bool:
        now = time.monotonic()
        if now - self._complained < COMPLAINTS_APART_S:
            return False
        self._complained = now
        text = f"{problem}; dropping and counting its records ({self.counts.dropped} so far)"
        sys.stderr.write(f"prediction log {self._writer.name}: {text}\n")
        return True
