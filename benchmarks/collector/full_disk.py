"""A disk that fills up, and is freed again: acknowledgements stop with a clear error and come back by themselves.

As root a small tmpfs of its own fills up. Otherwise the process is forbidden files larger than what it sends
(RLIMIT_FSIZE), which the same code meets as EFBIG.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.collector import load, verify
from benchmarks.collector.subject import Collector

BATCH = 50
SIZE = "24m"
WAIT_S = 60.0
REFUSALS = 6


@dataclass(frozen=True)
class FullDisk:
    """Attributes:
    means: how the disk was full.
    before, after: predictions acknowledged before it was, and after it had space again.
    refusals: answers with 507 meanwhile; `other` ones that were neither that nor 503.
    storage_ok_full, storage_ok_free: the metric at both times.
    recovered_s: seconds from the space to `storage_ok`, without anything being sent.
    count: what DuckDB finds in the end; `lost` of the acknowledged.
    """

    means: str
    before: int
    after: int
    refusals: int
    other: int
    storage_ok_full: float
    storage_ok_free: float
    recovered_s: float
    count: verify.Count

    @property
    def lost(self) -> int:
        return self.before + self.after - self.count.distinct


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small tmpfs on a folder; yields whether that was allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    allowed = False
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
        allowed = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def measure(folder: Path) -> FullDisk:
    """Fill, ask, free, ask again."""
    with small_disk(folder) as mounted:
        home = folder / "home"
        collector = Collector(home, "--consolidate-s", "1")
        collector.start()
        ballast = folder / "ballast"
        try:
            return asyncio.run(_measure(collector, home, ballast if mounted else None))
        finally:
            collector.stop()


async def _measure(collector: Collector, home: Path, ballast: Path | None) -> FullDisk:
    records, client = load.Records(3, time.time()), load.Client(collector.port)
    assert collector.process is not None

    async def send(first: int, most: int) -> tuple[int, list[int]]:
        """Send batches until one is refused; how many predictions were acknowledged, and the statuses."""
        at, statuses = first, []
        while at < first + most:
            status = await client.post(load.lines(records, range(at, at + BATCH)))
            statuses.append(status)
            if status != 200:
                break
            at += BATCH
        return at - first, statuses

    before, _ = await send(0, 20 * BATCH)
    if ballast is None:
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    else:
        _fill(ballast)
    statuses: list[int] = []
    full, filled = math.nan, time.monotonic()
    # a consolidation may free a little in between, also between the last refusal and the question
    while statuses.count(507) < REFUSALS or (full != 0.0 and time.monotonic() < filled + WAIT_S):
        more, answers = await send(before, 100_000 * BATCH)
        before, statuses = before + more, statuses + answers
        full = await asyncio.to_thread(collector.metric, "windlass_collector_storage_ok")
    if ballast is None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, unlimited)
    else:
        ballast.unlink()
    freed = time.monotonic()
    free = 0.0
    while free != 1.0 and time.monotonic() < freed + WAIT_S:
        free = await asyncio.to_thread(collector.metric, "windlass_collector_storage_ok")
        await asyncio.sleep(0.05)
    recovered = time.monotonic() - freed
    after, later = await send(before, 20 * BATCH)
    client.close()
    # the consolidation at the end brings all of it into the store; what it had no time for on a busy machine is in the
    # journal, and comes from there
    await asyncio.to_thread(collector.stop)
    await asyncio.to_thread(collector.finish)
    refused = [status for status in statuses if status != 200]
    return FullDisk(
        means="RLIMIT_FSIZE" if ballast is None else f"tmpfs of {SIZE}",
        before=before,
        after=after,
        refusals=refused.count(507),
        other=sum(status != 507 for status in refused) + sum(status != 200 for status in later),
        storage_ok_full=full,
        storage_ok_free=free,
        recovered_s=recovered,
        count=verify.count(home, before + after),
    )


def _fill(path: Path) -> None:
    """Take all space but a little, so that some requests still fit."""
    left = os.statvfs(path.parent)
    with path.open("wb") as file:
        file.write(bytes(max(0, left.f_bavail * left.f_frsize - 300_000)))
