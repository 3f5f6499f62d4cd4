"""Random schedules of signals, crashes and clock jumps through the real trigger, and what must hold whatever comes.

The journal is a real file; what is made up is the world around it: two clocks, a model with releases, and a backend
that runs pipelines and looks a name up before it creates a run. A crash is an exception that nothing catches, at any
boundary of a write or of a submission; what comes after it is a new process. The invariants are counted from the
journal's lines by code of their own.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring.retrain import journal as trigger_journal
from monitoring.retrain.clock import Reading
from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import KINDS, Signal, incident
from windlass.contract import RetrainPolicy
from windlass.journal import Journal

START = datetime(2013, 6, 1, tzinfo=UTC)
MODEL = "flights"
DAY = timedelta(days=1)
TOLERANCE = timedelta(minutes=1)
INCIDENTS = ("featureDrift", "predictionDrift", "performanceDecay")


class CrashError(BaseException):
    """The process dies here."""


class Fuse:
    """Blows at the boundary it was set to, counted from when it was set."""

    def __init__(self) -> None:
        self.left: int | None = None

    def boundary(self) -> bool:
        """Whether to die now."""
        if self.left is None:
            return False
        self.left -= 1
        if self.left >= 0:
            return False
        self.left = None
        return True


@contextlib.contextmanager
def crashing(fuse: Fuse) -> Iterator[None]:
    """Journals whose writes are boundaries: before a line, in the middle of it, after it."""

    class Crashing(Journal):
        def append(self, record: Mapping[str, Any]) -> None:
            if fuse.boundary():
                raise CrashError
            if fuse.boundary():
                torn = json.dumps(record).encode()
                self._file.write(torn[: len(torn) // 2])
                raise CrashError
            super().append(record)
            if fuse.boundary():
                raise CrashError

    before = trigger_journal.Journal
    trigger_journal.Journal = Crashing  # type: ignore[misc]
    try:
        yield
    finally:
        trigger_journal.Journal = before  # type: ignore[misc]


@dataclass
class Backend:
    """Where runs are; it outlives every process."""

    fuse: Fuse
    running: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    created: Counter[str] = field(default_factory=Counter)

    def submit(self, name: str, signal: Signal) -> str:
        if self.fuse.boundary():
            raise CrashError
        if name not in self.running | self.ended:
            self.created[name] += 1
            self.running.add(name)
        if self.fuse.boundary():
            raise CrashError
        return f"run/{name}"


@dataclass(frozen=True)
class Fact:
    """How things stood when a line of the journal was written."""

    live: bool
    broken: bool
    champion: str
    true_at: float


class Schedule:
    """One random life of a trigger. `run` raises AssertionError where an invariant breaks."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._random = chance = random.Random(seed)
        self._path = folder / f"{seed}.jsonl"
        self.policy = RetrainPolicy(
            cooldown=timedelta(minutes=chance.choice((0, 30, 600, 1440, 4000))),
            per_day=chance.randint(1, 3),
            concurrency=chance.randint(1, 2),
            escalate_after=chance.randint(1, 3),
            new_rows=chance.choice((None, None, 100.0)),
            signals=KINDS if chance.random() < 0.7 else tuple(k for k in KINDS if k != chance.choice(KINDS)),
        )
        self._fuse = Fuse()
        self._backend = Backend(self._fuse)
        self._true = 0.0
        self._offset = 0.0
        self._boot, self._booted = "a", 0.0
        self._restarts = seed % 2
        self._live = self._broken = False
        self._champion = 1
        self._sent: list[Signal] = []
        self._facts: list[Fact] = []
        self._answered = 0
        self.crashes = self.jumps = 0
        self._processes = [self._process(), self._process()]

    # --- the world

    def _process(self) -> Trigger:
        return Trigger(MODEL, self.policy, self._path, self._backend.submit, durable=False)

    def _now(self) -> datetime:
        return START + timedelta(seconds=self._true + self._offset)

    def _watch(self, trigger: Trigger) -> None:
        trigger.watch(Reading(self._now(), self._boot, self._true - self._booted))

    def _standing(self) -> dict[str, Any]:
        return {
            "live_release": self._live,
            "data_quality_failed": self._broken,
            "champion": str(self._champion),
        }

    def _offer(self, signal: Signal) -> None:
        trigger = self._random.choice(self._processes)
        self._watch(trigger)
        hand_over = self._random.random() < 0.5
        trigger.offer(signal, self._now(), **self._standing(), hand_over=hand_over)
        self._answered += 1

    def _follow(self) -> None:
        trigger = self._random.choice(self._processes)
        self._watch(trigger)
        trigger.recover(self._now())
        for past in trigger.history():
            if past.id in self._backend.ended and not past.finished:
                trigger.finished(past.id, self._now(), version="9", seconds=60.0)
            elif past.finished and past.helped is None:
                helped = self._random.random() < 0.5
                trigger.resolved(past.id, self._now(), helped=helped, reason="judged")
                self._champion += helped

    def _reconsider(self) -> None:
        trigger = self._random.choice(self._processes)
        self._watch(trigger)
        trigger.reconsider(self._now(), **self._standing())

    # --- what happens

    def _signal(self) -> None:
        chance, now = self._random, self._now()
        kind = chance.choice((*INCIDENTS, *INCIDENTS, "newData", "schedule", "manual", "dataQuality"))
        at = now - timedelta(minutes=chance.choice((0, 0, 5, 300, 5000)))
        about = str(self._champion if chance.random() < 0.9 else self._champion - 1)
        if kind in INCIDENTS:
            cause = incident(kind, about, self._processes[0].history())
        else:
            cause, about = f"{kind}/{chance.randint(0, 6)}", ""
        detail: dict[str, Any] = {"new_rows": chance.choice((40, 80, 200))} if kind == "newData" else {}
        override = kind == "manual" and chance.random() < 0.3
        signal = Signal(kind, cause, at, detail, override, about or None)  # type: ignore[arg-type]
        self._sent.append(signal)
        self._offer(signal)

    def _again(self) -> None:
        if self._sent:
            self._offer(self._random.choice(self._sent))

    def _clears(self) -> None:
        if self._sent:
            signal = self._random.choice(self._sent)
            kind, _, about = signal.cause.partition("#")[0].partition("/")
            self._processes[0].clear(kind, about, signal.at, self._now(), self._now())

    def _time_passes(self) -> None:
        self._true += 60.0 * self._random.choice((1, 10, 60, 600, 1500, 4100))

    def _clock_is_set(self) -> None:
        self._offset += 60.0 * self._random.choice((-4000, -600, -10, 10, 600, 4000))
        self.jumps += 1

    def _machine_restarts(self) -> None:
        self._boot, self._booted = self._boot + "'", self._true
        self._processes = [self._process(), self._process()]

    def _a_run_ends(self) -> None:
        if self._backend.running:
            name = self._random.choice(sorted(self._backend.running))
            self._backend.running.remove(name)
            self._backend.ended.add(name)

    def _release_turns(self) -> None:
        self._live = not self._live

    def _data_turns(self) -> None:
        self._broken = not self._broken

    def _will_crash(self) -> None:
        self._fuse.left = self._random.randint(0, 7)

    # --- one life

    def run(self, steps: int = 25) -> None:
        acts: tuple[tuple[Callable[[], None], int], ...] = (
            (self._signal, 6),
            (self._again, 3),
            (self._follow, 6),
            (self._reconsider, 4),
            (self._time_passes, 6),
            (self._a_run_ends, 3),
            (self._clears, 1),
            (self._clock_is_set, 2),
            # a jump during a restart is not seen, so that half of the lives have none
            (self._machine_restarts, self._restarts),
            (self._release_turns, 1),
            (self._data_turns, 1),
            (self._will_crash, 3),
        )
        chosen = self._random.choices([a for a, _ in acts], [w for _, w in acts], k=steps)
        with crashing(self._fuse):
            for act in chosen:
                self._does(act)
            self._fuse.left = None
            self._until_nothing_is_held()
        self._check()

    def _does(self, act: Callable[[], None]) -> None:
        fact = Fact(self._live, self._broken, str(self._champion), self._true)
        try:
            act()
        except CrashError:
            self.crashes += 1
            self._processes = [self._process(), self._process()]
        self._written(fact)

    def _written(self, fact: Fact) -> None:
        lines = self._path.read_bytes().count(b"\n") if self._path.exists() else 0
        self._facts += [fact] * (lines - len(self._facts))

    def _until_nothing_is_held(self) -> None:
        """Every hold ends; then everything that was held has to be decided."""
        self._live = self._broken = False
        trigger = self._process()
        self._processes = [trigger]
        for (name, _), signal in list(trigger.state().broken.items()):
            kind, _, about = name.partition("/")
            trigger.clear(kind, about, signal.at, self._now(), self._now())
        ahead = max((t.at for t in trigger.history()), default=START) - self._now()
        self._true += max(0.0, ahead.total_seconds())
        # each round at least one is decided, and what was decided needs a round to end
        for _ in range(4 * (len(trigger.state().held) + 2)):
            if not trigger.state().held and all(past.finished for past in trigger.history()):
                break
            self._true += 86_400.0 * 4
            for part in (self._follow, self._reconsider):
                fact = Fact(False, False, str(self._champion), self._true)
                part()
                self._written(fact)
            for name in list(self._backend.running):
                self._backend.running.remove(name)
                self._backend.ended.add(name)
        # what the last round accepted
        trigger.recover(self._now())
        self._written(Fact(False, False, str(self._champion), self._true))
        left = trigger.state().held
        assert not left, f"held for ever: {sorted(left)}"

    # --- the invariants

    def _check(self) -> None:
        if not self._path.exists():
            return
        # what stands behind the last line's end was never acknowledged
        records = [json.loads(line) for line in self._path.read_bytes().split(b"\n")[:-1]]
        decided = [r for r in records if r["event"] in ("accepted", "refused")]
        assert len(decided) >= self._answered, "a signal that was answered is not in the journal"
        accepted: list[tuple[dict[str, Any], datetime, float]] = []
        opened: set[str] = set()
        outcomes: list[tuple[bool, str]] = []
        in_force: dict[str, str] = {}
        for record, fact in zip(records, self._facts, strict=True):
            if record["event"] == "accepted":
                self._may_begin(record, fact, accepted, len(opened), outcomes)
                accepted.append((record, datetime.fromisoformat(record["at"]), fact.true_at))
                opened.add(record["id"])
                in_force[record["id"]] = fact.champion
            elif record["event"] in ("finished", "resolved"):
                opened.discard(record["id"])
                if record["event"] == "resolved":
                    outcomes.append((record["helped"], in_force[record["id"]]))
        ids = {record["id"] for record, _, _ in accepted}
        assert len(ids) == len(accepted), "two triggers have one name"
        assert set(self._backend.created) == ids, "accepted and never run, or run and never accepted"
        assert all(n == 1 for n in self._backend.created.values()), "a run was started twice"

    def _may_begin(
        self,
        record: dict[str, Any],
        fact: Fact,
        before: list[tuple[dict[str, Any], datetime, float]],
        opened: int,
        outcomes: list[tuple[bool, str]],
    ) -> None:
        at, policy, insists = datetime.fromisoformat(record["at"]), self.policy, record["override"]
        assert record["kind"] != "dataQuality", "trained on broken data"
        assert record["kind"] in policy.signals, "a kind that the policy leaves out"
        assert record["champion"] in (None, fact.champion), "about a version that is no champion"
        assert not fact.live, "begun while a release was live"
        assert not fact.broken, "begun while data quality fails"
        assert record["cause"] not in {r["cause"] for r, _, _ in before}, "a second run of one cause"
        assert opened < policy.concurrency, "more at a time than allowed"
        if not insists:
            assert all(at - earlier >= policy.cooldown for _, earlier, _ in before), "within the cool-down"
            assert all(at >= earlier - TOLERANCE for _, earlier, _ in before), "by a clock that was set back"
            last = outcomes[-policy.escalate_after :]
            vain = len(last) >= policy.escalate_after and not any(helped for helped, _ in last)
            assert not vain or last[-1][1] != fact.champion, "begun although a person must decide"
        recent = [earlier for _, earlier, _ in before if earlier > at - DAY]
        assert len(recent) < policy.per_day, "over the budget of the day"
        if "'" not in self._boot and not insists:
            # while the machine was not started anew, neither may the time that really passed be shorter
            passed = [fact.true_at - true for _, _, true in before]
            assert all(p >= policy.cooldown.total_seconds() for p in passed), "a jump shortened the cool-down"
            assert sum(p < 86_400 for p in passed) < policy.per_day, "a jump widened the budget"
