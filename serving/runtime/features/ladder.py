"""What stands in when the online store fails: the last value read, then the training default.

Only a failure of the store climbs down the ladder. A key that is absent or expired online is an answer, NaN,
as the model has seen it in training. Each step is tagged on the answer and counted.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import FeatureReader, Layout

Source = Literal["online", "cached", "default"]
RUNGS: tuple[Source, ...] = ("online", "cached", "default")
CAPACITY = 100_000
SLOW_S = 0.010
REST_S = 0.100


@dataclass(frozen=True, slots=True)
class Features:
    """The features of all views in bundle order, and the lowest rung that one of them came from."""

    values: list[float]
    source: Source


@dataclass
class Counts:
    """What the ladder did, for the metrics page."""

    rows: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(RUNGS, 0))
    failures: dict[str, int] = field(default_factory=dict)


class Ladder:
    """Reads through `reader` and never fails.

    After a failure that took long (a lock, a store that hangs) the store is left alone for `rest_s`: the
    event loop waits for each read, so one stuck store must not cost every request its whole budget.

    Args:
        capacity: (view, key) pairs that the cache holds at most.
    """

    def __init__(
        self,
        bundle: Bundle,
        reader: FeatureReader,
        *,
        capacity: int = CAPACITY,
        rest_s: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        layout = Layout.of(bundle)
        self._reader = reader
        self._clock = clock
        self._rest_s = rest_s
        self._resting_until = -math.inf
        self._failing = False
        self._width = layout.width
        self._views = [
            (i, v.entity, *layout.spans[i], v.ttl_seconds or math.inf) for i, v in enumerate(bundle.views)
        ]
        defaults = {(i.view, i.name): i.default for i in bundle.inputs if i.view is not None}
        self._defaults = [defaults.get((v.name, f), math.nan) for v in bundle.views for f in v.features]
        # two generations: when the younger is full it becomes the older one, and what was there is forgotten
        self._generation = max(1, capacity // 2)
        self._young: dict[tuple[int, str], tuple[float, list[float]]] = {}
        self._old: dict[tuple[int, str], tuple[float, list[float]]] = {}
        self.counts = Counts()

    def read(self, entities: Mapping[str, str], now: float) -> Features:
        """Return the features of one row at time `now` (epoch seconds)."""
        if not self._views:
            return Features([], "online")
        started = self._clock()
        if started >= self._resting_until:
            try:
                values = self._reader.read(entities, now)
                if len(values) != self._width:
                    raise ValueError(f"the reader gave {len(values)} values, expected {self._width}")
            except Exception as error:  # whatever a reader raises is a failure of the store
                self._failed(error, started)
            else:
                if self._failing:
                    self._failing = False
                    sys.stderr.write("online store: answers again\n")
                self._remember(entities, now, values)
                self.counts.rows["online"] += 1
                return Features(values, "online")
        else:
            self._count("resting")
        return self._fall_back(entities, now)

    def _remember(self, entities: Mapping[str, str], now: float, values: list[float]) -> None:
        young = self._young
        for view, entity, start, end, _ in self._views:
            young[view, entities[entity]] = (now, values[start:end])
        if len(young) >= self._generation:
            self._old, self._young = young, {}

    def _fall_back(self, entities: Mapping[str, str], now: float) -> Features:
        values: list[float] = []
        source: Source = "cached"
        for view, entity, start, end, ttl in self._views:
            key = (view, entities[entity])
            cached = self._young.get(key) or self._old.get(key)
            # what was read longer ago than the view's ttl would have expired online too
            if cached is not None and cached[0] + ttl >= now:
                values.extend(cached[1])
            else:
                values.extend(self._defaults[start:end])
                source = "default"
        self.counts.rows[source] += 1
        return Features(values, source)

    def _failed(self, error: Exception, started: float) -> None:
        self._count(type(error).__name__)
        ended = self._clock()
        if ended - started >= SLOW_S:
            self._resting_until = ended + self._rest_s
        if not self._failing:
            # once for an outage, not once for a request
            self._failing = True
            sys.stderr.write(f"{error}; answering from cached values and training defaults meanwhile\n")

    def _count(self, reason: str) -> None:
        self.counts.failures[reason] = self.counts.failures.get(reason, 0) + 1
