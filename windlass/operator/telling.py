"""Telling a Release what became of it: its status, its Events, its finalizer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from serving.release.backend import RejectedError
from serving.release.cluster.api import ConflictError, KubernetesApi, Object
from serving.release.cluster.kinds import EVENT, RELEASE
from serving.release.people.events import Event
from windlass.clock import Clock
from windlass.errors import WindlassError
from windlass.operator import events, status
from windlass.operator.fenced_api import DeposedError
from windlass.operator.marks import COMMAND, FINALIZER
from windlass.operator.seen import Seen, of_object
from windlass.operator.status import View

LOG = logging.getLogger(__name__)


class Teller:
    """Writes to the Release objects of one namespace; one model's at a time, from that model's turn.

    Args:
        instance: this replica, in Events.
        learn: takes an object as the API server answered it, or (namespace, name) of one that is gone.
    """

    def __init__(
        self,
        api: KubernetesApi,
        instance: str,
        clock: Clock,
        learn: Callable[[Object], object],
        gone: Callable[[Seen], object],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._instance = instance
        self._clock = clock
        self._learn = learn
        self._gone = gone
        self._monotonic = monotonic
        self._written: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def status(self, seen: Seen, view: View) -> Seen:
        """Write the status where it says something new; the object as it is after that.

        Raises:
            UnreachableError, RejectedError.
        """
        when, before = self._written.get(seen.uid, (float("-inf"), seen.status))
        known = Seen(**{**vars(seen), "status": before})
        wanted = status.of(known, view, self._clock.now())
        now = self._monotonic()
        if not status.says_more(wanted, before) and (wanted == before or now - when < status.REFRESH_S):
            return known
        body = self._apply(seen, {"status": wanted}, subresource="status")
        if body is None:
            return known
        self._learn(body)
        self._written[seen.uid] = (now, wanted)
        return of_object(body)

    def degraded(self, seen: Seen, reason: str, message: str) -> None:
        """Say what a person must look at, and that what the router does is not known; all else of the status stays.

        Raises:
            UnreachableError, RejectedError.
        """
        _, before = self._written.get(seen.uid, (0.0, seen.status))
        wanted = status.degraded(before, reason, message, seen.generation, self._clock.now())
        if wanted == before:
            return
        body = self._apply(seen, {"status": wanted}, subresource="status")
        if body is None:
            return
        self._learn(body)
        self._written[seen.uid] = (self._monotonic(), wanted)
        if status.says_more(wanted, before):
            self.say(seen, reason, message)

    def handled(self, seen: Seen, command: str) -> None:
        """Note a command in the status and leave all else of it."""
        _, before = self._written.get(seen.uid, (0.0, seen.status))
        wanted = {**before, "handledCommand": command}
        body = self._apply(seen, {"status": wanted}, subresource="status")
        if body is None:
            return
        self._learn(body)
        self._written[seen.uid] = (self._monotonic(), wanted)

    def forget(self, seen: Seen) -> None:
        """What was written last is what the object says; memory holds no status of what is over, or gone. May be called
        by any thread."""
        self._written.pop(seen.uid, None)

    def forget_all(self) -> None:
        """What was written last is what the objects say."""
        self._written.clear()

    def event(self, seen: Seen, event: Event) -> None:
        """Post an Event; one that cannot be posted is logged and no more: the journal has it."""
        news = events.News.of(seen, event)
        LOG.log(
            logging.WARNING if news.type == "Warning" else logging.INFO,
            "release %s/%s: %s: %s",
            seen.namespace,
            seen.name,
            news.reason,
            news.note,
        )
        try:
            self._api.create(
                EVENT, seen.namespace, {"metadata": {"name": news.name}, **news.document(self._instance)}
            )
        except ConflictError:
            pass  # told before a crash
        except DeposedError:
            raise
        except WindlassError as error:
            LOG.warning("release %s/%s: its event is not posted: %s", seen.namespace, seen.name, error)

    def say(self, seen: Seen, reason: str, message: str, *, warning: bool = True) -> None:
        """Post an Event of the operator's own."""
        at = self._clock.now().isoformat()
        self.event(seen, Event(at, "Warning" if warning else "Normal", reason, message))

    def hold(self, seen: Seen) -> Seen | None:
        """Put the finalizer on: from here on a deletion waits for the traffic; None where the object is gone."""
        if seen.held:
            return seen
        body = self._apply(seen, {"metadata": {"finalizers": [FINALIZER]}})
        if body is None:
            return None
        self._learn(body)
        return of_object(body)

    def free(self, seen: Seen) -> None:
        """Take the finalizer off; an object that was deleted goes with it."""

        def without(live: Object) -> Object:
            metadata = dict(live["metadata"])
            if metadata["uid"] == seen.uid:
                metadata["finalizers"] = [f for f in metadata.get("finalizers", ()) if f != FINALIZER]
            return {**live, "metadata": metadata}

        self.forget(seen)
        if not seen.held:
            return
        body = self._api.update(RELEASE, seen.namespace, seen.name, without)
        if body is None or seen.deleting:
            self._gone(seen)
        else:
            self._learn(body)

    def _apply(self, seen: Seen, content: Mapping[str, Any], *, subresource: str = "") -> Object | None:
        """Apply to that very object; None where it is gone, which a watch may have missed."""
        # with its uid: an apply would make a deleted object anew, or write to another one of the name
        content = {**content, "metadata": {**content.get("metadata", {}), "uid": seen.uid}}
        try:
            return self._api.apply(RELEASE, seen.namespace, seen.name, content, subresource=subresource)
        except (ConflictError, RejectedError):
            live = self._api.get(RELEASE, seen.namespace, seen.name)
            if live is not None and live["metadata"]["uid"] == seen.uid:
                raise
            self.forget(seen)
            self._gone(seen)
            return None

    def obeyed(self, seen: Seen) -> None:
        """Take the command off, if it is still that one."""

        def without(live: Object) -> Object:
            annotations = dict(live["metadata"].get("annotations") or {})
            if str(annotations.get(COMMAND, "")).strip() == seen.command:
                del annotations[COMMAND]
            return {**live, "metadata": {**live["metadata"], "annotations": annotations}}

        body = self._api.update(RELEASE, seen.namespace, seen.name, without)
        if body is not None:
            self._learn(body)
