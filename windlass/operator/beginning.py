"""Beginning the next release of a model, and what is said to those that wait or can never begin."""

from __future__ import annotations

from dataclasses import replace

from serving.release.backend import UnconfirmedError
from serving.release.cluster import naming
from serving.release.cluster.kinds import HTTP_ROUTE
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.release import Release
from windlass.errors import UsageError, WindlassError
from windlass.operator import able, wire
from windlass.operator.backends import Remembered
from windlass.operator.fenced_api import DeposedError
from windlass.operator.seen import REFUSED, Seen
from windlass.operator.status import View
from windlass.operator.work import Work

#: Seconds until servers that start are looked at again.
SERVERS_S = 2.0
_UNKNOWN = (
    "who answers the callers of {release.model} is not known: its route says what no release writes; have it send all "
    "of the traffic to the champion"
)


class Beginning:
    """Begins the releases of one model."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def next(self, controller: ReleaseController) -> float | None:
        """Begin the release whose turn it is; seconds until it is tried again, None where there is none."""
        for ordered in self._work.left():
            if ordered.command is not None and not ordered.deleting:
                # what a person wants of the traffic comes first, and would be of no release that is live then
                self._behind(ordered.name, f"waits for {ordered.command} of release {ordered.name}")
                return SERVERS_S
        queued = self._next_queued(controller)
        while queued is not None:
            seen = self._work.named(queued.name)
            if seen is not None and not seen.deleting and not seen.over:
                # what it asks for now: the document in the queue may be that of an object which is gone
                read = self._work.read(seen)
                if isinstance(read, Release):
                    return self._first(controller, seen, read, queued=True)
                self._refuse(seen, "InvalidSpec", str(read))
            elif seen is None and not self._work.place.gone(self._work.model, queued.name):
                return SERVERS_S  # after a start, other objects of the model may have been heard of first
            controller.drop_queued(queued)
            queued = self._next_queued(controller)
        for seen in self._work.left():
            if seen.deleting or seen.over:
                continue
            read = self._work.read(seen)
            if isinstance(read, UsageError):
                self._refuse(seen, "InvalidSpec", str(read))
                continue
            pause = self._first(controller, seen, read, queued=False)
            if pause is not None:
                return pause
        return None

    def _first(
        self, controller: ReleaseController, seen: Seen, release: Release, *, queued: bool
    ) -> float | None:
        """Begin it, and tell those behind it where it cannot begin yet."""
        message = f"waits for release {seen.name}, which has not begun"
        try:
            pause = self._begin(controller, seen, release, queued=queued)
        except (DeposedError, OvertakenError, UnconfirmedError):
            raise
        except WindlassError:
            if controller.live(self._work.model) is None:
                self._behind(seen.name, message)
            raise
        now = self._work.named(seen.name)
        if controller.live(self._work.model) is None and now is not None and not now.over:
            self._behind(seen.name, message)
        return pause

    def wait_for_the_end(self, controller: ReleaseController) -> None:
        """Tell those that come next where the end of the newest release is not in force yet."""
        newest = controller.newest(self._work.model)
        if newest is not None and not newest.live:
            name = newest.release.name
            self._behind(
                name, f"waits for release {name}, which is {newest.phase}, and that is not in force yet"
            )

    def _behind(self, first: str, message: str) -> None:
        """Tell those whose turn has not come what they wait for."""
        for seen in self._work.left():
            if seen.name == first or seen.deleting or seen.over or seen.command is not None:
                continue
            read = self._able(seen)
            if read is None:
                continue
            view = View(reason="WaitingForRelease", message=message, release=read)
            if seen.phase == "Queued":
                view = replace(view, phase="Queued", reason="Queued")
            self._work.show(seen, view)

    def _able(self, seen: Seen) -> Release | None:
        """The release that an object asks for; None where it can never begin, and is told so."""
        read, place = self._work.read(seen), self._work.place
        if isinstance(read, UsageError):
            self._refuse(seen, "InvalidSpec", str(read))
            return None
        reason = able.fault(read, place.settings, logs=place.backends.logs(read.model))
        if reason is not None:
            self._refuse(seen, "NotSupported", reason, read)
            return None
        return read

    def _next_queued(self, controller: ReleaseController) -> Release | None:
        """What waits longest; a document that today's rules refuse, which an older operator queued, is none."""
        place, model = self._work.place, self._work.model
        while True:
            try:
                return controller.next_queued(model)
            except UsageError as error:
                # the controller took away what has begun: the first that is left is the one that it could not read;
                # its object is read by today's rules, where there is one, and begins or is refused as any other
                name, _ = place.store.queued(model)[0]
                place.log(f"release {place.namespace}/{name} does not wait any longer: {error}")
                place.store.dequeue(model, name)

    def _begin(
        self, controller: ReleaseController, seen: Seen, release: Release, *, queued: bool
    ) -> float | None:
        place = self._work.place
        reason = able.fault(release, place.settings, logs=place.backends.logs(release.model))
        if reason is not None:
            return self._cannot(controller, seen, release, "NotSupported", reason, queued=queued)
        try:
            backend = place.backends.of(release)
            in_force = place.champions.of(self._work.model, backend)
            versions = self._answering(release, backend)
            if versions is None:
                message = _UNKNOWN.format(release=release)
                view = View(release=release, reason="TrafficUnknown", message=message, trouble=message)
                self._work.show(seen, replace(view, trouble_reason="TrafficUnknown"))
                return SERVERS_S
            wire.agree(release, in_force or release.champion, versions)
            place.champions.require(release.model, release.candidates)
            # before its servers are there: who deletes it would leave them to nobody
            held = place.teller.hold(seen)
            if held is None:
                return 0.0
            seen = held
            waits = self._waits(seen, release, in_force)
            if waits is not None:
                self._work.show(seen, waits)
                return SERVERS_S
            decision = self._start(controller, release, backend, in_force)
        except UsageError as error:
            return self._cannot(controller, seen, release, "Refused", str(error), queued=queued)
        except (DeposedError, OvertakenError, UnconfirmedError):
            raise
        except WindlassError as error:
            begun = controller.live(self._work.model)
            if begun is None:
                view = View(release=release, reason="CannotBegin", message=str(error), trouble=str(error))
                self._work.show(seen, replace(view, trouble_reason="CannotBegin"))
            else:
                # it is in the journal, and its first act is not in force: the next turn tries it again
                view = View(state=begun, trouble=str(error), trouble_reason="ActFailed", in_force=False)
                self._work.show(seen, view)
            raise
        self._work.last[release.name] = decision
        state = controller.live(self._work.model)
        if state is not None:
            self._work.show(seen, View(state=state, decision=decision, in_force=True))
        return 0.0

    def _answering(self, release: Release, backend: Remembered) -> frozenset[str] | None:
        """The versions that answer the model's callers, none where it has no route; None where that is not known."""
        place, model = self._work.place, self._work.model
        found = backend.traffic(model)
        route = None
        if found is not None and not found.weights and release.backend == "gateway":
            route = place.api.get(HTTP_ROUTE, place.namespace, naming.route(model))
        return wire.answering(found, route, model, place.namespace)

    def _start(
        self, controller: ReleaseController, release: Release, backend: Remembered, in_force: str | None
    ) -> Decision:
        """Begin it; a release that has not begun leaves the newest one its backend, which a rollback needs."""
        former = self._work.chosen.use(backend)
        try:
            # another champion than the stated one, or none at all, is refused there
            return controller.start(release, in_force)
        except BaseException:
            if former is not None and controller.live(self._work.model) is None:
                self._work.chosen.use(former)
            raise

    def _waits(self, seen: Seen, release: Release, in_force: str | None) -> View | None:
        """What is told while servers are waited for; None once all are there, or the release will be refused anyhow."""
        champion = release.champion or in_force
        if champion is None or in_force not in (None, champion) or champion in release.candidates:
            return None
        waits = self._work.place.waits(release, (champion, *release.candidates), made_for=seen.mark)
        if waits is None:
            return None
        view = View(release=release, reason="WaitingForServers", message=waits.reason)
        return replace(view, trouble=waits.reason, trouble_reason="ServersFail") if waits.wrong else view

    def _cannot(
        self,
        controller: ReleaseController,
        seen: Seen,
        release: Release,
        reason: str,
        message: str,
        *,
        queued: bool,
    ) -> float | None:
        if seen.held:
            self._work.retire_unused(seen, release, controller.newest(self._work.model))
        self._refuse(seen, reason, message, release)
        if queued:
            controller.drop_queued(release)
        return 0.0 if queued else None

    def _refuse(self, seen: Seen, reason: str, message: str, release: Release | None = None) -> None:
        """Say why a release can never start; that is its end."""
        self._work.place.teller.say(seen, reason, message)
        shown = self._work.show(seen, View(phase=REFUSED, reason=reason, message=message, release=release))
        self._work.place.teller.free(shown)

    def wait(self, controller: ReleaseController) -> bool:
        """Queue or refuse what comes while another release is live; whether any waits."""
        live, waits = controller.live(self._work.model), False
        if live is not None:
            self._drop_gone()
        for seen in self._work.left():
            if live is None or seen.name == live.release.name or seen.deleting or seen.over:
                continue
            read = self._able(seen)
            if read is None:
                continue
            waits = True
            if seen.phase == "Queued":
                continue
            try:
                controller.start(read)
            except UsageError as error:
                self._refuse(seen, "Conflict", str(error), read)
                continue
            message = f"waits for release {live.release.name} to end"
            self._work.show(seen, View(phase="Queued", reason="Queued", message=message, release=read))
        return waits

    def _drop_gone(self) -> None:
        """Take out of the queue whose object is gone: nothing holds one that waits, and its name may come again."""
        place, model = self._work.place, self._work.model
        for name, _ in place.store.queued(model):
            if self._work.named(name) is None and place.gone(model, name):
                place.store.dequeue(model, name)
