"""The acknowledging side: events go into the journal, a child process brings the journal into the store.

What is on the disk when this starts, an earlier process was acknowledging: it is read for how far the followed files
were taken, and consolidated like anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from monitoring.collector import manifest, store, wal
from monitoring.collector.group_commit import GroupCommit
from monitoring.collector.metrics import Metrics
from monitoring.collector.options import Options
from monitoring.collector.place import place, root
from windlass.errors import WindlassError
from windlass.settings import Settings

PROBE_BYTES = 256 * 1024
#: closed segments that are consolidated without waiting for the interval
BACKLOG = 2
LONGEST_PAUSE_S = 300.0


class FullError(WindlassError):
    """More waits than may wait; there is room again soon."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Journal:
    """Acknowledges; only one process may have it.

    Attributes:
        complete: says up to when all that was received otherwise is here, epoch seconds: what followed files hold.
        wanted: whether somebody asks up to when the store is complete, so that it is to say so although nothing comes.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        self.complete: Callable[[], float] = lambda: 0.0
        self.wanted: Callable[[], bool] = lambda: False
        self._settings = settings
        self.options = options
        self._folder = root(settings) / "wal"
        known, first, self.offsets, self._since = recovered(settings, self._folder, time.time())
        if known.generation == 0 and not wal.numbers(self._folder):
            store.begin(root(settings), time.time())
        self._wal = wal.Wal(self._folder, first)
        self._storage_ok = True
        self._held = known.held is not None
        self._bytes = float(wal.size(self._folder))
        self._child: asyncio.subprocess.Process | None = None
        self._work: asyncio.Task[bool] | None = None
        self.metrics = Metrics(
            pending=lambda: self.commits.pending,
            wal_bytes=lambda: self._bytes,
            lag=self.lag,
            storage_ok=lambda: float(self._storage_ok),
        )
        self.metrics.stored.counts = dict(known.counts)
        self.commits = GroupCommit(self._write, self.metrics.commit_seconds.observe)

    # --- acknowledging

    def check_room(self, size: int) -> None:
        """Refuse what there is no room for, before it costs anything.

        Raises:
            FullError: too much waits for the disk, or for the store.
        """
        if self.commits.pending_bytes + size > self.options.pending_bytes and self.commits.pending:
            raise FullError(
                f"{self.commits.pending} requests wait for the disk; send it again in a second", 1
            )
        if self._bytes > self.options.wal_bytes:
            raise FullError(
                f"the journal holds {self._bytes / 2**20:.0f} MiB that the store has not taken; see why the "
                "consolidation fails, and send it again later",
                30,
            )

    async def append(self, data: bytes) -> None:
        """Return once `data` is durable: this is the acknowledgement.

        Raises:
            StorageError: the disk did not take it.
        """
        await self.commits.append(data)

    def _write(self, data: bytes) -> None:
        # in the writing thread
        segment = self._wal.active
        try:
            self._wal.append(data)
        except wal.StorageError:
            self._storage_ok = False
            raise
        self._storage_ok = True
        self._since.setdefault(segment, time.time())
        self._bytes += len(data) + wal.HEADER_BYTES

    def lag(self) -> float:
        """Seconds since the oldest event came that is not in the store; 0 where all are."""
        return max(0.0, time.time() - min(self._since.values())) if self._since else 0.0

    async def probe(self) -> None:
        """Find out whether the disk has space again; only asked where it had none."""
        if not self._storage_ok:
            await self.commits.alone(self._probe)

    def _probe(self) -> None:
        path = self._folder / ".probe"
        with contextlib.suppress(OSError):  # still no space: the next probe asks again
            try:
                with path.open("wb") as file:
                    file.write(bytes(PROBE_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                self._storage_ok = True
            finally:
                path.unlink(missing_ok=True)

    def storage_failed(self) -> None:
        """Another file of this disk could not be written."""
        self._storage_ok = False

    # --- into the store

    async def run(self) -> None:
        """Consolidate again and again; after failures more and more rarely."""
        pause, due = self.options.consolidate_s, time.monotonic() + self.options.consolidate_s
        while True:
            await asyncio.sleep(min(0.5, pause))
            closed = [number for number in list(self._since) if number < self._wal.active]
            if time.monotonic() < due and (len(closed) < BACKLOG or pause > self.options.consolidate_s):
                continue
            # halves that wait for their other one become old although nothing comes
            if (self._since or self._held or self.wanted()) and not await self.consolidate():
                pause = min(LONGEST_PAUSE_S, 2 * pause)
            else:
                pause = self.options.consolidate_s
            due = time.monotonic() + pause

    async def consolidate(self) -> bool:
        """Bring what is acknowledged by now into the store, or wait for the one at work; whether that succeeded."""
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._consolidate())
        # whoever waits may be cancelled: the child goes on, and `close` finds it
        return await asyncio.shield(self._work)

    async def _consolidate(self) -> bool:
        # whole seconds, so that whoever counts by seconds has each of them whole
        complete = math.floor(min(self.complete(), time.time()))
        await self.commits.settled()
        await self.commits.alone(self._wal.roll)
        options = orjson.dumps(asdict(self.options)).decode()
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "monitoring.collector.consolidation",
                "--home", str(self._settings.home), "--until", str(self._wal.active), "--complete", str(complete),
                "--options", options,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:  # no process or no memory left for one
            sys.stderr.write(f"windlass collector: the consolidation does not start: {error}\n")
            self.metrics.failures.inc()
            return False
        self._child = child
        try:
            said, _ = await child.communicate()
        finally:
            self._child = None
        # one that failed may have brought some in before: its segments wait no longer, whatever it says
        known = list(self._since)
        left = set(wal.numbers(self._folder))
        for number in known:
            if number not in left:
                del self._since[number]
        self._bytes = float(wal.size(self._folder))
        if child.returncode != 0:
            self.metrics.failures.inc()
            return False
        report = orjson.loads(said)
        self.metrics.stored.counts = report["counts"]
        self._held = report["held"]
        return True

    async def close(self, timeout: float) -> None:
        """Bring the rest into the store, as far as that is done in time: what is not, the next start finds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                if self._work is not None and not self._work.done():
                    await self.consolidate()
                if self._since:
                    await self.consolidate()
        while self._work is not None and not self._work.done():
            # it may only be starting
            if self._child is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    self._child.terminate()  # at any moment: the next start does it again
            await asyncio.wait({self._work}, timeout=0.1)
        self.commits.close()
        self._wal.close()


def recovered(
    settings: Settings, folder: Path, now: float
) -> tuple[manifest.Manifest, int, dict[str, dict[str, Any]], dict[int, float]]:
    """What an earlier process left.

    Returns:
        The manifest; the number of the next segment; how far followed files were read; for each segment that is not in
        the store when its first event came.
    """
    while True:
        # in this order: a consolidation that still runs writes the manifest first and then removes segments
        numbers = wal.numbers(folder)
        content = place(settings).read(manifest.NAME)
        known = manifest.Manifest() if content is None else manifest.decode(content, manifest.NAME)
        offsets: dict[str, dict[str, Any]] = {name: dict(files) for name, files in known.offsets.items()}
        since: dict[int, float] = {}
        try:
            for number in numbers:
                if number >= known.wal:
                    path = wal.path(folder, number)
                    held = wal.content(path.read_bytes()).lines
                    _follow(held, offsets)
                    if held:
                        since[number] = _came(held, path.stat().st_mtime)
        except FileNotFoundError:
            continue
        # from the clock, so that no other store of this home, which took segments of its own, counts beyond it
        return known, max([known.wal, int(now * 1000), *(number + 1 for number in numbers)]), offsets, since


def _follow(lines: list[bytes], offsets: dict[str, dict[str, Any]]) -> None:
    for line in lines:
        if line.startswith(b'{"type":"offsets"'):
            entry: Mapping[str, Any] = orjson.loads(line)
            offsets.setdefault(entry["of"], {}).update(entry["files"])


def _came(lines: list[bytes], written: float) -> float:
    received = orjson.loads(lines[0]).get("received")
    return float(received) if isinstance(received, (int, float)) else written
