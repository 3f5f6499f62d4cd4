"""What the acknowledging side says of itself when something beside it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from event_store import NOON, EventStore, home, prediction

from monitoring.collector import __main__ as process
from monitoring.collector.feedback_log import FeedbackLog
from monitoring.collector.follower import Follower, lines
from monitoring.collector.journal import Journal
from monitoring.collector.options import Options
from monitoring.collector.wal import StorageError


def test_what_a_failed_consolidation_brought_in_waits_no_longer(tmp_path: Path) -> None:
    """Verify that neither age nor size counts segments that are in the store, although the compaction after them
    failed: else the journal would be full of nothing one day, and refuse everything."""
    store = EventStore(home(tmp_path), compact_parts=2)
    store.add(prediction("a"))
    store.consolidate()
    (part,) = store.events().manifest().of("predictions")
    (store.folder / part.path).unlink()

    async def run() -> tuple[bool, Journal]:
        journal = Journal(store.settings, Options(compact_parts=2))
        await journal.append(lines([prediction("b", received=NOON)]))
        assert journal.lag() > 0
        done = await journal.consolidate()
        await journal.close(0)
        return done, journal

    done, journal = asyncio.run(run())
    assert not done
    assert journal.lag() == 0
    assert journal.metrics.registry.get_sample_value("windlass_collector_wal_bytes") == 0
    assert journal.metrics.registry.get_sample_value("windlass_collector_consolidation_failures_total") == 1
    assert store.events().manifest().counts["stored.prediction"] == 2


def test_the_end_waits_for_no_consolidation_that_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a child that is only being started when the time is up is ended like one at work."""
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 300\n")
    endless.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(endless))

    async def run() -> None:
        journal = Journal(home(tmp_path), Options())
        await journal.append(lines([prediction("a")]))
        await asyncio.wait_for(journal.close(0), 60)

    asyncio.run(run())
    assert len(list((tmp_path / "events" / "wal").glob("*.wal"))) == 1, "the next start brings it in"


def test_a_task_that_ends_ends_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a fault in the following of logs is loud: a process that goes on without it looks healthy."""

    async def fails(self: Follower) -> bool:
        raise RuntimeError("overlooked")

    monkeypatch.setattr(Follower, "poll", fails)
    with pytest.raises(RuntimeError, match="overlooked"):
        asyncio.run(
            asyncio.wait_for(
                process.serve(home(tmp_path), Options(), "127.0.0.1", 0, follow=True, known_only=False), 30
            )
        )


def test_half_a_label_that_could_not_be_cut_off_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a disk that fails twice costs no label that is acknowledged afterwards."""
    import os

    log = FeedbackLog(tmp_path / "feedback.jsonl")
    log.write(b'{"request_id":"a"}\n')
    real: dict[str, Any] = {"write": os.write, "ftruncate": os.ftruncate}

    def half(file: int, data: bytes) -> int:
        if len(data) < 8:
            raise OSError(28, "No space left on device")
        return int(real["write"](file, data[:12]))

    def fails(file: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", fails)
    for _ in range(2):
        with pytest.raises(StorageError, match="nothing of this request was kept"):
            log.write(b'{"request_id":"b"}\n')
    monkeypatch.setattr(os, "write", real["write"])
    monkeypatch.setattr(os, "ftruncate", real["ftruncate"])
    log.write(b'{"request_id":"c"}\n')
    log.close()
    kept = [
        orjson.loads(line)["request_id"] for line in (tmp_path / "feedback.jsonl").read_bytes().splitlines()
    ]
    assert kept == ["a", "c"]
