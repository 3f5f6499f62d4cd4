"""One seed: the real controller as a platform drives it, in a world where things fail by schedule.

The platform's turn is that of the local loop: what people ordered, what was submitted, a look, the queue. A crash is
an exception at a boundary; what comes after it is a new process on what the old one left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from serving.release import engine
from serving.release.controller import Conflict, ReleaseController
from serving.release.evidence import Evidence
from serving.release.journal.mailbox import Order
from serving.release.journal.store import Entry, Record
from serving.release.release import BlueGreen, Experiment, Release
from serving.release.simulation import faults, scenario
from serving.release.simulation.boundaries import Boundaries, Crash, Side
from serving.release.simulation.faults import Fault
from serving.release.simulation.gateway import Gateway, Wire
from serving.release.simulation.invariants import Violation, Watch
from serving.release.simulation.leadership import Leadership
from serving.release.simulation.metrics import Source
from serving.release.simulation.scenario import CALM, CHAMPION, MODEL, Scenario
from serving.release.simulation.served import Tick, unfair
from serving.release.simulation.store import Disk, MemoryOrders, MemoryStore
from serving.release.simulation.world import TICK, VirtualClock, World
from serving.release.traffic import Traffic, all_to
from windlass.errors import UsageError, WindlassError

START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Outcome:
    """What came of one seed.

    Attributes:
        promised: what the first release had to become; None where nothing was promised.
        kept: whether it did.
        harmful: looks, with clean evidence of harm, until the release was rolled back; None where it never was.
    """

    seed: int
    violations: list[Violation]
    faults: dict[str, int]
    decisions: int
    promised: str | None = None
    kept: bool = True
    ended: str = ""
    log: list[str] = field(default_factory=list)


class Process:
    """One process of the platform: everything in it is lost when it dies."""

    def __init__(self, disk: Disk, wire: Wire, leadership: Leadership, clock: VirtualClock) -> None:
        lease = leadership.take()
        self.boundaries = Boundaries()
        gateway = Gateway(wire, self.boundaries, lease)
        self.controller = ReleaseController(
            MemoryStore(disk, self.boundaries, lease),
            gateway,
            clock,
            set_champion=gateway.set_champion,
            commands=MemoryOrders(disk, self.boundaries, lease),
        )


def play(seed: int, *, keep_log: bool = False) -> Outcome:
    """Simulate one seed; the same seed gives the same log."""
    return Run(scenario.draw(seed), keep_log=keep_log).play()


class Run:
    """The state of one seed's simulation."""

    def __init__(self, drawn: Scenario, *, keep_log: bool = False) -> None:
        self._scenario = drawn
        self._keep_log = keep_log
        self._log: list[str] = []
        self._rng = np.random.default_rng(drawn.seed)
        self._clock = VirtualClock(START)
        self._disk, self._leadership = Disk(), Leadership()
        self._wire = Wire(routes={MODEL: all_to(CHAMPION)}, champions={MODEL: CHAMPION})
        releases = [drawn.release, *(wish.release for wish in drawn.wishes if wish.release is not None)]
        self._releases = {release.name: release for release in releases}
        if drawn.special == "refused":
            self._wire.refuses = frozenset(drawn.release.candidates)
        self._watch = Watch(drawn, self._disk, self._wire, self._releases)
        self._disk.seen = self._on_record
        self._wire.told = self._watch.on_told
        self._wire.changed = self._on_wire
        self._wire.moved = self._watch.on_champion
        self._inbox: list[Release] = [drawn.release]
        self._orders: dict[int, tuple[str, str | None]] = {}
        self._wishes = list(drawn.wishes)
        self._world: World | None = None
        self._source: Source | None = None
        self._reading = ""
        self._promoted_at: dict[str, int] = {}
        self._served: list[Tick] = []
        self._unfair: set[str] = set()
        self._injected: dict[str, int] = {}
        self._tick = 0
        self._failed = False
        self._last: Evidence | None = None
        self._zombie: Process | None = None
        self._process = Process(self._disk, self._wire, self._leadership, self._clock)

    def play(self) -> Outcome:
        drawn, watch = self._scenario, self._watch
        end = drawn.calm_from + CALM
        idle = 0
        while self._tick < end and idle < 3:
            self._one_tick()
            over = not self._inbox and not self._disk.letters and not self._queue() and not self._wishes
            newest = watch.newest
            if self._tick > drawn.calm_from and over and newest is not None and not newest.live:
                idle += 1
        watch.at_end(self._queue(), self._clock.now())
        return self._outcome()

    # --- one tick

    def _one_tick(self) -> None:
        self._tick += 1
        self._watch.tick = self._tick
        self._failed = False
        self._clock.move(TICK)
        now = [fault for fault in self._scenario.faults if fault.begin <= self._tick < fault.end]
        kinds = {fault.kind for fault in now}
        for fault in now:
            if fault.begin == self._tick:
                self._injected[fault.kind] = self._injected.get(fault.kind, 0) + 1
                self._note("fault", fault.kind)
        self._prepare(now)
        if self._world is not None:
            self._world.tick(
                self._wire.routes[MODEL],
                outage="outage" in kinds,
                crooked=self._scenario.special == "crooked",
            )
            self._serve(self._world, outage="outage" in kinds)
        self._wish()
        if "watchGone" in kinds:
            return
        metric = next((fault for fault in now if fault.kind in faults.METRICS), None)
        calm = not now and not self._process.boundaries.armed
        self._turn(metric)
        if "duplicatedEvent" in kinds:
            self._again()
        if "reorderedEvents" in kinds:
            self._stale_events()
        if calm and not self._failed:
            self._watch.after_calm_turn(self._queue())
        elif calm and self._scenario.special != "refused":
            self._watch.require(False, "nothing fails without a cause", f"{self._log_of_failure}")

    def _prepare(self, now: list[Fault]) -> None:
        wire, kinds = self._wire, {fault.kind for fault in now}
        mode = [fault.kind for fault in now if fault.kind in faults.ROUTER]
        wire.mode = mode[-1] if mode else "well"  # type: ignore[assignment]
        wire.registry_down = "registryDown" in kinds
        self._disk.full = "diskFull" in kinds
        for fault in now:
            if fault.begin != self._tick:
                continue
            if fault.kind in ("crash", "crashTwice"):
                self._arm(fault.number)
                self._twice = fault.kind == "crashTwice"
            elif fault.kind == "lostLeadership":
                self._zombie = self._process
                self._restart("lost leadership")
            elif fault.kind == "clockForward":
                self._clock.move(timedelta(minutes=1 + fault.number % 40))
            elif fault.kind == "clockBackward":
                self._clock.move(-timedelta(minutes=1 + fault.number % 15))
            elif fault.kind == "drift":
                self._drift(fault.number)

    def _arm(self, number: int) -> None:
        side: Side = "before" if number % 2 else "after"
        self._process.boundaries.die(1 + (number // 2) % 7, side)

    def _drift(self, number: int) -> None:
        """Somebody else changes the weights."""
        told = self._watch.newest
        if told is None or not told.live or told.phase == "Pending":
            return
        share = 1 + number % 99
        versions = {told.champion: share, told.release.candidate: 100 - share}
        self._wire.put(MODEL, all_to(told.champion) if number % 3 == 0 else Traffic(versions))

    def _wish(self) -> None:
        while self._wishes and self._wishes[0].tick <= self._tick:
            wish = self._wishes.pop(0)
            if wish.release is not None:
                self._inbox.append(wish.release)
                self._note("submitted", wish.release.name)
            elif wish.command is not None:
                order = Order(MODEL, wish.command, "ada", self._clock.now().isoformat(), wish.to)  # type: ignore[arg-type]
                self._orders[self._disk.send(order)] = (wish.command, wish.to)
                self._note("ordered", wish.command)
                if self._tick < self._scenario.calm_from and self._scenario.seed % 3:
                    # people's orders are few, and what a crash makes of one must be seen
                    self._injected["crash"] = self._injected.get("crash", 0) + 1
                    self._arm(2 * (self._scenario.seed % 5) + self._tick % 2)

    # --- what a platform does

    def _turn(self, metric: Fault | None) -> None:
        phase, alone = self._phase(), len(self._orders) == 1
        self._watch.turn_begins()
        evidence = self._look(metric)
        zombie, self._zombie = self._zombie, None
        if zombie is not None:
            self._haunt(zombie, evidence)
        for _ in range(4):
            try:
                self._platform(evidence)
            except Crash as crash:
                self._failed = True
                self._restart(str(crash))
                continue
            break
        self._settle_orders(phase, alone)

    def _platform(self, evidence: Evidence | None) -> None:
        controller = self._process.controller
        if not self._try("orders", controller.obey_commands):
            return
        for release in list(self._inbox):
            if self._start(release):
                self._inbox.remove(release)
        if controller.live(MODEL) is not None:
            # what was read before a release began, or before a crash, may be of another
            seen = evidence if self._reading == self._name() and evidence is self._last else self._look(None)
            if seen is not None and self._try("look", lambda: controller.observe(MODEL, seen)):
                self._watch.on_look(seen, clean=self._clean)
        elif not self._try("settle", lambda: controller.settle(MODEL)):
            return
        waiting: list[Release] = []
        self._try("queue", lambda: waiting.extend(filter(None, [controller.next_queued(MODEL)])))
        for queued in waiting:
            self._start(queued)

    def _look(self, metric: Fault | None) -> Evidence | None:
        if self._world is None or self._source is None:
            return None
        self._reading = self._name()
        evidence, self._clean = self._source.read(self._world.evidence(self._clock.now()), metric)
        self._last = evidence
        return evidence

    def _start(self, release: Release) -> bool:
        """Whether the document needs no second try."""
        controller = self._process.controller
        try:
            decision = controller.start(release, self._wire.champions[MODEL])
        except (Conflict, UsageError) as error:
            self._note("refused", f"{release.name}: {error}")
            return True
        except WindlassError as error:
            self._fail("start", error)
            return False
        if decision.reason.startswith("queued"):
            self._watch.on_queued(release.name)
        self._note("start", f"{release.name}: {decision.action}: {decision.reason}")
        return True

    def _again(self) -> None:
        """The same events once more: the document, and the same evidence."""
        try:
            told = self._watch.newest
            if told is not None and told.live:
                self._start(told.release)
                if self._last is not None and self._reading == self._name():
                    last = self._last
                    self._try("look", lambda: self._process.controller.observe(MODEL, last))
        except Crash as crash:
            self._restart(str(crash))

    def _stale_events(self) -> None:
        """A document that was dealt with long ago arrives once more."""
        for told in self._watch.told[:1]:
            try:
                self._start(told.release)
            except Crash as crash:
                self._restart(str(crash))

    def _haunt(self, zombie: Process, evidence: Evidence | None) -> None:
        """A process that does not know that it leads no longer: nothing of what it does may happen."""
        before = (
            len(self._watch.told),
            self._watch.decisions,
            self._wire.routes[MODEL],
            dict(self._wire.champions),
        )
        for attempt in (
            zombie.controller.recover,
            lambda: zombie.controller.observe(MODEL, evidence or Evidence(self._clock.now())),
            lambda: zombie.controller.command(MODEL, "rollback"),
        ):
            try:
                attempt()
            except (WindlassError, Crash):
                continue
        after = (
            len(self._watch.told),
            self._watch.decisions,
            self._wire.routes[MODEL],
            dict(self._wire.champions),
        )
        self._watch.require(before == after, "one leader", "a process that leads no longer changed something")

    def _restart(self, why: str) -> None:
        """A new process, as a platform starts it; it may die while it does."""
        self._note("restart", why)
        for _ in range(4):
            self._process = Process(self._disk, self._wire, self._leadership, self._clock)
            if self._twice:
                self._twice = False
                self._process.boundaries.die(1 + self._tick % 5, "before" if self._tick % 2 else "after")
            try:
                if self._try("orders", self._process.controller.obey_commands):
                    self._try("recover", self._process.controller.recover)
                return
            except Crash as crash:
                self._note("restart", str(crash))

    _twice = False
    _clean = False
    _log_of_failure = ""

    def _try(self, what: str, act: Callable[[], object]) -> bool:
        try:
            found = act()
        except WindlassError as error:
            self._fail(what, error)
            return False
        if self._keep_log and found is not None:
            self._note(what, str(getattr(found, "action", found if isinstance(found, str) else "")))
        return True

    def _fail(self, what: str, error: WindlassError) -> None:
        self._failed = True
        self._log_of_failure = f"{what}: {type(error).__name__}: {error}"
        self._note("failed", self._log_of_failure)

    def _settle_orders(self, phase: str | None, alone: bool) -> None:
        """Hold what became of the orders that left the mailbox in this turn against the phase that they met."""
        for token in sorted(set(self._orders) - set(self._disk.letters)):
            command, to = self._orders.pop(token)
            if alone:
                self._watch.obeyed(command, to, phase)

    # --- what is followed

    def _on_record(self, entry: Entry, record: Record) -> None:
        if self._keep_log:
            self._note("journal", json.dumps(record, allow_nan=False))
        newest = self._watch.newest
        before = None if newest is None else newest.last
        if (
            record.get("action") == "roll_back"
            and before is not None
            and unfair(self._served, before, record)
        ):
            self._unfair.add(entry.name)
        self._watch.on_record(entry, record)
        if record.get("action") == "promote" and self._world is not None:
            self._promoted_at[entry.name] = self._world.age
        if record["kind"] == "release":
            self._begin(self._releases[entry.name], record["champion"])

    def _on_wire(self, model: str, shown: object) -> None:
        traffic = self._wire.routes[model]
        if self._keep_log:
            self._note("wire", json.dumps(dict(traffic.weights)))
        self._watch.on_wire(model, traffic)

    def _begin(self, release: Release, champion: str) -> None:
        drawn, strategy = self._scenario, release.strategy
        first = release.name == drawn.release.name
        self._world = World(
            drawn.behaviours,
            champion,
            release.candidates,
            self._rng,
            drawn.rewards,
            onset=drawn.onset if first else 0,
            units=isinstance(strategy, Experiment),
            smoke=len(strategy.smoke) if isinstance(strategy, BlueGreen) else 0,
        )
        self._source = Source(release, drawn.missing if first else None)
        self._reading = ""  # what was read before is of another release
        self._served.clear()

    def _serve(self, world: World, *, outage: bool) -> None:
        newest = self._watch.newest
        if newest is not None and newest.last is not None:
            drifted = dict(self._wire.routes[MODEL].weights) != newest.last["weights"]
            self._served.append(Tick(sum(arm.requests for arm in world.arms.values()), drifted, outage))

    def _phase(self) -> str | None:
        newest = self._watch.newest
        return None if newest is None else newest.phase

    def _name(self) -> str:
        newest = self._watch.newest
        return "" if newest is None else newest.entry.name

    def _queue(self) -> list[str]:
        return [name for name, _ in self._disk.queues.get(MODEL, ())]

    def _note(self, kind: str, text: str) -> None:
        if self._keep_log:
            self._log.append(f"{self._tick:4d} {self._clock.now():%d %H:%M} {kind}: {text}")

    def _outcome(self) -> Outcome:
        drawn, watch = self._scenario, self._watch
        name = drawn.release.name
        promised = drawn.promises(name)
        phases = {told.entry.name: told.phase for told in watch.told}
        first = next((told for told in watch.told if told.entry.name == name), None)
        if (
            first is not None
            and first.phase == "Aborted"
            and first.last
            and first.last["check"] == engine.BACKEND
        ):
            promised = None  # the router refused it so often that giving up was right
        if drawn.onset and self._promoted_at.get(name, 1000) <= drawn.onset + 2:
            promised = None  # it did no harm yet, or for less than two looks
        if promised == "Promoted" and name in self._unfair:
            promised = None  # it looked worse than it was
        if drawn.special in ("misspelled", "crooked", "refused", "bothFail", "stuck"):
            self._injected[drawn.special] = 1
        return Outcome(
            drawn.seed,
            watch.violations,
            self._injected,
            watch.decisions,
            promised,
            promised is None or phases.get(name) == promised,
            phases.get(name, ""),
            self._log,
        )
