"""Where releases are written down: journals that only grow, and documents that wait for their turn.

The controller knows this interface; on disk it is one JSON line a record in
`journal/releases/<model>/<number>-<name>.jsonl` and a file for each queued release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from windlass import atomic, journal
from windlass.journal import Journal

Record = Mapping[str, Any]

_FILE = re.compile(r"(\d{4,})-(.+)\.jsonl")


@dataclass(frozen=True, order=True)
class Entry:
    """One release of a model; numbers rise in the order of their starts."""

    model: str
    number: int
    name: str


def entry_of(path: Path) -> Entry:
    """The release whose journal a file is; a file of another name is taken for its model's only one."""
    match = _FILE.fullmatch(path.name)
    return Entry(path.parent.name, int(match[1]) if match else 0, match[2] if match else path.stem)


class Store(Protocol):
    """Journals and queues of releases; every method may raise, and what it raised for has not happened."""

    def models(self) -> list[str]: ...

    def entries(self, model: str) -> list[Entry]:
        """The model's releases, oldest first; one whose first record was not completed may be among them."""
        ...

    def records(self, entry: Entry) -> Iterator[Record]: ...

    def append(self, entry: Entry, record: Record) -> None:
        """Add one record; it is durable when this returns."""
        ...

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        """Keep a document for later; another one of a name that waits already takes its place in the line."""
        ...

    def queued(self, model: str) -> list[tuple[str, Record]]:
        """Names and documents that wait, the longest first."""
        ...

    def dequeue(self, model: str, name: str) -> None: ...

    def close(self) -> None: ...


class DiskStore:
    """A folder, `settings.journal_dir / "releases"`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open: dict[Entry, Journal] = {}

    def models(self) -> list[str]:
        if not self.directory.is_dir():
            return []
        return sorted(path.name for path in self.directory.glob("*") if path.is_dir())

    def entries(self, model: str) -> list[Entry]:
        found = []
        for path in (self.directory / model).glob("*.jsonl"):
            if _FILE.fullmatch(path.name):
                found.append(entry_of(path))
        return sorted(found)

    def path(self, entry: Entry) -> Path:
        return self.directory / entry.model / f"{entry.number:04d}-{entry.name}.jsonl"

    def records(self, entry: Entry) -> Iterator[Record]:
        return journal.read(self.path(entry))

    def append(self, entry: Entry, record: Record) -> None:
        if entry not in self._open:
            self._open[entry] = Journal(self.path(entry))
        self._open[entry].append(record)

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        path = self._waiting(model, name)
        if path is None:
            path = self.directory / model / "queue" / f"{at:%Y%m%dT%H%M%S.%f}-{name}.json"
        elif path.read_text() == json.dumps(document):
            return
        atomic.write_text(path, json.dumps(document))

    def queued(self, model: str) -> list[tuple[str, Record]]:
        paths = sorted((self.directory / model / "queue").glob("[!.]*.json"))
        return [(path.stem.partition("-")[2], json.loads(path.read_bytes())) for path in paths]

    def dequeue(self, model: str, name: str) -> None:
        path = self._waiting(model, name)
        if path is not None:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        for opened in self._open.values():
            opened.close()
        self._open.clear()

    def _waiting(self, model: str, name: str) -> Path | None:
        waiting = sorted((self.directory / model / "queue").glob("[!.]*.json"))
        return next((path for path in waiting if path.stem.partition("-")[2] == name), None)
