"""How many events a second one core takes, journals, acknowledges and brings into parquet."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.collector import live_release, load, verify
from benchmarks.collector.subject import Collector

BATCH = 200
CONNECTIONS = {"lines": 4, "batched": 4, "binary": 32}
PER_PREDICTION = {"lines": 1, "batched": 2, "binary": 2}


@dataclass(frozen=True)
class Throughput:
    """Attributes:
    mode: how events were sent.
    events: how many, each acknowledged.
    acknowledged_per_s: until the last acknowledgement.
    stored_per_s: until all of them were in parquet: what can be sustained.
    per_cpu_s: events a second of CPU time of the collector and its consolidations.
    p50_ms, p99_ms: of an acknowledgement.
    peak_mb: resident memory of the acknowledging process.
    count: what DuckDB finds.
    """

    mode: str
    events: int
    acknowledged_per_s: float
    stored_per_s: float
    per_cpu_s: float
    p50_ms: float
    p99_ms: float
    peak_mb: float
    count: verify.Count


def measure(
    mode: str, events: int, home: Path, *, core: int | None, say: Callable[[str], None], live: bool = False
) -> Throughput:
    """Send as fast as the collector acknowledges, then end it; what is in parquet by then was sustained.

    Its options are the default ones.

    Args:
        live: ask for the evidence of a release meanwhile, and until it holds all of them: what is stored a second then
            includes the wait for a consolidation, and says nothing.
    """
    collector = Collector(home, core=core)
    before = _cpu_of_children()
    collector.start()
    try:
        records = load.Records(1, time.time())
        predictions = events // PER_PREDICTION[mode]
        with live_release.asking(collector.port) if live else contextlib.nullcontext() as asked:
            started = time.perf_counter()
            latencies = asyncio.run(_send(mode, predictions, records, collector.port))
            acknowledged = time.perf_counter()
            if asked is not None:
                asked.until(time.time())
        peak = collector.peak_mb()
    finally:
        collector.stop()
    collector.finish()
    stored = time.perf_counter()
    cpu = _cpu_of_children() - before
    sent = predictions * PER_PREDICTION[mode]
    latencies.sort()
    found = Throughput(
        mode=mode,
        events=sent,
        acknowledged_per_s=sent / (acknowledged - started),
        stored_per_s=sent / (stored - started),
        per_cpu_s=sent / cpu,
        p50_ms=1e3 * latencies[len(latencies) // 2],
        p99_ms=1e3 * latencies[int(len(latencies) * 0.99)],
        peak_mb=peak,
        count=verify.count(home, predictions),
    )
    if asked is not None:
        say(f"{mode}, a live release: answers by status {asked.statuses}")
    say(f"{mode}: {found.stored_per_s:,.0f} events/s into parquet, {found.per_cpu_s:,.0f} a CPU second")
    return found


def _cpu_of_children() -> float:
    """User and system time of the children that ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _send(mode: str, predictions: int, records: load.Records, port: int) -> list[float]:
    latencies: list[float] = []
    size = 1 if mode == "binary" else BATCH // PER_PREDICTION[mode]
    starts = iter(range(0, predictions, size))

    async def worker() -> None:
        client = load.Client(port)
        for start in starts:
            numbers = range(start, min(start + size, predictions))
            messages = (
                load.binary(records, start)
                if mode == "binary"
                else [load.lines(records, numbers) if mode == "lines" else load.batched(records, numbers)]
            )
            for message in messages:
                took = await load.until_taken(client, message)
                latencies.append(took or 0.0)
        client.close()

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS[mode])))
    return latencies
