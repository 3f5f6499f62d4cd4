"""The collector as a process: every way in, killed at random, its disk full."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from benchmarks.collector import chaos, full_disk, load
from benchmarks.collector.subject import Collector
from monitoring.collector.consolidation import finish
from monitoring.collector.reading import Events
from serving.runtime.payload import cloudevents, lines
from windlass.errors import AlreadyRunningError
from windlass.settings import Settings


def post(collector: Collector, message: load.Message) -> tuple[int, dict[str, str], Any]:
    path, headers, body = message
    request = urllib.request.Request(f"http://127.0.0.1:{collector.port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read())


def until_stored(collector: Collector, name: str, count: float) -> None:
    """Wait until a metric that the consolidation keeps has come to a value."""
    deadline = time.monotonic() + 60
    while collector.metric(name) != count:
        assert time.monotonic() < deadline, f"{name} is {collector.metric(name)}, not {count}"
        time.sleep(0.05)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    started = Collector(tmp_path, "--consolidate-s", "0.3")
    started.start()
    yield started
    started.stop()


def test_every_way_in_ends_in_one_store(collector: Collector) -> None:
    """Verify our runtime's sender in both modes, lines, a followed log and labels, each sent twice, stored once."""
    records = load.Records(1, time.time())
    for batch in (0, 20):
        for _ in range(2):
            writer = cloudevents.CloudEventsWriter(
                urlsplit(f"http://127.0.0.1:{collector.port}/events"), load.ORIGIN, batch=batch
            )
            sent = b"".join(orjson.dumps(records(n)) + b"\n" for n in range(batch, batch + 10))
            assert writer.write(sent, threading.Event()).problem is None
            writer.close()
    for _ in range(2):
        assert post(collector, load.lines(records, range(40, 50)))[::2] == (200, {"accepted": 10})
    log = lines.LinesWriter(collector.home / "logs" / "predictions" / "synthetic-1.jsonl")
    log.write(
        b"".join(orjson.dumps(records(n)) + b"\n" for n in (*range(60, 70), *range(60, 70))),
        threading.Event(),
    )
    log.close()
    labels = [{"request_id": f"e{n}", "label": n % 2, "at": time.time()} for n in (0, 25, 45, 65)]
    assert post(collector, ("/feedback", {}, orjson.dumps([*labels, *labels])))[0] == 200
    until_stored(collector, "windlass_collector_stored_total", 40)
    until_stored(collector, 'windlass_collector_duplicates_total{type="label"}', 4)
    until_stored(collector, "windlass_collector_lag_seconds", 0)
    window = Events(Settings(home=collector.home, project=collector.home)).window(load.MODEL)
    assert sorted(window.request_ids) == sorted(
        f"e{n}" for n in (*range(10), *range(20, 30), *range(40, 50), *range(60, 70))
    )
    found = dict(zip(window.request_ids, window.labels.tolist(), strict=True))
    assert {i: found[i] for i in ("e0", "e25", "e45", "e65")} == {
        "e0": 0.0,
        "e25": 1.0,
        "e45": 1.0,
        "e65": 1.0,
    }
    assert window.features.shape == (40, load.WIDTH)
    assert collector.metric('windlass_collector_duplicates_total{type="prediction"}') == 20
    assert collector.metric('windlass_collector_duplicates_total{type="request"}') == 20


def test_followed_logs_go_on_where_they_were(tmp_path: Path) -> None:
    """Verify that a restart, or a kill, reads a log neither twice nor from its end; half a line waits."""
    log = tmp_path / "logs" / "predictions" / "synthetic-1.jsonl"
    log.parent.mkdir(parents=True)
    records = load.Records(1, time.time())
    made = [orjson.dumps(records(n)) + b"\n" for n in range(30)]
    collector = Collector(tmp_path, "--consolidate-s", "0.3")
    for life, killed in enumerate((True, False, True)):
        with log.open("ab") as file:
            file.write(b"".join(made[life * 10 : life * 10 + 9]) + made[life * 10 + 9][:20])
        collector.start()
        until_stored(collector, "windlass_collector_stored_total", life * 10 + 9)
        with log.open("ab") as file:
            file.write(made[life * 10 + 9][20:] + b"no prediction\n")
        until_stored(collector, "windlass_collector_stored_total", life * 10 + 10)
        assert collector.metric('windlass_collector_refused_total{reason="invalid"}') == 1
        if killed:
            collector.kill(group=True)
        else:
            collector.stop()
    collector.start()
    try:
        assert collector.metric("windlass_collector_stored_total") == 30
        assert collector.metric('windlass_collector_duplicates_total{type="prediction"}') == 0
    finally:
        collector.stop()


def test_a_journal_that_is_full_asks_to_come_back(tmp_path: Path) -> None:
    """Verify that backpressure is an answer and a metric, and ends once the store took what waited."""
    collector = Collector(tmp_path, "--consolidate-s", "2", "--wal-bytes", "2000")
    collector.start()
    try:
        records = load.Records(1, time.time())
        assert post(collector, load.lines(records, range(10)))[0] == 200
        status, headers, answer = post(collector, load.lines(records, range(10, 20)))
        assert (status, headers["retry-after"]) == (503, "30")
        assert "that the store has not taken" in answer["error"]
        assert collector.metric('windlass_collector_refused_total{reason="full"}') == 1
        assert collector.metric("windlass_collector_wal_bytes") > 2000
        until_stored(collector, "windlass_collector_stored_total", 10)
        until_stored(collector, "windlass_collector_wal_bytes", 0)
        assert post(collector, load.lines(records, range(10, 20)))[0] == 200
    finally:
        collector.stop()


def test_the_second_collector_of_a_home_is_told(collector: Collector) -> None:
    """Verify that two processes never write one journal."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "monitoring.collector", "--port", "0", "--home", str(collector.home)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "another collector writes to" in ended.stderr
    with pytest.raises(AlreadyRunningError):
        finish(Settings(home=collector.home, project=collector.home), now=time.time())


def test_what_a_killed_collector_left_can_be_brought_in(tmp_path: Path) -> None:
    """Verify that the journal of a process that is no more is enough."""
    collector = Collector(tmp_path, "--consolidate-s", "3600")
    collector.start()
    assert post(collector, load.lines(load.Records(1, time.time()), range(10)))[0] == 200
    collector.kill(group=True)
    settings = Settings(home=tmp_path, project=tmp_path)
    assert Events(settings).models() == ()
    assert finish(settings, now=time.time()).counts == {"stored.prediction": 10}
    assert len(Events(settings).window(load.MODEL)) == 10


def test_nothing_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    """Verify the bench's proof on a small scale; DuckDB counts."""
    found = chaos.measure(12_000, 4, tmp_path / "home", seed=5, core=None, say=lambda _: None)
    assert (found.lost, found.twice, found.count.foreign, found.count.halves) == (0, 0, 0, 0)
    assert found.count.rows == found.predictions == 10_000
    assert found.kills == 4
    assert found.duplicates > 0, "some were delivered twice"


def test_a_full_disk_refuses_loses_nothing_and_recovers(tmp_path: Path) -> None:
    """Verify it on a disk of its own as root, else by a limit on what the process may write."""
    found = full_disk.measure(tmp_path / "disk")
    assert found.refusals >= 6
    assert (found.storage_ok_full, found.storage_ok_free) == (0.0, 1.0)
    assert (found.lost, found.other, found.count.foreign) == (0, 0, 0)
    assert found.after > 0
