"""The releases of one model on a cluster: one turn after another, each as far as it gets without waiting for servers.

What is decided and carried out is the controller's (`serving.release.controller`); this is the platform's side, as
`windlass.local.releasing` is on one machine: which object is next, whether its servers answer, its evidence, and what
is told to it. A turn may break off anywhere: the next one, in this process or another, finds in the journal and on the
objects where it was.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from serving.release.backend import UnconfirmedError
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.journal.store import Entry, Record
from serving.release.people import events as journal_events
from serving.release.state import ReleaseState
from windlass.errors import WindlassError
from windlass.operator import obeying, unreadable
from windlass.operator.beginning import SERVERS_S, Beginning
from windlass.operator.ending import Ending
from windlass.operator.fenced_api import DeposedError
from windlass.operator.journalled import Journalled
from windlass.operator.outages import Outages
from windlass.operator.place import Place
from windlass.operator.seen import Seen
from windlass.operator.status import View
from windlass.operator.watching import Watching
from windlass.operator.work import Work

#: Most seconds between two looks at the servers of a live release, and the least: releases that began together do not
#: look together for ever.
SERVERS_EVERY_S = 60.0
SERVERS_NOT_BEFORE_S = 40.0
#: The same while some are missing.
MISSING_EVERY_S = 10.0
#: Seconds until a router that has not said yet whether it does what it was told is asked again; where a watch tells of
#: its word, that comes first.
CONFIRM_EVERY_S = 1.0


class ModelReleases:
    """The releases of one model in one namespace.

    Args:
        objects: the model's Release objects as they were last seen, the oldest first.
    """

    def __init__(self, place: Place, model: str, objects: Callable[[], Sequence[Seen]]) -> None:
        self._work = Work(place, model, objects)
        self._beginning = Beginning(self._work)
        self._ending = Ending(self._work)
        self._controller: ReleaseController | None = None
        self._watching: Watching | None = None
        self._trouble: dict[str, str] = {}
        self._next_servers = 0.0
        self._missing: str | None = None
        self._outages = Outages(place.servers, model, time.monotonic)
        self._unconfirmed = False
        self._command_waits: str | None = None

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten until something is heard of the model."""
        return self._controller is None

    def forget_the_wire(self) -> None:
        """Somebody changed the model's route; may be called by any thread."""
        self._work.chosen.forget()

    @property
    def awaits(self) -> bool:
        """Whether the word of the model's router is waited for; may be asked by any thread."""
        return self._work.chosen.awaits

    def turn(self, *, unfinished: bool = False) -> float | None:
        """Do what is to be done; seconds until the next turn, None where nothing is left.

        Args:
            unfinished: whether the journal is looked at although no object has anything left to be done.

        Raises:
            WindlassError: the cluster, the registry or a router failed; the turn is to be tried again.
        """
        try:
            return self._turn(unfinished)
        except UnconfirmedError:
            return CONFIRM_EVERY_S  # what the router was told is what comes first, and no thread waits for it
        except OvertakenError:
            # another leader, or a person, wrote the journal: what is remembered of it is old
            self.close()
            self._work.place.store.reload(self._work.model)
            raise

    def _turn(self, unfinished: bool) -> float | None:
        todo = self._work.left()
        if not todo and not unfinished and self._controller is None:
            return None
        try:
            controller = self._opened()
        except Exception as error:
            if not unreadable.is_unreadable(error):
                raise
            self._controller = None
            raise unreadable.stand_in(self._work, error) from error
        disobeyed = self._obey(controller, todo)
        live = controller.live(self._work.model)
        if live is not None:
            self._look(controller, live)
        self._end(controller)
        pause = None
        if controller.live(self._work.model) is None:
            if disobeyed is not None:
                raise disobeyed
            try:
                pause = self._beginning.next(controller)
            finally:
                if controller.live(self._work.model) is not None:
                    self._next_servers = _next_servers()  # they answered a moment ago
        elif disobeyed is not None:
            self._work.place.metrics.failed("release")
        waiting = self._beginning.wait(controller)
        if controller.live(self._work.model) is not None:
            look_every_s = self._work.place.settings.look_every_s
            if self._unconfirmed:
                look_every_s = min(look_every_s, CONFIRM_EVERY_S)
            return min(pause or look_every_s, look_every_s)
        left = self._work.left()
        if any(seen.command is not None for seen in left):
            return min(pause or SERVERS_S, SERVERS_S)  # it waits for servers, which wake nobody
        if pause is None and not waiting and not left:
            self.close()
        return pause

    def _obey(self, controller: ReleaseController, todo: Sequence[Seen]) -> WindlassError | None:
        """Carry people's commands out; what is in the way of one, which keeps nobody from looking at the checks."""
        found = self._command_waits = None
        for seen in todo:
            if seen.command is None:
                continue
            trouble = None
            try:
                self._command_waits = obeying.obey(self._work, controller, seen) or self._command_waits
            except (DeposedError, OvertakenError, UnconfirmedError):
                raise
            except WindlassError as error:
                found, trouble = error, f"{seen.command}: {error}"
            self._note(f"{seen.name} command", trouble)
        return found

    def _end(self, controller: ReleaseController) -> None:
        """Let go of what was deleted, and have the end of what is over in force; who waits for that is told."""
        try:
            for seen in self._work.left():
                if seen.deleting:
                    self._ending.let_go(controller, seen)
            if controller.live(self._work.model) is None:
                self._watch_no_more()
                self._ending.end(controller)
        except (DeposedError, OvertakenError):
            raise
        except WindlassError:
            self._beginning.wait_for_the_end(controller)
            raise

    def close(self) -> None:
        """Forget all; the next turn reads the journal again."""
        self._watch_no_more()
        self._controller = None
        self._unconfirmed = False
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
            self._ending.abandoned(controller, live)
            return
        if seen.deleting:
            return  # it is let go
        trouble, awaited, self._unconfirmed = None, self._unconfirmed, False
        in_force: bool | None
        try:
            if self._watching is None or self._watching.release != live.release:
                self._watch_no_more()
                self._watching = Watching(self._work.place, live, self._work.chosen)
            evidence = self._watching.evidence(live, self._work.place.clock.now())
            evidence = replace(evidence, arms=self._outages.told(evidence.arms, self._missing))
            decision = controller.observe(self._work.model, evidence)
            self._work.last[live.release.name] = decision
            refused = decision.check == "backend" and controller.live(self._work.model) is not None
            in_force = not refused
        except UnconfirmedError:
            self._unconfirmed, in_force = True, None
        except (DeposedError, OvertakenError):
            raise
        except WindlassError as error:
            # guardrails stay on watch at their usual pace, whatever does not answer
            self._work.place.metrics.failed("release")
            trouble, in_force = str(error), False
        self._note(live.release.name, trouble)
        state = controller.newest(self._work.model) or live
        if not state.live or (self._unconfirmed and not awaited):
            return  # a router that speaks at once is told of with what it says
        reason = "ActFailed"
        if trouble is None:
            trouble, reason = self._servers(state), "ServersFail"
        if trouble is None:
            trouble, reason = self._command_waits, "CommandWaits"
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
            waits = self._work.place.keeps(live.release, live.traffic.versions)
        except (DeposedError, OvertakenError):
            raise
        except WindlassError as error:
            self._missing = str(error)
        else:
            self._missing = None if waits is None else waits.reason
        if self._missing is None:
            self._outages.forget()
        elif live.release.backend == "gateway":
            self._outages.look((*live.candidates, live.champion))
        self._next_servers = _next_servers() if self._missing is None else now + MISSING_EVERY_S
        return self._missing

    def _changed(self, seen: Seen, state: ReleaseState) -> str | None:
        read = self._work.read(seen)
        if read == state.release:
            return None
        return (
            "spec was changed after the start: the release goes on as it began; delete it and apply a new one "
            "under another name"
        )

    def _watch_no_more(self) -> None:
        self._outages.forget()
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _note(self, name: str, trouble: str | None) -> None:
        """Log what is in the way once, and when it is over."""
        before = self._trouble.get(name)
        if trouble is None:
            self._trouble.pop(name, None)
        elif trouble != before:
            self._trouble[name] = trouble
            self._work.place.log(f"release {self._work.place.namespace}/{name}: {trouble}; it is tried again")


def _next_servers() -> float:
    return time.monotonic() + random.uniform(SERVERS_NOT_BEFORE_S, SERVERS_EVERY_S)  # noqa: S311 - no secret
