"""Journals of releases as ReleaseJournal objects: the store of an engine that runs on a cluster.

An append is one write that holds for one version of one object: the API server does all of it or nothing, so there is
no torn record, and nobody writes over what he has not seen. Two things are left to think of.

**Another leader.** A process that lost its lease does not know it. So whoever opens a model's journal writes its own
name into the chain's last object before it reads: from then on every append of the one before conflicts, and what it
had written until then is read. A full object is closed by such a write too, before the next one is created, so the
one before cannot go on beside it either. Who meets another name raises `OvertakenError`.

**An answer that was lost.** The append may have happened, or may happen yet. The object is read at once: what stands
there is not written again; where it does not stand there, or nobody answers, the append raises, and for this process
it has not happened: should it show up later, the next append replaces it, in one write, and until then it is not read.
A process that comes after finds it and takes it for what it is, a decision that nobody confirmed.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from serving.release.cluster import journal_parts, naming
from serving.release.cluster.api import ConflictError, KubernetesApi, Object
from serving.release.cluster.journal_chain import Chain, OvertakenError
from serving.release.cluster.journal_parts import Part, Waiting
from serving.release.cluster.kinds import RELEASE_JOURNAL
from serving.release.journal.store import Entry, Record
from windlass.errors import WindlassError

__all__ = ["ClusterStore", "OvertakenError"]


class ClusterStore:
    """A `Store` on an API server.

    The index of all journals is in memory and none of their records. Different models may be used by different
    threads at a time.

    Args:
        namespace: of the journals.
        writer: who writes, for people; None opens for reading alone, and disturbs nobody who writes.
        keep: so many finished releases of a model keep their journals, older ones are deleted when a new one starts;
            None keeps all.
    """

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        writer: str | None,
        *,
        keep: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = api
        self._namespace = namespace
        # of each opened store another: the one before may be this very process's
        self._writer = None if writer is None else f"{writer} {secrets.token_hex(4)}"
        self._keep = keep
        self._sleep = sleep
        self._lock = threading.Lock()
        self._openings = itertools.count(1)
        self._indexed = threading.Event()
        self._chains: dict[str, Chain] = {}
        self._queues: dict[str, dict[str, Waiting]] = {}

    def reload(self, model: str) -> None:
        """Forget what is known of a model's journals; whoever reads or writes them next opens them anew."""
        self._load(model)

    # --- the Store's methods

    def models(self) -> list[str]:
        self._look(None)
        released = [model for model, chain in list(self._chains.items()) if chain.places]
        return sorted({*released, *(model for model, queue in list(self._queues.items()) if queue)})

    def newest(self) -> dict[str, str]:
        """The name of each model's newest release, without opening a journal.

        Raises:
            UnreachableError, RejectedError.
        """
        self._look(None)
        return {model: max(chain.places).name for model, chain in list(self._chains.items()) if chain.places}

    def entries(self, model: str) -> list[Entry]:
        """See `Store`; opens the model's journal for writing.

        Raises:
            WindlassError: an object is missing between others.
            UnreachableError, RejectedError.
        """
        self._look(model)
        return sorted(self._opened(model).places)

    def records(self, entry: Entry) -> Iterator[Record]:
        """See `Store`; objects are fetched as the records are read.

        Raises:
            WindlassError: an object is missing.
            UnreachableError, RejectedError.
        """
        chain = self._opened(entry.model)
        for place, record in enumerate(journal_parts.records(chain.elements(entry))):
            if place == 0 and record["kind"] != "release":
                first = RELEASE_JOURNAL.named(self._namespace, Part(entry, min(chain.places[entry])).name)
                raise WindlassError(
                    f"the journal of release {entry.name!r} lacks its beginning, which stood before {first}: "
                    "put it back from a copy"
                )
            yield record

    def append(self, entry: Entry, record: Record) -> None:
        """See `Store`.

        Raises:
            OvertakenError: somebody else writes; nothing was added.
            UnreachableError: nobody answers, or only errors; for this process nothing was added.
            RejectedError: the API server does not take it.
        """
        if self._writer is None:
            raise WindlassError(f"the journal of {entry.name!r} was opened for reading; nothing was added")
        chain = self._opened(entry.model)
        first = entry not in chain.places
        for element in journal_parts.elements(record):
            chain.add(entry, element)
        if first and self._keep is not None:
            chain.prune(self._keep)

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        self._index()
        queue = self._queues.setdefault(model, {})
        waits = queue.get(name)
        content = journal_parts.waiting(model, name, document, at)
        if waits is not None:
            if waits.document == content["spec"]["queue"]["document"]:
                return
            content["spec"]["queue"]["at"] = waits.at
        try:
            made: Object | None = self._api.create(RELEASE_JOURNAL, self._namespace, content)
        except ConflictError:
            # what stands there waited under that name, or was never acknowledged
            operations = [{"op": "add", "path": "/spec", "value": content["spec"]}]
            made = self._api.patch(RELEASE_JOURNAL, self._namespace, content["metadata"]["name"], operations)
        if made is None:
            raise ConflictError(f"release {name!r} of {model!r} was taken out of the queue meanwhile")
        queue[name] = journal_parts.waiting_of(made)

    def queued(self, model: str) -> list[tuple[str, Record]]:
        self._look(model)
        waiting = sorted(self._queues.get(model, {}).values(), key=lambda each: (each.at, each.release))
        return [(each.release, json.loads(each.document)) for each in waiting]

    def dequeue(self, model: str, name: str) -> None:
        self._index()
        waiting = self._queues.get(model, {}).get(name)
        if waiting is not None:
            self._api.delete(RELEASE_JOURNAL, self._namespace, waiting.object_name, uid=waiting.uid)
            del self._queues[model][name]

    def close(self) -> None:
        """Nothing is held open."""

    # --- what there is

    def _look(self, model: str | None) -> None:
        """Know what there is; who only reads remembers nothing, since others write."""
        if self._writer is None:
            self._load(model)
        else:
            self._index()

    def _index(self) -> None:
        with self._lock:
            if not self._indexed.is_set():
                self._load(None)
                self._indexed.set()

    def _load(self, model: str | None) -> None:
        of_model = "" if model is None else f"{naming.MODEL_LABEL}={model}"
        queued = ",".join(filter(None, (of_model, journal_parts.QUEUED_LABEL)))
        listed = self._api.all(
            RELEASE_JOURNAL, self._namespace, labels=of_model, metadata_only=True, kept=journal_parts.named
        )
        waiting = self._api.all(RELEASE_JOURNAL, self._namespace, labels=queued, limit=50)
        for known in list(self._chains) if model is None else [model]:
            self._chains.pop(known, None)
        for known in list(self._queues) if model is None else [model]:
            self._queues.pop(known, None)
        for part in filter(None, map(journal_parts.part_of, listed.items)):
            self._chain(part.entry.model).know(part)
        for found in map(journal_parts.waiting_of, waiting.items):
            self._queues.setdefault(found.model, {})[found.release] = found

    def _chain(self, model: str) -> Chain:
        return self._chains.setdefault(model, Chain(self._api, self._namespace, sleep=self._sleep))

    def _opened(self, model: str) -> Chain:
        """The model's chain, with our name in its last object."""
        if self._writer is not None:
            self._index()
            chain = self._chain(model)
            chain.open(f"{self._writer} {next(self._openings)}")
            return chain
        if model not in self._chains:
            self._load(model)
        return self._chain(model)
