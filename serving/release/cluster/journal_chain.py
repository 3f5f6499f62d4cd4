"""One model's journals as the chain of objects that they are: opened, read, added to.

See `store.py` for what must hold; `journal_parts.py` for what stands in an object.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import journal_parts
from serving.release.cluster.api import ONCE, PAUSES, ConflictError, KubernetesApi, Object
from serving.release.cluster.journal_parts import PART, Part
from serving.release.cluster.kinds import RELEASE_JOURNAL
from serving.release.journal.store import Entry
from windlass.errors import WindlassError

#: How often one append is tried while the API server answers, and the pause in seconds between two of them.
TRIES = 4
PAUSE_S = 0.1
#: How long the look after a lost answer waits for its own: who appends has waited once, and others wait for him.
LOOK_S = 3.0


class OvertakenError(ConflictError):
    """Another process writes this model's journal, or a person does: what this one remembers of it is old.

    It must not decide anything more from it: it ends, or, if it still has the lease, reads again.
    """


class Chain:
    """What this process knows of a model's objects, and what it does to them.

    Attributes:
        places: of the objects that hold an entry's records.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.places: dict[Entry, list[int]] = {}
        self._api = api
        self._looking = api.within(LOOK_S)
        self._namespace = namespace
        self._sleep = sleep
        #: The name under which it was opened; empty before.
        self._writer = ""
        #: The object that is added to, and its version: None where it is still to be created.
        self._tail: Part | None = None
        self._version: str | None = None
        #: Its acknowledged elements, and their characters.
        self._count = self._size = 0
        #: Digests of elements that were sent and not acknowledged; one of them may stand after those.
        self._doubts: set[bytes] = set()
        #: The tail's elements as they were found at the opening, until somebody reads or adds.
        self._fresh: list[str] | None = None

    def know(self, part: Part) -> None:
        """There is an object."""
        places = self.places.setdefault(part.entry, [])
        if part.place not in places:
            places.append(part.place)

    def open(self, writer: str) -> None:
        """Write a name into the last object, so that whoever opened it before can add nothing more.

        Args:
            writer: a name that nobody ever used; once it is open, another call does nothing.

        Raises:
            WindlassError: an object is missing between others.
            UnreachableError, RejectedError.
        """
        if self._writer:
            return
        places = self._all_places()
        if places:
            missing = sorted(set(range(places[0], places[-1])) - set(places))
            if missing:
                lost = Part(next(iter(self.places)), missing[0])
                raise WindlassError(
                    f"{self._named(lost)} is missing, and others stand before and after it: put it back from a copy, "
                    "or delete those before it too"
                )
            self._claim(writer, places[-1])
        self._writer = writer

    def elements(self, entry: Entry) -> Iterator[str]:
        """Elements of an entry's records as far as they were acknowledged to us, or, unopened, all.

        Raises:
            OvertakenError: they are no more than a beginning, since somebody else goes on.
            WindlassError: an object is missing.
            UnreachableError, RejectedError.
        """
        last = max(self._all_places(), default=0)
        for place in sorted(self.places.get(entry, ())):
            part = Part(entry, place)
            if part == self._tail and self._fresh is not None:
                fresh, self._fresh = self._fresh, None
                yield from fresh
                continue
            found = self._api.get(RELEASE_JOURNAL, self._namespace, part.name)
            if self._writer and place == last:
                yield from self._ours(part, found)[: self._count if part == self._tail else None]
            elif found is not None:
                yield from found["spec"].get("records") or ()
            else:
                raise WindlassError(
                    f"the journal of release {entry.name!r} lacks {self._named(part)}: put it back from a copy"
                )

    def add(self, entry: Entry, element: str) -> None:
        """Add one element to an entry's.

        Raises:
            OvertakenError, UnreachableError, RejectedError: for us it was not added.
        """
        problem: UnreachableError | None = None
        for tried in range(TRIES):
            if tried:
                self._sleep(PAUSE_S)
            # no second write before it is known what became of the first; it raises where nobody answers
            landed = self._landed() if self._doubts else None
            tail = self._tail
            if tail is None:
                tail = Part(entry, 1)
                self._go_on(tail)
            elif landed == element and tail.entry == entry:
                self._added(tail, element)
                return
            elif self._count and (tail.entry != entry or self._size + len(element) > PART):
                self._close_part(tail)
                tail, landed = Part(entry, tail.place + 1), None
                self._go_on(tail)
            tail = Part(entry, tail.place)
            before = set(self._doubts)
            self._doubts.add(_digest(element))
            try:
                self._version = self._write(tail, element, over=landed is not None)
            except RejectedError:
                self._doubts = before
                # a patch that does not fit what stands there is refused before its version is looked at
                self._landed()
                raise
            except UnreachableError as error:
                problem = error
                continue
            self._added(tail, element)
            return
        assert problem is not None  # noqa: S101 - the last try returned or was caught
        raise problem

    def prune(self, keep: int) -> None:
        """Delete the oldest journals; what cannot be deleted now is when the next release starts."""
        over = sorted(self.places)[:-1]
        old = set(over[: max(0, len(over) - keep)])
        for place in self._all_places():
            entry = next(entry for entry, places in self.places.items() if place in places)
            if entry not in old:
                return  # the chain has no gaps
            try:
                self._api.delete(RELEASE_JOURNAL, self._namespace, Part(entry, place).name)
            except WindlassError:
                return
            self._forget(entry, place)

    # --- how

    def _claim(self, writer: str, place: int) -> None:
        entry = next(entry for entry, places in self.places.items() if place in places)
        while True:
            part = Part(entry, place)
            # whatever version it has: what was added before is in the answer, what comes after conflicts
            found = self._api.patch(
                RELEASE_JOURNAL,
                self._namespace,
                part.name,
                [{"op": "add", "path": "/spec/writer", "value": writer}],
                pauses=PAUSES,
            )
            if found is None:
                # the one before is full: while there is none here, whoever filled it could create it
                try:
                    found = self._api.create(RELEASE_JOURNAL, self._namespace, part.content(writer, ()))
                except ConflictError:
                    continue
            part = journal_parts.part_of(found) or part
            entry = part.entry
            self.know(Part(entry, place))
            if not found["spec"].get("full"):
                break
            place += 1
        elements = list(found["spec"].get("records") or ())
        self._tail, self._version = part, _version(found)
        self._count, self._size, self._fresh = len(elements), sum(map(len, elements)), elements

    def _write(self, tail: Part, element: str, *, over: bool) -> str:
        """Send it, after the last acknowledged element or `over` what stands there; the object's new version."""
        if self._version is None:
            content = tail.content(self._writer, (element,))
            return _version(self._api.create(RELEASE_JOURNAL, self._namespace, content))
        operation = {"op": "replace", "path": f"/spec/records/{self._count}"}
        if not over:
            operation = {"op": "add", "path": "/spec/records/-"}
        operations: list[dict[str, Any]] = [{**operation, "value": element}]
        if self._count == 0:
            operations += tail.renaming()
        written = self._api.patch(
            RELEASE_JOURNAL,
            self._namespace,
            tail.name,
            operations,
            version=self._version,
            metadata_only=True,
        )
        if written is None:
            raise self._overtaken(tail, "it was deleted")
        return _version(written)

    def _landed(self) -> str | None:
        """The element in doubt that stands in the tail after all; None where none does."""
        tail = self._tail
        assert tail is not None  # noqa: S101 - something was sent to it
        found = self._looking.get(RELEASE_JOURNAL, self._namespace, tail.name, pauses=ONCE)
        if found is None and self._version is None:
            return None  # still to be created
        beyond = self._ours(tail, found)[self._count :]
        assert found is not None  # noqa: S101 - else it was not ours
        if len(beyond) > 1 or not set(map(_digest, beyond)) <= self._doubts:
            raise self._overtaken(tail, "it holds records that this process did not write")
        self._tail, self._version = journal_parts.part_of(found) or tail, _version(found)
        return beyond[0] if beyond else None

    def _close_part(self, tail: Part) -> None:
        """Pack the tail and have it closed, so that nobody who opened it before us can go on after it."""
        problem: ConflictError | None = None
        for tried in range(TRIES):
            if tried:
                self._sleep(PAUSE_S)
            found = self._api.get(RELEASE_JOURNAL, self._namespace, tail.name, pauses=ONCE)
            elements = self._ours(tail, found)
            assert found is not None  # noqa: S101 - else it was not ours
            self._size = PART  # whatever becomes of it, nothing more fits in
            if found["spec"].get("full"):
                return
            records = [journal_parts.packed(elements[: self._count])]
            operations: list[dict[str, Any]] = [
                {"op": "replace", "path": "/spec/records", "value": records},
                {"op": "add", "path": "/spec/full", "value": True},
            ]
            try:
                self._api.patch(
                    RELEASE_JOURNAL,
                    self._namespace,
                    tail.name,
                    operations,
                    version=_version(found),
                    metadata_only=True,
                )
                return
            except ConflictError as error:
                problem = error
        assert problem is not None  # noqa: S101 - the last try returned or was caught
        raise problem

    def _ours(self, tail: Part, found: Object | None) -> list[str]:
        """Elements of an object that we opened."""
        if found is None:
            raise self._overtaken(tail, "it was deleted")
        spec = found["spec"]
        if spec.get("writer") != self._writer:
            raise self._overtaken(tail, f"{spec.get('writer') or 'somebody'} writes it")
        elements = list(spec.get("records") or ())
        if len(elements) < self._count and not spec.get("full"):
            raise self._overtaken(tail, "it lost records")
        return elements

    def _go_on(self, tail: Part) -> None:
        """To an object that is still to be created."""
        self._tail, self._version, self._count, self._size = tail, None, 0, 0
        self._doubts, self._fresh = set(), None

    def _added(self, tail: Part, element: str) -> None:
        """An element is acknowledged, and no other that was sent can come any more."""
        for entry in [entry for entry, places in self.places.items() if tail.place in places]:
            if entry != tail.entry:  # it was opened for another release, and nothing was added
                self._forget(entry, tail.place)
        self.know(tail)
        self._tail = tail
        self._count, self._size = self._count + 1, self._size + len(element)
        self._doubts, self._fresh = set(), None

    def _all_places(self) -> list[int]:
        return sorted(itertools.chain.from_iterable(self.places.values()))

    def _forget(self, entry: Entry, place: int) -> None:
        self.places[entry].remove(place)
        if not self.places[entry]:
            del self.places[entry]

    def _overtaken(self, tail: Part, why: str) -> OvertakenError:
        return OvertakenError(
            f"{self._named(tail)}: {why}; this process must not decide from what it remembers of "
            f"{tail.entry.model!r}: end it, and let the leader go on"
        )

    def _named(self, part: Part) -> str:
        return RELEASE_JOURNAL.named(self._namespace, part.name)


def _digest(element: str) -> bytes:
    return hashlib.sha256(element.encode()).digest()


def _version(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])
