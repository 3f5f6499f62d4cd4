"""Who of several operators acts: the one whose name is in a Lease, for as long as it renews it.

The rules and times are those of Kubernetes' own components. Nobody's clock is compared with another's: a candidate
takes a lease over that has not changed for its whole duration *by the candidate's clock*, and the leader stops by its
own some seconds earlier, whether or not anybody told it. Only the speed of two clocks must be alike.

That is enough for two leaders not to act at the same time, except for what one of them had sent before it stopped;
journals are guarded against that by themselves (`store.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.release.cluster.api import ONCE, ConflictError, KubernetesApi
from serving.release.cluster.kinds import LEASE
from windlass.clock import Clock, SystemClock
from windlass.errors import WindlassError

LOG = logging.getLogger(__name__)

NAME = "windlass-operator"

#: Seconds without a change after which a lease is anybody's.
DURATION_S = 15.0
#: Seconds since it sent its last renewal for which a leader acts.
ACTS_FOR_S = 10.0
#: Seconds between two looks.
EVERY_S = 2.0
#: Longest wait for one answer: several tries must fit into the time for which a leader acts.
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Claim:
    """What a Lease says.

    Attributes:
        holder: empty where it was given back.
        acquired: time of the holder's clock, as text; nobody reckons with it, nor with that of its renewals.
        version: resourceVersion, which every renewal changes, even by a holder whose clock stands still.
    """

    holder: str
    duration_s: float
    transitions: int
    acquired: str | None
    version: str


@dataclass(frozen=True)
class Seen:
    """A claim, None where there is no Lease, and since when it is seen so: seconds of one's own clock."""

    claim: Claim | None
    since: float


@dataclass(frozen=True)
class Acquire:
    """Take the lease, which then has changed hands so often."""

    transitions: int


@dataclass(frozen=True)
class Renew:
    """Say that one is still there."""


@dataclass(frozen=True)
class Wait:
    """It is another's, for so many seconds at least unless it is given back."""

    seconds: float
    holder: str


@dataclass(frozen=True)
class Lost:
    """Act no more."""

    reason: str


Step = Acquire | Renew | Wait | Lost


def observe(before: Seen | None, claim: Claim | None, now: float) -> Seen:
    """What is seen now: a claim that did not change is as old as it was."""
    return before if before is not None and before.claim == claim else Seen(claim, now)


def decide(seen: Seen, identity: str, now: float, renewed: float | None) -> Step:
    """What `identity` does about what it sees.

    Args:
        now: seconds of one's own clock, as are the others.
        renewed: when the last renewal that succeeded was sent; None for who does not lead.
    """
    claim = seen.claim
    if renewed is not None:
        if now - renewed >= ACTS_FOR_S:
            return Lost(f"it could not be renewed for {ACTS_FOR_S:g} s")
        if claim is None:
            return Lost("somebody deleted it")
        if claim.holder != identity:
            return Lost(f"{claim.holder or 'nobody'} has it now")
        return Renew()
    if claim is None:
        return Acquire(0)
    if claim.holder == identity:  # taken, and the answer was lost
        return Acquire(claim.transitions)
    left = seen.since + claim.duration_s - now
    if claim.holder and left > 0:
        return Wait(left, claim.holder)
    return Acquire(claim.transitions + 1)


class Lease:
    """One operator's part in it.

    Args:
        api: not one that refuses requests of who does not lead.
        identity: a name that no other process ever had, not even an earlier one in the same pod.
        clock: seconds that only rise.
        wall: the time that people are told.
    """

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        identity: str,
        *,
        name: str = NAME,
        clock: Callable[[], float] = time.monotonic,
        wall: Clock | None = None,
    ) -> None:
        self._api = api.within(TIMEOUT_S)
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._wall = wall or SystemClock()
        self._seen: Seen | None = None
        self._renewed: float | None = None
        self._reached = False

    def leads(self) -> bool:
        """Whether this process may act, now; asks nobody, and may be asked by any thread before every act."""
        renewed = self._renewed
        return renewed is not None and self._clock() - renewed < ACTS_FOR_S

    def reached(self) -> bool:
        """Whether the API server has ever answered."""
        return self._reached

    def turn(self) -> Step:
        """Look, and do what follows; what was decided. Having lost it, it tries to get it again only when called again.

        Raises:
            UnreachableError: nobody answers, and the lease is not lost yet; look again soon.
            RejectedError: it may not be read or written.
        """
        try:
            found = self._api.get(LEASE, self._namespace, self._name, pauses=ONCE)
            self._reached = True
            now = self._clock()
            self._seen = observe(self._seen, None if found is None else _claim(found), now)
            step = decide(self._seen, self._identity, now, self._renewed)
            if isinstance(step, Acquire | Renew):
                self._write(self._seen.claim, step)
        except WindlassError:
            # what was seen last says nothing of now, but the clock does
            if self._renewed is None or self.leads():
                raise
            step = Lost(f"it could not be renewed for {ACTS_FOR_S:g} s")
        if isinstance(step, Lost):
            self._renewed = None
        return step

    def give_back(self) -> None:
        """Let the next one begin at once; call when nothing acts any more. What cannot be told is waited out by it."""
        held, self._renewed = self._renewed is not None, None
        seen = self._seen
        if not held or seen is None or seen.claim is None:
            return
        claim = seen.claim
        spec = {
            **self._spec(claim.acquired, claim.transitions),
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
        }
        try:
            self._patch(claim, spec)
        except WindlassError:
            return

    def keep(self, stop: threading.Event, changed: Callable[[], None]) -> str | None:
        """Get the lease and keep it until `stop` is set, then give it back.

        What is in the way is logged once, each kind of it: a process that may not write the lease waits for it for
        ever, healthy and ready, and nothing else in it acts and could tell.

        Args:
            changed: called when it was got, and when it was lost.

        Returns:
            None after `stop`; the reason where it was lost, which ends it too.
        """
        told: type[WindlassError] | None = None
        while not stop.is_set():
            led = self._renewed is not None
            pause = EVERY_S
            try:
                step = self.turn()
            except WindlassError as error:
                # not by its words, in which addresses in memory change
                if type(error) is not told:
                    told = type(error)
                    LOG.warning("%s; the lease is asked for again every %g s", error, EVERY_S)
            else:
                told = None
                if isinstance(step, Lost):
                    changed()
                    return step.reason
                if isinstance(step, Wait):
                    pause = min(pause, step.seconds)
            if not led and self._renewed is not None:
                changed()
            stop.wait(pause)
        self.give_back()
        return None

    def _write(self, claim: Claim | None, step: Acquire | Renew) -> None:
        """Have our name in the lease; that somebody was faster is seen at the next look."""
        sent, at = self._clock(), _time(self._wall)
        if isinstance(step, Acquire):
            spec = self._spec(at, step.transitions)
        else:
            assert claim is not None  # noqa: S101 - what is not there is not renewed
            spec = self._spec(claim.acquired, claim.transitions)
        try:
            if claim is None:
                content = {"metadata": {"name": self._name}, "spec": spec}
                written: Mapping[str, Any] | None = self._api.create(LEASE, self._namespace, content)
            else:
                written = self._patch(claim, spec)
        except ConflictError:
            return
        if written is not None:
            self._seen = Seen(_claim(written), self._clock())
            self._renewed = sent

    def _patch(self, claim: Claim, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        operations = [{"op": "add", "path": "/spec", "value": spec}]
        return self._api.patch(LEASE, self._namespace, self._name, operations, version=claim.version)

    def _spec(self, acquired: str | None, transitions: int) -> dict[str, Any]:
        renewed = _time(self._wall)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(DURATION_S),
            "acquireTime": acquired or renewed,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        }


def _claim(found: Mapping[str, Any]) -> Claim:
    spec = found.get("spec") or {}
    return Claim(
        holder=spec.get("holderIdentity") or "",
        duration_s=float(spec.get("leaseDurationSeconds") or DURATION_S),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquired=spec.get("acquireTime"),
        version=str(found["metadata"]["resourceVersion"]),
    )


def _time(wall: Clock) -> str:
    return wall.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
