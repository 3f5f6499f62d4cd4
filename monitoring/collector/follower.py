"""The logs that local model servers and `windlass feedback` write to disk, brought into the journal.

How far a file was read goes into the same frame as its lines: after a crash both are there, or neither is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from monitoring import labels
from monitoring.collector import cloudevents
from monitoring.collector.intake import AHEAD_S, Intake
from windlass.errors import UsageError, WindlassError

CHUNK_BYTES = 1024 * 1024
PREDICTIONS, FEEDBACK = "predictions", "feedback"
#: inode and bytes read
Offset = list[int]


def unread(path: Path, offset: Offset | None) -> tuple[bytes, Offset] | None:
    """The next complete lines of a file, and the offset behind them; None where there are none.

    A file of another inode, or one that is shorter than what was read of it, is another file: it is read from its
    start, and what was in the store before is known there by its keys.
    """
    try:
        with path.open("rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            inode, at = offset or [found.st_ino, 0]
            if inode != found.st_ino or at > found.st_size:
                at = 0
            if at == found.st_size:
                return None
            size = CHUNK_BYTES
            while True:
                data = os.pread(file.fileno(), size, at)
                end = data.rfind(b"\n") + 1
                if end or len(data) < size:
                    break
                size *= 2  # a line longer than a chunk
    except FileNotFoundError:
        return None
    return (data[:end], [found.st_ino, at + end]) if end else None


class Follower:
    """Reads what is new of the logs and hands it to the journal.

    Args:
        predictions: folder of the model servers' logs, None to leave them alone.
        append: makes bytes durable in the journal.
        offsets: from the store and from what the journal holds beyond it.
        refuse: told how many lines are none of the kind, and stay out.
        count: told the number of entries of a type that were taken.
        settled: returns once what is being written to the feedback log is in it.

    Attributes:
        complete: labels that were acknowledged by then are in the journal, epoch seconds; 0 before that is known.
    """

    def __init__(
        self,
        predictions: Path | None,
        feedback: Path,
        intake: Intake,
        append: Callable[[bytes], Awaitable[None]],
        *,
        offsets: Mapping[str, Mapping[str, Any]],
        now: Callable[[], float],
        refuse: Callable[[int], None],
        count: Callable[[str, int], None],
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.complete = 0.0
        self._settled = settled
        self._predictions = predictions
        self._feedback = feedback
        self._intake = intake
        self._append = append
        self._offsets: dict[str, dict[str, Offset]] = {
            name: {file: list(offset) for file, offset in offsets.get(name, {}).items()}
            for name in (PREDICTIONS, FEEDBACK)
        }
        self._now = now
        self._refuse = refuse
        self._count = count

    async def poll(self) -> bool:
        """Take one chunk of each file that has more; whether any had.

        Raises:
            WindlassError, OSError: a file cannot be read, the journal did not take it, or a workload cannot be loaded;
                it is read again then. The other files were read all the same.
        """
        begun = self._now()
        if self._settled is not None:
            await self._settled()
        found, whole = False, False
        failure: Exception | None = None
        for kind, path in self._files():
            try:
                new = unread(path, self._offsets[kind].get(path.name))
                if new is not None:
                    await self._take(kind, path.name, *new)
                    found = True
                # a prediction comes when it is read; of labels a chunk is full, or it was the rest
                whole = kind == FEEDBACK and (new is None or len(new[0]) < CHUNK_BYTES // 2)
            except (WindlassError, OSError) as error:
                # a file that waits for its workload keeps no other one from being read
                failure = failure or error
        if whole:
            self.complete = begun
        if failure is not None:
            raise failure
        return found

    async def _take(self, kind: str, name: str, data: bytes, offset: Offset) -> None:
        taken, count, bad = self._lines(kind, data)
        await self._append(taken + lines([{"type": "offsets", "of": kind, "files": {name: offset}}]))
        self._offsets[kind][name] = offset
        self._refuse(bad)
        self._count("label" if kind == FEEDBACK else "prediction", count)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._predictions.glob("*.jsonl")) if self._predictions is not None else ():
            yield PREDICTIONS, path
        yield FEEDBACK, self._feedback

    def _lines(self, kind: str, data: bytes) -> tuple[bytes, int, int]:
        """What of a file's lines goes into the journal, how many entries that are, and how many lines are none."""
        taken: list[bytes] = []
        count = bad = 0
        received = self._now()
        for line in data.splitlines():
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
                if kind == FEEDBACK:
                    entries = [_label(labels.parse(record), received)]
                else:
                    entries = list(self._intake.prediction(record, received))
                taken.append(lines(entries))
                count += len(entries)
            except (KeyError, TypeError, ValueError):
                bad += 1
            except WindlassError as error:
                if error.exit_code != 2:
                    raise
                bad += 1
        return b"".join(taken), count, bad


def _label(label: labels.Label, now: float) -> dict[str, Any]:
    cloudevents.text(label.request_id, "request_id")
    received = now if label.received is None or not 0 <= label.received <= now + AHEAD_S else label.received
    # it was acknowledged with whatever time it states; one that cannot be is the time it came
    at = label.at if 0 <= label.at <= now + AHEAD_S else received
    return {"type": "label", **labels.plain(label), "at": at, "received": received}


def lines(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """Entries as the lines of a frame.

    Raises:
        UsageError: one is nested deeper than JSON is written here.
    """
    made = bytearray()
    try:
        for entry in entries:
            # one at a time: each is made in some kilobytes, which the heap does not get back while others follow
            made += orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        return bytes(made)
    except orjson.JSONEncodeError as error:
        raise UsageError(f"it cannot be kept as JSON ({error}); send flatter values") from None
