"""The end of a model's releases: what was decided is in force, losers' servers go, and the object is told and freed."""

from __future__ import annotations

from dataclasses import replace

from serving.release.backend import RejectedError, UnconfirmedError
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass.errors import WindlassError
from windlass.operator.fenced_api import DeposedError
from windlass.operator.seen import Seen
from windlass.operator.status import View
from windlass.operator.work import Work

#: Phases of an object whose release has not begun, as far as its status says.
_NOT_BEGUN = ("", "Pending", "Queued")
#: What an API server says of a namespace that was deleted.
_TERMINATES = "because it is being terminated"


class Ending:
    """Ends the releases of one model; all of it may be done twice."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ended: str | None = None

    def abandoned(self, controller: ReleaseController, live: ReleaseState) -> None:
        """End a release whose object is gone although our finalizer was on it: nobody could end it otherwise."""
        place = self._work.place
        # after a start, another object of the model may have been heard of first
        if place.api.get(RELEASE, place.namespace, live.release.name) is None:
            self._ended = ""  # nobody is left to be told, and its servers are to go all the same
            controller.command(self._work.model, "abort", by="the loss of the Release")

    def let_go(self, controller: ReleaseController, seen: Seen) -> None:
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
            self.end(controller)  # also where the abort was decided before a crash, and is not confirmed
            return
        read = self._work.read(seen)
        if isinstance(read, Release):
            controller.drop_queued(read)
            self._work.retire_unused(seen, read, newest)

    def end(self, controller: ReleaseController) -> None:
        """What follows once the newest release is over: losers' servers go, and it is told; again until it is done."""
        self._settle(controller)
        newest = controller.newest(self._work.model)
        if newest is None or newest.live:
            return
        name, end = newest.release.name, f"{newest.release.name}/{newest.phase}"
        seen = self._object_of(newest)
        told = seen is None or (seen.phase == newest.phase and not seen.held)
        if told and self._ended in (None, end):
            self._ended = end  # also where an earlier process did it all
            return
        self._work.place.retire_losers(newest, self._work.needed(name))
        self._ended = end
        if seen is None or told:
            return
        decision = self._work.last.get(name) or self._work.place.newest_decision(newest)
        in_force = None if controller.given_up_by(self._work.model) else True
        seen = self._work.show(seen, View(state=newest, decision=decision, in_force=in_force))
        if not seen.deleting:
            self._work.place.teller.free(seen)

    def _settle(self, controller: ReleaseController) -> None:
        """Have in force what was decided; a release that is over must not say that it is where it is not."""
        try:
            controller.settle(self._work.model)
        except (DeposedError, OvertakenError, UnconfirmedError):
            raise
        except WindlassError as error:
            newest = controller.newest(self._work.model)
            seen = None if newest is None else self._object_of(newest)
            if seen is not None:
                view = View(state=newest, trouble=str(error), trouble_reason="ActFailed", in_force=False)
                self._work.show(seen, replace(view, decision=self._work.last.get(seen.name)))
            raise

    def _object_of(self, state: ReleaseState) -> Seen | None:
        """The object of a release that has begun, unless it is another one that has its name again."""
        seen, began = self._work.named(state.release.name), state.started_at
        if seen is None or began is None or seen.phase not in _NOT_BEGUN:
            return seen
        return None if seen.created > began.strftime("%Y-%m-%dT%H:%M:%SZ") else seen
