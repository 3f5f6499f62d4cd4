"""The releases of one model on a cluster: one turn after another, each as far as it gets without waiting for servers.

What is decided and carried out is the controller's (`serving.release.controller`); this is the platform's side, as
`windlass.local.releasing` is on one machine: which object is next, whether its servers answer, its evidence, and what
is told to it. A turn may break off anywhere: the next one, in this process or another, finds in the journal and on the
objects where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from serving.release.backend import RejectedError
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.journal.store import Entry, Record
from serving.release.people import events as journal_events
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass.errors import WindlassError
from windlass.operator import obeying
from windlass.operator.beginning import SERVERS_S, Beginning
from windlass.operator.fenced_api import DeposedError
from windlass.operator.journalled import Journalled
from windlass.operator.place import Place
from windlass.operator.seen import Seen
from windlass.operator.status import View
from windlass.operator.watching import Watching
from windlass.operator.work import Work

#: What an API server says of a namespace that was deleted.
_TERMINATES = "because it is being terminated"

#: Seconds between two looks at the servers of a live release.
SERVERS_EVERY_S = 60.0
#: The same while some are missing.
MISSING_EVERY_S = 10.0


class ModelReleases:
    """The releases of one model in one namespace.

    Args:
        objects: the model's Release objects as they were last seen, the oldest first.
    """

    def __init__(self, place: Place, model: str, objects: Callable[[], Sequence[Seen]]) -> None:
        self._work = Work(place, model, objects)
        self._beginning = Beginning(self._work)
        self._controller: ReleaseController | None = None
        self._watching: Watching | None = None
        self._trouble: dict[str, str] = {}
        self._ended: str | None = None
        self._next_servers = 0.0
        self._missing: str | None = None

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten until something is heard of the model."""
        return self._controller is None

    def forget_the_wire(self) -> None:
        """Somebody changed the model's route; may be called by any thread."""
        self._work.chosen.forget()

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
            self._work.place.store.reload(self._work.model)
            raise

    def _turn(self) -> float | None:
        todo = self._work.left()
        if not todo and self._controller is None:
            return None
        controller = self._opened()
        for seen in todo:
            if seen.command is not None:
                obeying.obey(self._work, controller, seen)
        live = controller.live(self._work.model)
        if live is not None:
            self._look(controller, live)
        for seen in self._work.left():
            if seen.deleting:
                self._let_go(controller, seen)
        if controller.live(self._work.model) is None:
            self._end(controller)
            pause = self._beginning.next(controller)
        else:
            pause = self._work.place.settings.look_every_s
        waiting = self._beginning.wait(controller)
        if any(seen.command is not None for seen in self._work.left()):
            pause = min(pause or SERVERS_S, SERVERS_S)  # it waits for servers, which wake nobody
        if controller.live(self._work.model) is not None:
            return min(
                pause or self._work.place.settings.look_every_s, self._work.place.settings.look_every_s
            )
        if pause is None and not waiting and not self._work.left():
            self.close()
        return pause

    def close(self) -> None:
        """Forget all; the next turn reads the journal again."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        self._controller = None
        self._work.forget()

    def _opened(self) -> ReleaseController:
        if self._controller is None:
            store = Journalled(self._work.place.store, self._work.model, self._journalled)
            self._controller = controller = ReleaseController(
                store,
                self._work.chosen,
                self._work.place.clock,
                set_champion=self._work.place.champions.set,
                listener=self._decided,
            )
            newest = controller.newest(self._work.model)
            if newest is not None:
                self._work.chosen.use(self._work.place.backends.of(newest.release))
                self._work.place.exporter.show(newest)
        return self._controller

    def _decided(self, name: str, decision: Decision) -> None:
        self._work.last[name] = decision
        self._work.place.exporter(name, decision)

    def _journalled(self, entry: Entry, record: Record) -> None:
        event, seen = journal_events.of_record(record), self._work.named(entry.name)
        if event is not None and seen is not None:
            self._work.place.teller.event(seen, event)

    # --- the live release

    def _look(self, controller: ReleaseController, live: ReleaseState) -> None:
        seen = self._work.named(live.release.name)
        if seen is None:
            self._abandoned(controller, live)
            return
        if seen.deleting:
            return  # it is let go
        if self._watching is None or self._watching.release != live.release:
            if self._watching is not None:
                self._watching.close()
            self._watching = Watching(self._work.place, live, self._work.chosen)
        assert self._watching is not None  # noqa: S101 - just made
        trouble = None
        try:
            evidence = self._watching.evidence(live, self._work.place.clock.now())
            decision = controller.observe(self._work.model, evidence)
            self._work.last[live.release.name] = decision
            refused = decision.check == "backend" and controller.live(self._work.model) is not None
            in_force = not refused
        except (DeposedError, OvertakenError):
            raise
        except WindlassError as error:
            # guardrails stay on watch at their usual pace, whatever does not answer
            self._work.place.metrics.failed("release")
            trouble, in_force = str(error), False
        self._note(live.release.name, trouble)
        state = controller.newest(self._work.model) or live
        if not state.live:
            return
        reason = "ActFailed"
        if trouble is None:
            trouble, reason = self._servers(state), "ServersFail"
        if trouble is None:
            trouble, reason = self._changed(seen, state), "SpecChanged"
        self._work.show(
            seen,
            View(
                state=state,
                decision=self._work.last.get(seen.name),
                trouble=trouble,
                trouble_reason=reason,
                in_force=in_force,
            ),
        )

    def _servers(self, live: ReleaseState) -> str | None:
        """Make servers anew that somebody took away, now and then; what is wrong with them."""
        now = time.monotonic()
        if now < self._next_servers:
            return self._missing
        try:
            waits = self._work.place.waits(live.release, live.traffic.versions)
        except (DeposedError, OvertakenError):
            raise
        except WindlassError as error:
            self._missing = str(error)
        else:
            self._missing = None if waits is None else waits.reason
        self._next_servers = now + (SERVERS_EVERY_S if self._missing is None else MISSING_EVERY_S)
        return self._missing

    def _abandoned(self, controller: ReleaseController, live: ReleaseState) -> None:
        """End a release whose object is gone although our finalizer was on it: nobody could end it otherwise."""
        place = self._work.place
        # after a start, another object of the model may have been heard of first
        if place.api.get(RELEASE, place.namespace, live.release.name) is None:
            self._ended = ""  # nobody is left to be told, and its servers are to go all the same
            controller.command(self._work.model, "abort", by="the loss of the Release")

    def _changed(self, seen: Seen, state: ReleaseState) -> str | None:
        read = self._work.read(seen)
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
            self._work.place.log(f"release {self._work.place.namespace}/{name}: {trouble}; it is tried again")

    # --- its end

    def _let_go(self, controller: ReleaseController, seen: Seen) -> None:
        """Free an object that somebody deleted, once its model's traffic is with the champion."""
        try:
            self._give_back(controller, seen)
        except RejectedError as error:
            # nothing can be made in a namespace that ends, and it ends only once our finalizer is off
            if _TERMINATES not in str(error):
                raise
            self._work.place.log(f"release {self._work.place.namespace}/{seen.name}: {error}; it is let go")
        self._work.place.teller.free(self._work.named(seen.name) or seen)

    def _give_back(self, controller: ReleaseController, seen: Seen) -> None:
        live = controller.live(self._work.model)
        if live is not None and live.release.name == seen.name:
            controller.command(self._work.model, "abort", by="the deletion of the Release")
        newest = controller.newest(self._work.model)
        if newest is not None and newest.release.name == seen.name:
            # also where the abort was decided before a crash, and is not confirmed
            controller.settle(self._work.model)
            self._end(controller)
            return
        read = self._work.read(seen)
        if isinstance(read, Release):
            controller.drop_queued(read)

    def _end(self, controller: ReleaseController) -> None:
        """What follows once the newest release is over: losers' servers go, and it is told; again until it is done."""
        controller.settle(self._work.model)
        newest = controller.newest(self._work.model)
        if newest is None or newest.live:
            return
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        name, end = newest.release.name, f"{newest.release.name}/{newest.phase}"
        seen = self._work.named(name)
        if seen is not None and self._is_another(seen, newest):
            seen = None
        told = seen is None or (seen.phase == newest.phase and not seen.held)
        if told and self._ended in (None, end):
            self._ended = end  # also where an earlier process did it all
            return
        needed = [
            version
            for other in self._work.left()
            if other.name != name
            for version in self._work.versions_of(other)
        ]
        self._work.place.retire_losers(newest, needed)
        self._ended = end
        if seen is None or told:
            return
        decision = self._work.last.get(name) or self._work.place.newest_decision(newest)
        seen = self._work.show(seen, View(state=newest, decision=decision, in_force=True))
        if not seen.deleting:
            self._work.place.teller.free(seen)

    def _is_another(self, seen: Seen, state: ReleaseState) -> bool:
        """Whether an object is not the one whose release that was, but has its name again."""
        began = state.started_at
        return began is not None and seen.phase == "" and seen.created > began.strftime("%Y-%m-%dT%H:%M:%SZ")
