"""The releases of one model on a cluster: one turn after another, each as far as it gets without waiting for servers.

What is decided and carried out is the controller's (`serving.release.controller`); this is the platform's side, as
`windlass.local.releasing` is on one machine: which object is next, whether its servers answer, its evidence, and what
is told to it. A turn may break off anywhere: the next one, in this process or another, finds in the journal and on the
objects where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from serving.release import spec
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.journal.store import Entry, Record
from serving.release.people import events as journal_events
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass.errors import UsageError, WindlassError
from windlass.operator import able, orders
from windlass.operator.backends import Chosen
from windlass.operator.fenced_api import DeposedError
from windlass.operator.journalled import Journalled
from windlass.operator.place import Place
from windlass.operator.seen import REFUSED, Seen
from windlass.operator.status import View
from windlass.operator.watching import Watching

#: Seconds until servers that start are looked at again.
SERVERS_S = 2.0


class ModelReleases:
    """The releases of one model in one namespace.

    Args:
        objects: the model's Release objects as they were last seen, the oldest first.
    """

    def __init__(self, place: Place, model: str, objects: Callable[[], Sequence[Seen]]) -> None:
        self._place = place
        self._model = model
        self._objects = objects
        self._chosen = Chosen()
        self._controller: ReleaseController | None = None
        self._watching: Watching | None = None
        self._last: dict[str, Decision] = {}
        self._handled: dict[str, str] = {}
        self._trouble: dict[str, str] = {}
        self._parsed: dict[tuple[str, int], Release | UsageError] = {}
        self._ended: str | None = None

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten until something is heard of the model."""
        return self._controller is None

    def forget_the_wire(self) -> None:
        """Somebody changed the model's route; may be called by any thread."""
        self._chosen.forget()

    def turn(self) -> float | None:
        """Do what is to be done; seconds until the next turn, None where nothing is left.

        Raises:
            WindlassError: the cluster, the registry or a router failed; the turn is to be tried again.
        """
        try:
            return self._turn()
        except OvertakenError:
            # another leader, or a person, wrote the journal: what is remembered of it is old
            self.close()
            self._place.store.reload(self._model)
            raise

    def _turn(self) -> float | None:
        todo = self._left()
        if not todo and self._controller is None:
            return None
        controller = self._opened()
        for seen in todo:
            if seen.command is not None:
                self._obey(controller, seen)
        live = controller.live(self._model)
        if live is not None:
            self._look(controller, live)
        for seen in self._left():
            if seen.deleting:
                self._let_go(controller, seen)
        if controller.live(self._model) is None:
            self._end(controller)
            pause = self._begin_next(controller)
        else:
            pause = self._place.settings.look_every_s
        waiting = self._wait_for_turn(controller)
        if controller.live(self._model) is not None:
            return min(pause or self._place.settings.look_every_s, self._place.settings.look_every_s)
        if pause is None and not waiting and not self._left():
            self.close()
        return pause

    def close(self) -> None:
        """Forget all; the next turn reads the journal again."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        self._controller = None
        self._last.clear()
        self._parsed.clear()

    def _left(self) -> list[Seen]:
        return [seen for seen in self._objects() if not seen.settled]

    def _named(self, name: str) -> Seen | None:
        return next((seen for seen in self._objects() if seen.name == name), None)

    def _opened(self) -> ReleaseController:
        if self._controller is None:
            store = Journalled(self._place.store, self._model, self._journalled)
            self._controller = controller = ReleaseController(
                store,
                self._chosen,
                self._place.clock,
                set_champion=self._place.champions.set,
                listener=self._decided,
            )
            newest = controller.newest(self._model)
            if newest is not None:
                self._chosen.use(self._place.backends.of(newest.release))
                self._place.exporter.show(newest)
        return self._controller

    def _decided(self, name: str, decision: Decision) -> None:
        self._last[name] = decision
        self._place.exporter(name, decision)

    def _journalled(self, entry: Entry, record: Record) -> None:
        event, seen = journal_events.of_record(record), self._named(entry.name)
        if event is not None and seen is not None:
            self._place.teller.event(seen, event)

    # --- a person's commands

    def _obey(self, controller: ReleaseController, seen: Seen) -> None:
        """Carry a command out, say what came of it, and take it off; all of it may be done twice."""
        assert seen.command is not None  # noqa: S101 - that is why we are here
        teller = self._place.teller
        try:
            wanted = orders.parse(seen.command)
            newest = controller.newest(self._model)
            if newest is None or newest.release.name != seen.name:
                raise UsageError(
                    f"{wanted.command}: this release is not the newest that has begun of model {self._model}"
                )
            if wanted.command == "rollback" and wanted.to is not None:
                waits = self._place.waits(newest.release, (wanted.to,))
                if waits is not None:
                    trouble = f"{seen.command} waits: {waits.reason}"
                    view = View(state=newest, trouble=trouble, trouble_reason="CommandWaits", in_force=True)
                    self._show(seen, replace(view, decision=self._last.get(seen.name)))
                    return
            decision = controller.command(self._model, wanted.command, by=seen.by, to=wanted.to)
        except UsageError as error:
            teller.say(seen, "CommandRefused", str(error))
        else:
            if decision.action == "hold":
                teller.say(seen, "CommandIgnored", decision.reason)
        self._handled[seen.name] = seen.command
        newest = controller.newest(self._model)
        if newest is not None and newest.release.name == seen.name:
            self._show(seen, View(state=newest, decision=self._last.get(seen.name), in_force=True))
        else:
            teller.handled(seen, self._handled.pop(seen.name))
        teller.obeyed(seen)

    # --- the live release

    def _look(self, controller: ReleaseController, live: ReleaseState) -> None:
        seen = self._named(live.release.name)
        if seen is None or seen.deleting:
            return  # there is nobody to look for: it is let go
        if self._watching is None or self._watching.release != live.release:
            if self._watching is not None:
                self._watching.close()
            self._watching = Watching(self._place, live, self._chosen)
        assert self._watching is not None  # noqa: S101 - just made
        trouble = None
        try:
            evidence = self._watching.evidence(live, self._place.clock.now())
            decision = controller.observe(self._model, evidence)
            self._last[live.release.name] = decision
            refused = decision.check == "backend" and controller.live(self._model) is not None
            in_force = not refused
        except (DeposedError, OvertakenError):
            raise
        except WindlassError as error:
            # guardrails stay on watch at their usual pace, whatever does not answer
            self._place.metrics.failed("release")
            trouble, in_force = str(error), False
        self._note(live.release.name, trouble)
        state = controller.newest(self._model) or live
        if not state.live:
            return
        changed = self._changed(seen, state)
        self._show(
            seen,
            View(
                state=state,
                decision=self._last.get(seen.name),
                trouble=trouble or changed,
                trouble_reason="NotInForce" if trouble else "SpecChanged",
                in_force=in_force,
            ),
        )

    def _changed(self, seen: Seen, state: ReleaseState) -> str | None:
        read = self._read(seen)
        if read == state.release:
            return None
        return (
            "spec was changed after the start: the release goes on as it began; delete it and apply a new one "
            "under another name"
        )

    def _note(self, name: str, trouble: str | None) -> None:
        """Log what is in the way once, and when it is over."""
        before = self._trouble.get(name)
        if trouble is None:
            self._trouble.pop(name, None)
        elif trouble != before:
            self._trouble[name] = trouble
            self._place.log(f"release {self._place.namespace}/{name}: {trouble}; it is tried again")

    # --- its end

    def _let_go(self, controller: ReleaseController, seen: Seen) -> None:
        """Free an object that somebody deleted, once its model's traffic is with the champion."""
        live = controller.live(self._model)
        if live is not None and live.release.name == seen.name:
            controller.command(self._model, "abort", by="the deletion of the Release")
        newest = controller.newest(self._model)
        if newest is not None and newest.release.name == seen.name:
            # also where the abort was decided before a crash, and is not confirmed
            controller.settle(self._model)
            self._end(controller)
        else:
            read = self._read(seen)
            if isinstance(read, Release):
                controller.drop_queued(read)
        seen = self._named(seen.name) or seen
        self._place.teller.free(seen)

    def _end(self, controller: ReleaseController) -> None:
        """What follows once the newest release is over: losers' servers go, and it is told; again until it is done."""
        controller.settle(self._model)
        newest = controller.newest(self._model)
        if newest is None or newest.live:
            return
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        name, end = newest.release.name, f"{newest.release.name}/{newest.phase}"
        seen = self._named(name)
        if seen is not None and self._is_another(seen, newest):
            seen = None
        told = seen is None or (seen.phase == newest.phase and not seen.held)
        if told and self._ended in (None, end):
            self._ended = end  # also where an earlier process did it all
            return
        needed = [
            version for other in self._left() if other.name != name for version in self._versions_of(other)
        ]
        self._place.retire_losers(newest, needed)
        self._ended = end
        if seen is None or told:
            return
        decision = self._last.get(name) or self._place.newest_decision(newest)
        seen = self._show(seen, View(state=newest, decision=decision, in_force=True))
        if not seen.deleting:
            self._place.teller.free(seen)

    def _is_another(self, seen: Seen, state: ReleaseState) -> bool:
        """Whether an object is not the one whose release that was, but has its name again."""
        began = state.started_at
        return began is not None and seen.phase == "" and seen.created > began.strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- the next one

    def _begin_next(self, controller: ReleaseController) -> float | None:
        """Begin the release whose turn it is; seconds until it is tried again, None where there is none."""
        queued = controller.next_queued(self._model)
        while queued is not None:
            seen = self._named(queued.name)
            if seen is not None and not seen.deleting and not seen.over:
                return self._begin(controller, seen, queued, queued=True)
            controller.drop_queued(queued)
            queued = controller.next_queued(self._model)
        for seen in self._left():
            if seen.deleting or seen.over:
                continue
            read = self._read(seen)
            if isinstance(read, UsageError):
                self._refuse(seen, "InvalidSpec", str(read))
                continue
            pause = self._begin(controller, seen, read, queued=False)
            if pause is not None:
                return pause
        return None

    def _begin(
        self, controller: ReleaseController, seen: Seen, release: Release, *, queued: bool
    ) -> float | None:
        place = self._place
        reason = able.fault(release, place.settings)
        if reason is not None:
            return self._cannot(controller, seen, release, "NotSupported", reason, queued=queued)
        self._chosen.use(place.backends.of(release))
        champion = release.champion or place.champions.of(self._model, self._chosen)
        versions = release.candidates if champion is None else (champion, *release.candidates)
        if champion is not None:
            waits = place.waits(release, versions)
            if waits is not None:
                view = View(release=release, reason="WaitingForServers", message=waits.reason)
                if waits.wrong:
                    view = replace(view, trouble=waits.reason, trouble_reason="ServersFail")
                self._show(seen, view)
                return SERVERS_S
        try:
            seen = place.teller.hold(seen)
            decision = controller.start(release, champion)
        except UsageError as error:
            return self._cannot(controller, seen, release, "Refused", str(error), queued=queued)
        self._last[release.name] = decision
        state = controller.live(self._model)
        if state is not None:
            self._show(seen, View(state=state, decision=decision, in_force=True))
        return 0.0

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
        self._refuse(seen, reason, message, release)
        if queued:
            controller.drop_queued(release)
        return 0.0 if queued else None

    def _refuse(self, seen: Seen, reason: str, message: str, release: Release | None = None) -> None:
        """Say why a release can never start; that is its end."""
        self._place.teller.say(seen, reason, message)
        shown = self._show(seen, View(phase=REFUSED, reason=reason, message=message, release=release))
        self._place.teller.free(shown)

    def _wait_for_turn(self, controller: ReleaseController) -> bool:
        """Queue or refuse what comes while another release is live; whether any waits."""
        live, waits = controller.live(self._model), False
        for seen in self._left():
            if live is None or seen.name == live.release.name or seen.deleting or seen.over:
                continue
            read = self._read(seen)
            if isinstance(read, UsageError):
                self._refuse(seen, "InvalidSpec", str(read))
                continue
            reason = able.fault(read, self._place.settings)
            if reason is not None:
                self._refuse(seen, "NotSupported", reason, read)
                continue
            waits = True
            if seen.phase == "Queued":
                continue
            try:
                # who is the champion when its turn comes is not known yet
                controller.start(read, read.champion or live.champion)
            except UsageError as error:
                self._refuse(seen, "Conflict", str(error), read)
                continue
            message = f"waits for release {live.release.name} to end"
            self._show(seen, View(phase="Queued", reason="Queued", message=message, release=read))
        return waits

    def _read(self, seen: Seen) -> Release | UsageError:
        key = (seen.uid, seen.generation)
        if key not in self._parsed:
            try:
                self._parsed[key] = spec.parse(seen.document)
            except UsageError as error:
                self._parsed[key] = error
        return self._parsed[key]

    def _versions_of(self, seen: Seen) -> tuple[str, ...]:
        read = self._read(seen)
        if isinstance(read, UsageError):
            return ()
        return (*read.candidates, *([read.champion] if read.champion else []))

    def _show(self, seen: Seen, view: View) -> Seen:
        handled = self._handled.pop(seen.name, None)
        return self._place.teller.status(seen, replace(view, handled=handled))
