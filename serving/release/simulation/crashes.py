"""A crash at every boundary of one release, one after the other: each must end as the run without a crash.

A calm run is recorded first, with the evidence of each look. It is then played again as often as there are calls that
leave the engine, dying before or after one of them; what a new process makes of the same evidence must be the same
decisions, the same traffic and the same champion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from serving.release.controller import ReleaseController
from serving.release.evidence import Evidence
from serving.release.journal.mailbox import Order
from serving.release.journal.store import Entry, Record, Store
from serving.release.release import BlueGreen, Experiment, Release
from serving.release.simulation.boundaries import Boundaries, Crash, Side
from serving.release.simulation.gateway import Gateway, Wire
from serving.release.simulation.leadership import Leadership, Lease
from serving.release.simulation.run import START
from serving.release.simulation.scenario import CHAMPION, MODEL
from serving.release.simulation.store import Disk, MemoryOrders, MemoryStore
from serving.release.simulation.world import TICK, Behaviour, Rewards, VirtualClock, World
from serving.release.traffic import all_to

#: Ticks after which a calm run must be over.
LAST = 80


@dataclass(frozen=True)
class Moment:
    """One turn of the platform: what it looked at, and what a person ordered just before."""

    evidence: Evidence
    order: Order | None = None


@dataclass(frozen=True)
class Script:
    """A release and everything that came to it from outside."""

    release: Release
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class Ending:
    """What became of it.

    Attributes:
        decisions: their records.
        calls: that left the engine, by name.
    """

    decisions: list[Record]
    weights: dict[str, int]
    champion: str
    confirmed: bool
    calls: list[str] = field(default_factory=list, compare=False)


Stores = Callable[[Boundaries, Lease], Store]
"""Opens the store of a new process; what an earlier one wrote is there."""


class BoundedStore:
    """Any store, with a boundary at each of its writes."""

    def __init__(self, store: Store, boundaries: Boundaries) -> None:
        self._store = store
        self._boundaries = boundaries

    def models(self) -> list[str]:
        return self._store.models()

    def entries(self, model: str) -> list[Entry]:
        return self._store.entries(model)

    def records(self, entry: Entry) -> Iterator[Record]:
        return self._store.records(entry)

    def append(self, entry: Entry, record: Record) -> None:
        self._boundaries.cross(f"append {record['kind']}", lambda: self._store.append(entry, record))

    def enqueue(self, model: str, name: str, document: Record, at: datetime) -> None:
        self._boundaries.cross("enqueue", lambda: self._store.enqueue(model, name, document, at))

    def queued(self, model: str) -> list[tuple[str, Record]]:
        return self._store.queued(model)

    def dequeue(self, model: str, name: str) -> None:
        self._boundaries.cross("dequeue", lambda: self._store.dequeue(model, name))

    def close(self) -> None:
        self._store.close()


def in_memory() -> Stores:
    """Stores on one disk in memory."""
    disk = Disk()
    return lambda boundaries, lease: MemoryStore(disk, boundaries, lease)


def write(
    release: Release,
    behaviours: dict[str, Behaviour],
    orders: dict[int, str],
    seed: int = 1,
    rewards: str = "binary",
) -> Script:
    """Live through a release without a crash, and note what came from outside.

    Args:
        orders: tick -> a person's command; counted from the end of the release where it is negative.
    """
    stage = _Stage(release, in_memory(), None)
    world = World(
        behaviours,
        CHAMPION,
        release.candidates,
        np.random.default_rng(seed),
        Rewards(rewards),
        units=isinstance(release.strategy, Experiment),
        smoke=len(release.strategy.smoke) if isinstance(release.strategy, BlueGreen) else 0,
    )
    moments: list[Moment] = []
    ended = 0
    for tick in range(1, LAST):
        world.tick(stage.wire.routes[MODEL])
        at = START + tick * TICK
        wanted = orders.get(tick)
        if ended:
            wanted = wanted or orders.get(ended - tick)
        order = None if wanted is None else Order(MODEL, wanted, "ada", at.isoformat())  # type: ignore[arg-type]
        moments.append(Moment(world.evidence(at), order))
        stage.turn(moments[-1])
        if not stage.live and not ended:
            ended = tick
        if ended and tick >= ended + 3:
            return Script(release, tuple(moments))
    raise ValueError(f"release {release.name!r} is not over after {LAST} ticks; give a shorter one")


def play(script: Script, stores: Stores, fatal: tuple[int, Side] | None = None) -> Ending:
    """Live through it again; the process dies at call `fatal` (from 1), before or after it is done."""
    stage = _Stage(script.release, stores, fatal)
    for moment in script.moments:
        stage.turn(moment)
    return stage.ending()


class _Stage:
    def __init__(self, release: Release, stores: Stores, fatal: tuple[int, Side] | None) -> None:
        self._release = release
        self._stores = stores
        self._leadership = Leadership()
        self._mailbox = Disk()
        self._clock = VirtualClock(START)
        self._boundaries = Boundaries(keep=True)
        if fatal is not None:
            self._boundaries.die(*fatal)
        self.wire = Wire(routes={MODEL: all_to(CHAMPION)}, champions={MODEL: CHAMPION})
        self._begun = False
        self._open()

    @property
    def live(self) -> bool:
        return self._controller.live(MODEL) is not None

    def turn(self, moment: Moment) -> None:
        self._clock.move(moment.evidence.at - self._clock.now())
        if moment.order is not None:
            self._mailbox.send(moment.order)
        try:
            self._platform(moment.evidence)
        except Crash:
            self._store.close()
            self._open()
            self._controller.obey_commands()
            self._controller.recover()
            self._platform(moment.evidence)

    def ending(self) -> Ending:
        entry = self._store.entries(MODEL)[-1]
        records: list[Any] = list(self._store.records(entry))
        decisions = [record for record in records if record["kind"] == "decision"]
        acted = [record["seq"] for record in decisions if record["acts"]]
        confirmed = {record["seq"] for record in records if record["kind"] == "confirmed"}
        self._store.close()
        return Ending(
            decisions,
            dict(self.wire.routes[MODEL].weights),
            self.wire.champions[MODEL],
            acted[-1] in confirmed,
            self._boundaries.names,
        )

    def _open(self) -> None:
        lease = self._leadership.take()
        self._store = self._stores(self._boundaries, lease)
        gateway = Gateway(self.wire, self._boundaries, lease)
        self._controller = ReleaseController(
            self._store,
            gateway,
            self._clock,
            set_champion=gateway.set_champion,
            commands=MemoryOrders(self._mailbox, self._boundaries, lease),
        )

    def _platform(self, evidence: Evidence) -> None:
        self._controller.obey_commands()
        if not self._begun:
            self._controller.start(self._release, CHAMPION)
            self._begun = True
        if self.live:
            self._controller.observe(MODEL, evidence)
        else:
            self._controller.settle(MODEL)
