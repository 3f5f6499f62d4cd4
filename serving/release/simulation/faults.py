"""What goes wrong, and when: a schedule drawn from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

#: Kind of fault -> how often it is drawn, and the most ticks that it lasts.
KINDS: Mapping[str, tuple[int, int]] = {
    # the process
    "crash": (6, 1),
    "crashTwice": (2, 1),
    "lostLeadership": (3, 3),
    "watchGone": (2, 4),
    "duplicatedEvent": (3, 1),
    "reorderedEvents": (2, 1),
    # time
    "clockForward": (1, 1),
    "clockBackward": (2, 1),
    # the router and the API before it
    "conflict": (2, 2),
    "rejected": (2, 2),
    "unreachable": (3, 6),
    "partial": (2, 2),
    "unanswered": (2, 2),
    "disobeyed": (1, 2),
    "stale": (2, 3),
    "drift": (4, 1),
    # what is behind them
    "registryDown": (3, 5),
    "diskFull": (1, 2),
    "outage": (3, 5),
    # the metrics
    "nan": (2, 3),
    "negative": (1, 2),
    "reset": (1, 2),
    "late": (2, 4),
    "partialMetrics": (2, 3),
    "duplicatedMetrics": (2, 2),
    "reorderedMetrics": (2, 1),
    "misspelled": (1, 3),
    "silent": (2, 4),
    "nonsense": (1, 2),
}

ROUTER = ("conflict", "rejected", "unreachable", "partial", "unanswered", "disobeyed", "stale")
METRICS = (
    "nan",
    "negative",
    "reset",
    "late",
    "partialMetrics",
    "duplicatedMetrics",
    "reorderedMetrics",
    "misspelled",
    "silent",
    "nonsense",
)

#: Chance that a fault begins at a tick.
CHANCE = 0.35


@dataclass(frozen=True)
class Fault:
    """One fault, from tick `begin` on and before tick `end`; `number` decides what the kind leaves open."""

    kind: str
    begin: int
    end: int
    number: int


def schedule(rng: random.Random, begin: int, end: int, without: frozenset[str] = frozenset()) -> list[Fault]:
    """Faults from tick `begin` on, all of them over at tick `end`."""
    kinds = [kind for kind in KINDS if kind not in without]
    weights = [KINDS[kind][0] for kind in kinds]
    found = []
    for tick in range(begin, end):
        if rng.random() < CHANCE:
            kind = rng.choices(kinds, weights)[0]
            last = min(end, tick + rng.randint(1, KINDS[kind][1]))
            found.append(Fault(kind, tick, last, rng.randrange(1 << 16)))
    return found
