"""What stands in when the online store fails: the last value read, then the training default.

Only a failure climbs down the ladder. A key that is absent or expired online is an answer, NaN, as the model has
seen it in training. Each step is tagged on the answer and counted. A breaker decides whether the store is asked;
an answer that comes after its asker has gone still tells the breaker, and is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import (
    BUDGET_S,
    BatchReader,
    FeatureReader,
    Layout,
    RowError,
    StoreError,
)
from serving.runtime.flow.breaker import Admission, Breaker, Policy

Source = Literal["online", "cached", "default"]
RUNGS: tuple[Source, ...] = ("online", "cached", "default")
CAPACITY = 100_000
ROWS_OF_A_BUDGET = 256  # a read of more may take a budget for each so many
BREAKER = Policy(slow_s=0.010)
TOLD_APART_S = 60.0
REFUSED, TOO_LATE = "resting", "deadline"

Row = Mapping[str, str]
Read = list[list[float] | RowError]


@dataclass(frozen=True, slots=True)
class Features:
    """The features of all views in bundle order, and the lowest rung that one of them came from."""

    values: list[float]
    source: Source


@dataclass
class Counts:
    """What the ladder did, for the metrics page.

    Attributes:
        rows: rows by the lowest rung.
        failures: rows that were not answered online, by reason: the error's name, "resting" where the breaker did
            not let them ask, "deadline" where the request could not wait.
        breaker: the store's; its phase, opens, probes and refusals.
    """

    breaker: Breaker
    rows: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(RUNGS, 0))
    failures: dict[str, int] = field(default_factory=dict)


class Ladder:
    """Reads through `reader` and never fails.

    Args:
        reader: one that only has `read` blocks the event loop for each row; a `BatchReader` reads a batch at once.
        capacity: (entity, key) pairs that the cache holds at most.
        budget_s: how long a read may take, of up to `ROWS_OF_A_BUDGET` rows.
        clock: of deadlines and of the breaker, in seconds.
        random: of the breaker's jitter.
    """

    def __init__(
        self,
        bundle: Bundle,
        reader: FeatureReader,
        *,
        capacity: int = CAPACITY,
        budget_s: float = BUDGET_S,
        policy: Policy = BREAKER,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        layout = Layout.of(bundle)
        self._reader = reader
        self._batches = reader if isinstance(reader, BatchReader) else None
        self._clock = clock
        self._budget_s = budget_s
        self._breaker = Breaker(policy, clock=clock, random=random)
        self._failing = False
        self._rows_told = -math.inf
        self._width = layout.width
        spans = [(v.entity, *layout.spans[i], v.ttl_seconds or math.inf) for i, v in enumerate(bundle.views)]
        # (first, last, ttl) of each view; an entity's views share its key, so they are kept together
        self._views = {e: [(a, b, ttl) for of, a, b, ttl in spans if of == e] for e, *_ in spans}
        self._kept = [
            (e, min(a for a, *_ in views), max(b for _, b, _ in views)) for e, views in self._views.items()
        ]
        defaults = {(i.view, i.name): i.default for i in bundle.inputs if i.view is not None}
        self._defaults = [defaults.get((v.name, f), math.nan) for v in bundle.views for f in v.features]
        # two generations: when the younger is full it becomes the older one, and what was there is forgotten
        self._generation = max(1, capacity // 2)
        self._young: dict[tuple[str, str], tuple[float, list[float]]] = {}
        self._old: dict[tuple[str, str], tuple[float, list[float]]] = {}
        self.counts = Counts(self._breaker)

    @property
    def immediate(self) -> bool:
        """Whether `climb` is as good as `climb_async`: the reader can only be waited for, or there is no store."""
        return self._batches is None or not self._views

    async def warm(self) -> None:
        """Connect to the store; one that does not answer is left for the first request."""
        if self._batches is not None:
            with contextlib.suppress(StoreError):
                await self._batches.warm()

    def close(self) -> None:
        """Give back the reader's connection, where it has one."""
        close = getattr(self._reader, "close", None)
        if close is not None:
            close()

    def climb(self, rows: Sequence[Row], nows: Sequence[float]) -> list[Features]:
        """Return the features of each row at its time (epoch seconds), read one by one; blocks meanwhile."""
        return [self._climb(row, now) for row, now in zip(rows, nows, strict=True)]

    async def climb_async(
        self, rows: Sequence[Row], nows: Sequence[float], deadline: float | None = None
    ) -> list[Features]:
        """Return the features of each row at its time (epoch seconds), read in one round trip.

        Args:
            deadline: when the answer must stand, by the ladder's clock; rows not read by then take what is below.
        """
        if self._batches is None or not self._views:
            return self.climb(rows, nows)
        if not rows:
            return []
        started = self._clock()
        budget_s = self._budget_s * (1 + (len(rows) - 1) // ROWS_OF_A_BUDGET)
        patience = math.inf if deadline is None else deadline - started
        if patience <= 0:
            return self._all_fall_back(rows, nows, TOO_LATE)
        admission = self._breaker.admit()
        if admission == "refused":
            return self._all_fall_back(rows, nows, REFUSED)
        asked = rows[:1] if admission == "probe" else rows
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Read | Exception | None] = loop.create_future()

        def done(outcome: Read | Exception) -> None:
            # the breaker and the cache learn of it even where nobody waits any more
            self._read_ended(admission, started, asked, nows, outcome)
            if not waiter.done():
                waiter.set_result(outcome)

        try:
            self._batches.begin(asked, nows[: len(asked)], budget_s, done)
        except Exception as error:  # whatever else a reader raises is a failure of the store
            done(error)
        timer = loop.call_later(patience, _give_up, waiter) if patience < budget_s else None
        try:
            outcome = await waiter
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(outcome, list):
            found = [
                self._online(values) if isinstance(values, list) else self._fall_back(row, now, values)
                for row, now, values in zip(asked, nows, outcome, strict=False)
            ]
        else:
            found = self._all_fall_back(asked, nows, outcome or TOO_LATE)
        rest = len(asked)
        return found + self._all_fall_back(rows[rest:], nows[rest:], REFUSED) if rest < len(rows) else found

    def _climb(self, row: Row, now: float) -> Features:
        if not self._views:
            return Features([], "online")
        admission = self._breaker.admit()
        if admission == "refused":
            return self._fall_back(row, now, REFUSED)
        started = self._clock()
        outcome: Read | Exception
        try:
            values = self._reader.read(row, now)
            if len(values) != self._width:
                raise StoreError(f"the reader gave {len(values)} values, expected {self._width}")
            outcome = [values]
        except RowError as error:
            outcome = [error]
        except Exception as error:  # whatever else a reader raises is a failure of the store
            outcome = error
        self._read_ended(admission, started, (row,), (now,), outcome)
        if isinstance(outcome, Exception):
            return self._fall_back(row, now, outcome)
        (answer,) = outcome
        return self._online(answer) if isinstance(answer, list) else self._fall_back(row, now, answer)

    # ---- after a read

    def _read_ended(
        self,
        admission: Admission,
        started: float,
        rows: Sequence[Row],
        nows: Sequence[float],
        outcome: Read | Exception,
    ) -> None:
        if isinstance(outcome, Exception):
            self._breaker.failed(admission, self._clock() - started)
            if not self._failing:
                # once for an outage, not once for a request
                self._failing = True
                sys.stderr.write(f"{outcome}; answering from cached values and training defaults meanwhile\n")
            return
        self._breaker.succeeded(admission)
        if self._failing:
            self._failing = False
            sys.stderr.write("online store: answers again\n")
        for row, now, values in zip(rows, nows, outcome, strict=False):
            if isinstance(values, list):
                self._remember(row, now, values)
            elif (at := self._clock()) - self._rows_told >= TOLD_APART_S:
                self._rows_told = at
                sys.stderr.write(f"{values}; such rows are answered from what is below\n")

    def _online(self, values: list[float]) -> Features:
        self.counts.rows["online"] += 1
        return Features(values, "online")

    def _remember(self, row: Row, now: float, values: list[float]) -> None:
        young = self._young
        for entity, first, last in self._kept:
            young[entity, row[entity]] = (now, values[first:last])
        if len(young) >= self._generation:
            self._old, self._young = young, {}

    # ---- down

    def _all_fall_back(
        self, rows: Sequence[Row], nows: Sequence[float], reason: str | Exception
    ) -> list[Features]:
        return [self._fall_back(row, now, reason) for row, now in zip(rows, nows, strict=False)]

    def _fall_back(self, row: Row, now: float, reason: str | Exception) -> Features:
        name = reason if isinstance(reason, str) else type(reason).__name__
        self.counts.failures[name] = self.counts.failures.get(name, 0) + 1
        values = self._defaults.copy()
        source: Source = "cached"
        for entity, first, _ in self._kept:
            key = (entity, row[entity])
            cached = self._young.get(key) or self._old.get(key)
            for start, end, ttl in self._views[entity]:
                # what was read longer ago than the view's ttl would have expired online too
                if cached is not None and cached[0] + ttl >= now:
                    values[start:end] = cached[1][start - first : end - first]
                else:
                    source = "default"
        self.counts.rows[source] += 1
        return Features(values, source)


def _give_up(waiter: asyncio.Future[Read | Exception | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
