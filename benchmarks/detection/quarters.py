"""Nothing injected: how often does it ring? An alarm is a column that begins to ring, however long it then does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.detection.contenders import (
    Contender,
    Distances,
    Evidently,
    KolmogorovSmirnov,
    Ours,
    Sample,
)
from benchmarks.detection.worlds import QUARTER_WEEKS, World

SEEN_BY_EVIDENTLY = "evidently preset"


@dataclass
class Alarms:
    """Of one contender.

    Attributes:
        quarters: alarms of each quarter, over all columns and looks.
        looks_ringing: looks at which anything rang, among `looks`.
        calls: of each quarter, looks at which any column began to ring: what a person is called by. A detector that
            rings for ever calls once, and then finds nothing: see `changes`, where what rang before is no find.
        columns: alarms of each column.
    """

    quarters: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    looks: int = 0
    looks_ringing: int = 0
    columns: Counter[str] = field(default_factory=Counter)

    def add(self, other: Alarms) -> None:
        self.quarters += other.quarters
        self.calls += other.calls
        self.looks += other.looks
        self.looks_ringing += other.looks_ringing
        self.columns += other.columns


@dataclass(frozen=True)
class Asked:
    """How many quarters each contender sees in one world."""

    ours: int
    distances: int
    ks: int
    evidently: int


def run(world: World, asked: Asked, seed: list[int]) -> dict[str, Alarms]:
    """Let every contender watch its quarters; each contender sees the same ones, the slow ones fewer."""
    sample = Sample.of(world, np.random.default_rng([*seed, 1]))
    makers: dict[str, tuple[int, Callable[[], Contender]]] = {
        "windlass": (asked.ours, lambda: Ours(world)),
        "evidently's distances": (asked.distances, lambda: Distances(sample)),
        "KS p<0.05": (asked.ks, lambda: KolmogorovSmirnov(sample)),
        SEEN_BY_EVIDENTLY: (asked.evidently, lambda: Evidently(sample)),
    }
    out = {name: Alarms() for name in makers}
    for k in range(max(count for count, _ in makers.values())):
        for name, (count, make) in makers.items():
            if k < count:
                _watch(make(), world, np.random.default_rng([*seed, 2, k]), out[name])
    return out


def _watch(contender: Contender, world: World, rng: np.random.Generator, into: Alarms) -> None:
    before: frozenset[str] = frozenset()
    alarms = calls = 0
    for block in world.quarter(rng, QUARTER_WEEKS):
        ringing = contender.look(block)
        new = ringing - before
        alarms += len(new)
        calls += bool(new)
        into.columns.update(new)
        into.looks += 1
        into.looks_ringing += bool(ringing)
        before = ringing
    into.quarters.append(alarms)
    into.calls.append(calls)
