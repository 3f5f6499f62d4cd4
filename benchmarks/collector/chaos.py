"""Killed with SIGKILL at random moments while it is sent to: nothing acknowledged may be lost, nothing stored twice.

Each message is sent until it is acknowledged; one in twenty is sent again although it was. Half of the predictions
come as JSON lines, half as batches of CloudEvents. Every other kill takes the consolidation along, the others leave it
to meet the collector's next life.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.collector import load, verify
from benchmarks.collector.subject import Collector

CONNECTIONS = 4
BATCH = 200
AGAIN = 0.05


@dataclass(frozen=True)
class Chaos:
    """Attributes:
    events: acknowledged, each counted once.
    kills: of them, those that met a consolidation at work.
    sent_again: messages sent more than once, on purpose or for want of an answer.
    """

    events: int
    predictions: int
    kills: int
    consolidating: int
    sent_again: int
    seconds: float
    duplicates: float
    count: verify.Count

    @property
    def lost(self) -> int:
        return self.count.missing

    @property
    def twice(self) -> int:
        return self.count.rows - self.count.distinct


def measure(
    events: int, kills: int, home: Path, *, seed: int, core: int | None, say: Callable[[str], None]
) -> Chaos:
    """Send `events` events and kill the collector `kills` times meanwhile."""
    collector = Collector(home, "--consolidate-s", "2", "--hold-s", "3600", "--grace-s", "5", core=core)
    collector.start()
    started = time.monotonic()
    try:
        plan = _Plan(events, seed)
        asyncio.run(_run(plan, collector, kills, random.Random(seed + 1), say))
        deadline = time.monotonic() + 600
        while collector.metric("windlass_collector_lag_seconds") > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        duplicates = sum(
            collector.metric(f'windlass_collector_duplicates_total{{type="{kind}"}}')
            for kind in ("request", "response", "prediction")
        )
    finally:
        collector.stop()
    return Chaos(
        events=plan.events,
        predictions=plan.predictions,
        kills=plan.kills,
        consolidating=plan.consolidating,
        sent_again=plan.sent_again,
        seconds=time.monotonic() - started,
        duplicates=duplicates,
        count=verify.count(home, plan.predictions),
    )


class _Plan:
    """Which predictions go into which message; what is done is counted here."""

    def __init__(self, events: int, seed: int) -> None:
        self.records = load.Records(seed, time.time())
        self.draw = random.Random(seed)
        # of three events one is a prediction line and two are the halves of a prediction
        a_round = 2 * BATCH + 2 * (BATCH // 2)
        self.messages: list[tuple[str, range]] = []
        at = 0
        for _ in range(-(-events // a_round)):
            for _ in range(2):
                self.messages.append(("lines", range(at, at + BATCH)))
                at += BATCH
            self.messages.append(("batched", range(at, at + BATCH // 2)))
            at += BATCH // 2
        self.predictions = at
        self.events = sum(len(n) * (2 if mode == "batched" else 1) for mode, n in self.messages)
        self.done = self.sent_again = self.consolidating = self.kills = 0

    def message(self, mode: str, numbers: range) -> load.Message:
        make = load.lines if mode == "lines" else load.batched
        return make(self.records, numbers)


async def _run(
    plan: _Plan, collector: Collector, kills: int, draw: random.Random, say: Callable[[str], None]
) -> None:
    queue = iter(plan.messages)

    async def worker() -> None:
        client = load.Client(collector.port)
        for mode, numbers in queue:
            message = plan.message(mode, numbers)
            tries = 0
            while True:
                tries += 1
                try:
                    if await client.post(message) == 200:
                        break
                except OSError:
                    pass
                await asyncio.sleep(0.02)
            plan.done += 1
            if plan.draw.random() < AGAIN:
                tries += 1
                with contextlib.suppress(OSError):
                    await client.post(message)
            plan.sent_again += tries > 1
        client.close()

    async def killer() -> None:
        moments = sorted(draw.uniform(0.02, 0.98) * len(plan.messages) for _ in range(kills))
        for number, moment in enumerate(moments):
            while plan.done < moment:
                await asyncio.sleep(0.005)
            await asyncio.sleep(draw.uniform(0, 0.3))
            working = _consolidates(collector)
            plan.consolidating += working
            collector.kill(group=number % 2 == 0)
            plan.kills += 1
            say(f"kill {number + 1}/{kills} after {plan.done:,} of {len(plan.messages):,} messages")
            await asyncio.to_thread(collector.start)

    await asyncio.gather(killer(), *(worker() for _ in range(CONNECTIONS)))


def _consolidates(collector: Collector) -> bool:
    assert collector.process is not None
    pid = collector.process.pid
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
