"""The trigger that is always there: it takes notices, and at each turn goes on with what is open.

A notice is journaled with the decision about it before its sender hears that it was taken. Everything else, the
submission of runs included, happens in turns: what a turn could not do, the next one does, in this process or in one
that was started after it was killed.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from monitoring.retrain import clock
from monitoring.retrain.clock import Reading
from monitoring.retrain.following import Platform, follow
from monitoring.retrain.journal import Trigger
from monitoring.retrain.service.notice import Notice, RunEnded, Word
from monitoring.retrain.signals import Signal, incident
from windlass.errors import UsageError, WindlassError

#: As whose runs those are counted that name a workload which nobody watches.
UNKNOWN_WORKLOAD = "unknown"

Say = Callable[[str], None]


class PolicySource(Protocol):
    """Where policies come from that change while the service runs."""

    def refresh(self) -> None:
        """Take up what has changed; called at the beginning of each turn."""

    def said(self) -> dict[str, Any]:
        """What is in force."""


@dataclass(frozen=True)
class Watched:
    """The trigger of one workload, and what is around it."""

    trigger: Trigger
    platform: Platform

    def standing(self) -> dict[str, Any]:
        """What a decision takes of the platform.

        Raises:
            WindlassError: it cannot be known now; nothing may be decided.
        """
        try:
            return {
                "live_release": self.platform.live_release(),
                "data_quality_failed": self.platform.data_refused(),
                "champion": self.platform.champion(),
            }
        except WindlassError:
            raise
        except Exception as error:  # a registry fails in its libraries' own ways
            said = str(error).partition("\n")[0]
            raise WindlassError(
                f"{self.trigger.workload}: champion and releases cannot be asked: {said}; send it again later"
            ) from error


class Service:
    """Triggers of several workloads.

    Args:
        watched: by workload.
        read: gives both clocks; see `clock.read`.
        say: told in sentences of what happened.
        follow_every_s: how often runs and releases are asked for, by the clock that nobody sets.
        policies: what they are decided under, where that may change; see `PolicySource`.
    """

    def __init__(
        self,
        watched: Mapping[str, Watched],
        say: Say,
        *,
        read: Callable[[], Reading] = clock.read,
        follow_every_s: float = 1.0,
        policies: PolicySource | None = None,
    ) -> None:
        self.watched = watched
        self._read = read
        self._say = say
        self._follow_every_s = follow_every_s
        self._policies = policies
        #: runs of Kubeflow that were told to have ended, by (workload, state)
        self.ended: Counter[tuple[str, str]] = Counter()
        self._followed: dict[str, float] = {}
        self._scheduled: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._running: dict[str, frozenset[str]] = {}
        self._turning = threading.Lock()

    def running(self, workload: str) -> frozenset[str]:
        """Triggers whose runs were seen to go on."""
        return self._running.get(workload, frozenset())

    def now(self) -> Reading:
        """Where the clocks stand."""
        return self._read()

    def say(self, text: str) -> None:
        """Tell what happened; a log that finds no room must not end the turns."""
        with contextlib.suppress(OSError):
            self._say(text)

    # --- what is sent

    def unknown(self, notices: Sequence[Notice | Word]) -> tuple[str, ...]:
        """What is wrong with notices and words about workloads that are not watched here."""
        known = ", ".join(sorted(self.watched)) or "none"
        strange = dict.fromkeys(n.workload for n in notices if n.workload not in self.watched)
        return tuple(f"workload {name!r} is not watched here; known: {known}" for name in strange)

    def take(self, notices: Sequence[Notice]) -> tuple[dict[str, Any], ...]:
        """Journal notices and decide about them; returns once each is on the disk.

        Raises:
            UsageError: a workload is not known here; nothing was journaled.
            WindlassError: something cannot be journaled or known now; the others are journaled, and may be sent again.
        """
        strange = self.unknown(notices)
        if strange:
            raise UsageError(strange[0])
        told: dict[int, dict[str, Any]] = {}
        failed: WindlassError | None = None
        # broken data is heard of first: one analysis finds it and the drift that it looks like, in whatever order
        for i in sorted(range(len(notices)), key=lambda i: notices[i].kind != "dataQuality"):
            try:
                told[i] = self._take(notices[i])
            except WindlassError as error:  # one workload's trouble is not another's
                failed = failed or error
        if failed is not None:
            raise failed
        return tuple(told[i] for i in range(len(notices)))

    def _take(self, notice: Notice) -> dict[str, Any]:
        watched = self.watched[notice.workload]
        trigger, reading = watched.trigger, self._read()
        told = {"workload": notice.workload, "kind": notice.kind}
        self._watch(trigger, reading)
        if notice.ended is not None:
            about = notice.champion or ""
            trigger.clear(notice.kind, about, notice.since, notice.ended, reading.at, notice.fingerprint)
            return {**told, "accepted": False, "rule": "ended", "reason": "journaled: it has ended"}
        cause = notice.cause or incident(notice.kind, notice.champion or "", trigger.history())
        signal = Signal(
            notice.kind,
            cause,
            notice.since,
            notice.detail,
            champion=notice.champion,
            override=notice.override,
        )
        decision = trigger.offer(signal, reading.at, **watched.standing(), hand_over=False)
        return {
            **told,
            "cause": cause,
            "accepted": decision.accepted,
            "held": decision.held,
            "rule": decision.rule,
            "reason": decision.reason,
            "trigger": decision.trigger,
        }

    def hear(self, words: Sequence[Word]) -> tuple[str, ...]:
        """Journal what a person says, and say in sentences what it did; what was held back is decided at the next turn.

        Raises:
            UsageError: a trigger that is given up is not open.
            WindlassError: it cannot be journaled now.
        """
        said: list[str] = []
        for word in words:
            trigger, now = self.watched[word.workload].trigger, self._read().at
            if word.trigger is None:
                ended = trigger.repaired(now)
                said.append(
                    f"{word.workload}: {ended} alerts about its data count as ended: said by {word.by}"
                )
            else:
                trigger.give_up(word.trigger, now, word.by)
                said.append(f"{word.trigger} is given up by {word.by}")
            self.say(said[-1])
        return tuple(said)

    def run_ended(self, ended: RunEnded) -> None:
        """Take an exit task's word. A run of ours is asked for at the next turn: the word alone closes nothing."""
        known = ended.workload if ended.workload in self.watched else UNKNOWN_WORKLOAD
        self.ended[known, ended.state] += 1
        self._followed.pop(ended.workload, None)
        if ended.state != "SUCCEEDED":
            why = f": {ended.error}" if ended.error else ""
            self.say(f"{ended.workload}: run {ended.run} ended {ended.state}{why}")

    def account(self) -> dict[str, Any]:
        """What is in force, and the newest trigger and decision of each workload, for who shows them."""
        said: dict[str, Any] = {} if self._policies is None else self._policies.said()
        return {**said, "workloads": {name: w.trigger.newest() for name, w in sorted(self.watched.items())}}

    # --- what is done by itself

    def turn(self) -> None:
        """Go on with everything that is open; what fails is said once and tried again at the next turn."""
        with self._turning:
            if self._policies is not None:
                self._policies.refresh()
            for name, watched in self.watched.items():
                for part in (self._clocks, self._submit, self._follow, self._schedule, self._reconsider):
                    key = f"{name}/{part.__name__}"
                    try:
                        part(watched)
                        self._said.pop(key, None)
                    except Exception as error:  # one workload's trouble is not another's
                        text = f"{name}: {type(error).__name__}: {error}".partition("\n")[0]
                        if self._said.get(key) != text:
                            self.say(f"{text}; tried again at every turn")
                        self._said[key] = text

    def _clocks(self, watched: Watched) -> None:
        self._watch(watched.trigger, self._read())

    def _watch(self, trigger: Trigger, reading: Reading) -> None:
        ahead = trigger.watch(reading)
        if ahead:
            way = "forward" if ahead > timedelta(0) else "back"
            self.say(f"{trigger.workload}: the wall clock was set {way} by {abs(ahead)}")

    def _submit(self, watched: Watched) -> None:
        for name in watched.trigger.recover(self._read().at):
            self.say(f"{name} is submitted")

    def _follow(self, watched: Watched) -> None:
        name, reading = watched.trigger.workload, self._read()
        if reading.steady < self._followed.get(name, reading.steady):
            return
        self._followed[name] = reading.steady + self._follow_every_s
        for said in follow(watched.trigger, watched.platform, reading.at):
            self.say(said)
        open_ = (t.id for t in watched.trigger.history() if t.submitted and not t.finished)
        self._running[name] = frozenset(open_)

    def _schedule(self, watched: Watched) -> None:
        """A retraining that is due because there was none for so long."""
        trigger, reading = watched.trigger, self._read()
        every, state = trigger.policy.schedule, trigger.state()
        if every is None or state.first is None:
            return
        newest = max(state.past, key=lambda past: past.at, default=None)
        passed = reading.at - state.first if newest is None else newest.elapsed(reading.at)
        cause = f"schedule/{'start' if newest is None else newest.id}"
        if (
            passed < every
            or cause in state.held
            or reading.steady < self._scheduled.get(cause, reading.steady)
        ):
            return
        # what was refused for good is asked again when it would be due again
        self._scheduled[cause] = reading.steady + every.total_seconds()
        signal = Signal("schedule", cause, reading.at, {"every_hours": every / timedelta(hours=1)})
        trigger.offer(signal, reading.at, **watched.standing(), hand_over=False)

    def _reconsider(self, watched: Watched) -> None:
        trigger = watched.trigger
        if trigger.state().held:
            for decision in trigger.reconsider(self._read().at, **watched.standing()):
                self.say(f"{trigger.workload}: held until now: {decision.reason}")
        # what was accepted, here or by a notice, begins at once
        self._submit(watched)
