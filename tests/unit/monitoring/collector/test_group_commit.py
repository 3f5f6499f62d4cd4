"""Callers that share an fsync."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from event_store import home

from monitoring.collector.group_commit import GroupCommit
from monitoring.collector.journal import FullError, Journal
from monitoring.collector.options import Options
from windlass.errors import WindlassError


def test_what_comes_during_one_write_shares_the_next() -> None:
    """Verify the number of writes, their order, and that nobody is answered before."""
    written: list[bytes] = []
    free = threading.Event()

    def write(data: bytes) -> None:
        free.wait(10)
        written.append(data)

    async def run() -> None:
        commits = GroupCommit(write)
        first = asyncio.ensure_future(commits.append(b"a"))
        while not commits.pending_bytes or commits._waiting:
            await asyncio.sleep(0)
        rest = [asyncio.ensure_future(commits.append(name)) for name in (b"b", b"c", b"d")]
        await asyncio.sleep(0)
        assert (commits.pending, commits.pending_bytes) == (4, 4)
        assert not any(task.done() for task in (first, *rest))
        free.set()
        await asyncio.gather(first, *rest)
        assert (commits.pending, commits.pending_bytes) == (0, 0)
        commits.close()

    asyncio.run(run())
    assert written == [b"a", b"bcd"]


def test_a_failed_write_is_told_to_all_who_shared_it_and_to_no_one_else() -> None:
    """Verify that the next write has another chance; any failure is an error of ours."""
    failures = iter([WindlassError("full"), ValueError("odd"), None])

    def write(data: bytes) -> None:
        failure = next(failures)
        if failure is not None:
            raise failure

    async def run() -> list[object]:
        commits = GroupCommit(write)
        found: list[object] = []
        for _ in range(3):
            tasks = [commits.append(b"x"), commits.append(b"y")]
            found += await asyncio.gather(*tasks, return_exceptions=True)
        commits.close()
        return found

    found = asyncio.run(run())
    assert [str(error) for error in found] == [
        "full", "full", *["the journal failed: ValueError('odd')"] * 2, "None", "None",
    ]  # fmt: skip


def test_a_queue_that_is_full_refuses_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that memory is bounded by the limit and one request."""

    async def run() -> None:
        journal = Journal(home(tmp_path), Options(pending_bytes=100))
        journal.check_room(1000)  # nobody waits: a request may be larger than the limit
        task = asyncio.ensure_future(journal.append(b"x" * 90))
        await asyncio.sleep(0)
        journal.check_room(10)
        with pytest.raises(FullError, match="1 requests wait for the disk") as refused:
            journal.check_room(11)
        assert refused.value.retry_after == 1
        await task
        journal.check_room(1000)
        assert journal.lag() >= 0
        journal.commits.close()

    asyncio.run(run())


def test_who_waits_for_what_came_before_writes_nothing() -> None:
    """Verify that it returns once the writes before it are done, whether they succeeded, and adds none."""
    written: list[bytes] = []
    free = threading.Event()

    def write(data: bytes) -> None:
        free.wait(10)
        written.append(data)
        if data == b"b":
            raise WindlassError("full")

    async def run() -> None:
        commits = GroupCommit(write)
        await commits.settled()
        first = asyncio.ensure_future(commits.append(b"a"))
        while not commits.pending_bytes or commits._waiting:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(commits.append(b"b"))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(commits.settled())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        free.set()
        await waiting
        assert first.done()
        assert second.done() or not commits.pending
        await asyncio.gather(first, second, return_exceptions=True)
        assert written == [b"a", b"b"]
        commits.close()

    asyncio.run(run())
