"""One model's part of the store, and whoever is to hear what is written there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime

from serving.release.journal.store import Entry, Record, Store
from windlass.errors import WindlassError

LOG = logging.getLogger(__name__)


class Journalled:
    """A store that knows one model alone, as that model's controller needs it.

    Args:
        told: called with each record once it is durable; what it raises is logged.
    """

    def __init__(self, store: Store, model: str, told: Callable[[Entry, Record], None]) -> None:
        self._store = store
        self._model = model
        self._told = told

    def models(self) -> list[str]:
        return [self._model]

    def entries(self, model: str) -> list[Entry]:
        return self._store.entries(model)

    def records(self, entry: Entry) -> Iterator[Record]:
        return self._store.records(entry)

    def append(self, entry: Entry, record: Record) -> None:
        self._store.append(entry, record)
        try:
            self._told(entry, record)
        except WindlassError as error:
            # it is written: whoever believed that it is not would decide it once more
            LOG.warning(
                "release %s of model %s: nobody was told of a record: %s", entry.name, entry.model, error
            )

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        self._store.enqueue(model, name, document, at)

    def queued(self, model: str) -> list[tuple[str, Record]]:
        return self._store.queued(model)

    def dequeue(self, model: str, name: str) -> None:
        self._store.dequeue(model, name)

    def close(self) -> None:
        self._store.close()
