"""Journals in memory that survive the process: what is appended is kept as text, as on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from serving.release.journal.mailbox import Order
from serving.release.journal.store import Entry, Record
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.leadership import Lease
from windlass.errors import WindlassError

Seen = Callable[[Entry, Record], None]


class Disk:
    """What outlives every process: journals, the queue and the mailbox.

    Attributes:
        full: nothing can be written.
        seen: told of each record once it is written.
    """

    def __init__(self) -> None:
        self.journals: dict[Entry, list[str]] = {}
        self.queues: dict[str, list[tuple[str, str]]] = {}
        self.letters: dict[int, Order] = {}
        self.sent = 0
        self.full = False
        self.seen: Seen = lambda entry, record: None

    def send(self, order: Order) -> int:
        """Put a person's order into the mailbox."""
        self.sent += 1
        self.letters[self.sent] = order
        return self.sent

    def write(self, entry: Entry, record: Record) -> None:
        # NaN has no place in a journal: other readers of JSON do not know it
        self.journals.setdefault(entry, []).append(json.dumps(record, allow_nan=False))
        self.seen(entry, record)

    def require_room(self) -> None:
        if self.full:
            raise WindlassError("the journal cannot be written: no space left; free some")


class MemoryStore:
    """The store of one process on a disk that others may use as well."""

    def __init__(self, disk: Disk, boundaries: Boundaries, lease: Lease) -> None:
        self._disk = disk
        self._boundaries = boundaries
        self._lease = lease

    def models(self) -> list[str]:
        return sorted({entry.model for entry in self._disk.journals})

    def entries(self, model: str) -> list[Entry]:
        return sorted(entry for entry in self._disk.journals if entry.model == model)

    def records(self, entry: Entry) -> Iterator[Record]:
        return map(json.loads, self._disk.journals.get(entry, ()))

    def append(self, entry: Entry, record: Record) -> None:
        def write() -> None:
            self._require()
            self._disk.write(entry, record)

        self._boundaries.cross(f"append {record['kind']}", write)

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        def write() -> None:
            self._require()
            queue = self._disk.queues.setdefault(model, [])
            if name in {known for known, _ in queue}:
                queue[:] = [(known, json.dumps(document) if known == name else text) for known, text in queue]
            else:
                queue.append((name, json.dumps(document)))

        self._boundaries.cross("enqueue", write)

    def queued(self, model: str) -> list[tuple[str, Record]]:
        return [(name, json.loads(text)) for name, text in self._disk.queues.get(model, ())]

    def dequeue(self, model: str, name: str) -> None:
        def write() -> None:
            self._require()
            queue = self._disk.queues.get(model, [])
            queue[:] = [(known, text) for known, text in queue if known != name]

        self._boundaries.cross("dequeue", write)

    def close(self) -> None:
        pass

    def _require(self) -> None:
        self._lease.require()
        self._disk.require_room()


class MemoryOrders:
    """The mailbox of commands as one process reads it."""

    def __init__(self, disk: Disk, boundaries: Boundaries, lease: Lease) -> None:
        self._disk = disk
        self._boundaries = boundaries
        self._lease = lease

    def waiting(self) -> list[tuple[Any, Order]]:
        return sorted(self._disk.letters.items())

    def done(self, token: int) -> None:
        def remove() -> None:
            self._lease.require()
            self._disk.letters.pop(token, None)

        self._boundaries.cross("order done", remove)
