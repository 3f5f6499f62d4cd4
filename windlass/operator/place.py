"""One namespace: everything that the releases of its models share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from serving.release.backend import RejectedError
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.readiness import Readiness
from serving.release.cluster.servers import Servers
from serving.release.cluster.store import ClusterStore
from serving.release.collector.client import Collector
from serving.release.decision import Decision
from serving.release.journal import history
from serving.release.journal.store import Entry, Record
from serving.release.people.exporter import Exporter
from serving.release.prometheus.client import Prometheus
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass.clock import Clock
from windlass.errors import UsageError
from windlass.operator import status
from windlass.operator.backends import Backends
from windlass.operator.champions import Champions
from windlass.operator.fenced_api import FencedApi
from windlass.operator.metrics import Metrics
from windlass.operator.settings import Settings
from windlass.operator.telling import Teller

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waits:
    """Why a release cannot begin yet; `wrong` where waiting alone will not help."""

    reason: str
    wrong: bool


class Journals:
    """The store of a namespace, for as long as it may be believed."""

    def __init__(self, opened: Callable[[], ClusterStore]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._store: ClusterStore | None = None

    @property
    def store(self) -> ClusterStore:
        with self._lock:
            if self._store is None:
                self._store = self._opened()
            return self._store

    def forget(self) -> None:
        with self._lock:
            self._store = None


@dataclass(frozen=True)
class Place:
    """One namespace and the doors to what it has.

    Attributes:
        prometheus: None where there is none.
        collector: None where there is none.
        told_blindly: by uid, the command that a router took although no journal could be read, and what came of it.
    """

    namespace: str
    settings: Settings
    api: FencedApi
    clock: Clock
    journals: Journals
    servers: Servers
    backends: Backends
    champions: Champions
    teller: Teller
    exporter: Exporter
    metrics: Metrics
    prometheus: Prometheus | None
    collector: Collector | None = None
    told_blindly: dict[str, tuple[str, str]] = field(default_factory=dict, compare=False)

    @property
    def store(self) -> ClusterStore:
        return self.journals.store

    def waits(
        self, release: Release, versions: Sequence[str], *, made_for: str | None = None
    ) -> Waits | None:
        """Start the servers of `versions`; None once all answer, else what is waited for.

        KServe's own ways have one InferenceService for all versions, which the backend changes.

        Args:
            made_for: what an object whose release has not begun is called on servers of its candidates that are made
                here (`Seen.mark`).

        Raises:
            UsageError: a version cannot have servers by its name.
            UnreachableError: nobody can be asked.
        """

        def made(model: str, version: str) -> Readiness:
            of = made_for if version in release.candidates else None
            return self.servers.ensure(model, version, made_for=of)

        return self._waits(release, versions, made)

    def keeps(self, release: Release, versions: Sequence[str]) -> Waits | None:
        """The same as `waits` for a live release, of whose servers those that answer are left as they were made.

        Raises:
            UsageError, UnreachableError.
        """
        return self._waits(release, versions, self.servers.keep)

    def answers(self, release: Release, version: str) -> Waits | None:
        """None once the servers of `version` answer as they stand, else what is waited for; see `waits`.

        Raises:
            UsageError, UnreachableError.
        """
        return self._waits(release, (version,), self.servers.standing)

    def _waits(
        self, release: Release, versions: Sequence[str], made: Callable[[str, str], Readiness]
    ) -> Waits | None:
        if release.backend != "gateway":
            return None
        found: list[Waits] = []
        # all of them at once: they start side by side
        for version in dict.fromkeys(versions):
            try:
                readiness = made(release.model, version)
            except RejectedError as error:
                found.append(Waits(f"version {version}: {error}", True))
                continue
            if not readiness.ready:
                found.append(Waits(f"version {version}: {readiness.reason}", readiness.ready is False))
        if not found:
            return None
        return Waits("; ".join(each.reason for each in found), any(each.wrong for each in found))

    def retire_losers(self, state: ReleaseState, needed: Collection[str]) -> None:
        """Take servers away that nobody needs once a release is over: what it gave the traffic to stays, and the
        champion that was before, so that going back is one change.

        Args:
            needed: versions of other releases that have not ended.

        Raises:
            UnreachableError: it is to be tried again.
        """
        release = state.release
        if release.backend != "gateway":
            return
        keep = {version for version, weight in state.weights.items() if weight} | {state.champion, *needed}
        # of what was before this release an earlier end has decided, unless a new champion takes its place
        gone = self.servers.known(release.model) if state.phase == "Promoted" else release.candidates
        self.retire(release, [version for version in gone if version not in keep])

    def retire(self, release: Release, versions: Iterable[str]) -> None:
        """Take the servers of versions away, as far as Kubernetes lets us.

        Raises:
            UnreachableError: it is to be tried again.
        """
        self._retire(release, versions, self.servers.retire)

    def retire_made(self, release: Release, versions: Iterable[str], mark: str) -> None:
        """The same for those alone that were made for the release of `mark`, or for another that never began either.

        Raises:
            UnreachableError: it is to be tried again.
        """

        def unbegun(made_for: str) -> bool:
            return made_for == mark or self.state(release.model, made_for.rpartition("/")[0]) is None

        self._retire(
            release, versions, lambda model, version: self.servers.retire_made(model, version, unbegun)
        )

    def _retire(self, release: Release, versions: Iterable[str], retire: Callable[[str, str], None]) -> None:
        if release.backend != "gateway":
            return
        for version in versions:
            try:
                retire(release.model, version)
            except (RejectedError, UsageError) as error:
                self.log(
                    f"release {self.namespace}/{release.name}: version {version} keeps its servers: {error}"
                )

    def records(self, release: Release) -> list[Record]:
        """The journal of a release that has begun.

        Raises:
            UnreachableError, RejectedError.
        """
        entry = self._entry(release.model, release.name)
        return [] if entry is None else list(self.store.records(entry))

    def state(self, model: str, name: str) -> ReleaseState | None:
        """Where a release got to, as its journal has it; None where it has not begun, or its journal is gone.

        Raises:
            UnreachableError, RejectedError.
        """
        entry = self._entry(model, name)
        found = None if entry is None else history.of_records(entry, self.store.records(entry))
        return None if found is None else found.state

    def newest_decision(self, state: ReleaseState) -> Decision | None:
        """The newest decision as the journal has it, for a status that a crash kept from being written."""
        found = next((r for r in reversed(self.records(state.release)) if r["kind"] == "decision"), None)
        if found is None:
            return None
        return Decision(
            found["action"],
            found["reason"],
            datetime.fromisoformat(found["at"]),
            state,
            found.get("check"),
            status.verdicts(found["verdicts"]),
        )

    def forget(self) -> None:
        """Believe and show no longer what is known of journals and statuses: another leader may have written them."""
        self.journals.forget()
        self.told_blindly.clear()
        self.teller.forget_all()
        self.exporter.forget()

    def gone(self, model: str, name: str) -> bool:
        """Whether there is no Release of that model and name, whatever was heard of it.

        Raises:
            UnreachableError, RejectedError.
        """
        live = self.api.get(RELEASE, self.namespace, name)
        return live is None or live["spec"].get("model") != model

    def log(self, line: str) -> None:
        LOG.warning("%s", line)

    def _entry(self, model: str, name: str) -> Entry | None:
        entries = self.store.entries(model)
        return next((entry for entry in reversed(entries) if entry.name == name), None)
