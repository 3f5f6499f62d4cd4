"""The prediction log: whole lines, in order, and never a request that waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.runtime.payload.lines import LinesWriter
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.payload.sink import open_sink
from windlass.errors import WindlassError


def opened(path: Path) -> RecordQueue:
    return open_sink(str(path), model="flights", version="3")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_written_in_order_and_missing_features_are_null(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "predictions.jsonl"
    log = opened(path)
    for i in range(1000):
        assert log.append({"request_id": str(i), "features": [1.5, float("nan")]})
    log.close()
    assert lines(path) == [{"request_id": str(i), "features": [1.5, None]} for i in range(1000)]
    assert (log.counts.written, log.counts.dropped, log.counts.queued_bytes) == (1000, 0, 0)


def test_records_appear_while_the_server_runs(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    path = tmp_path / "predictions.jsonl"
    log = opened(path)
    for i in range(3):
        log.append({"i": i})
        wait_until(lambda expected=i + 1: len(path.read_bytes().splitlines()) == expected)
    log.close()


def test_a_torn_last_line_of_a_killed_process_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b'{"i": 1}\n{"i": 2}\n{"i": ' + b"9" * 100_000)
    log = opened(path)
    log.append({"i": 3})
    log.close()
    assert lines(path) == [{"i": 1}, {"i": 2}, {"i": 3}]


def test_a_file_that_is_one_torn_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b"x" * 200_000)
    log = opened(path)
    log.append({"i": 3})
    log.close()
    assert lines(path) == [{"i": 3}]


def test_a_disk_that_cannot_follow_drops_and_counts(tmp_path: Path) -> None:
    """Verify with a pipe that nobody reads that appending neither blocks nor grows without bound."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = RecordQueue(LinesWriter(path), most_bytes=1_000_000)
    finished = threading.Event()

    def append_much() -> None:
        for i in range(5000):
            log.append({"i": i, "padding": "x" * 1000})
        finished.set()

    threading.Thread(target=append_much, daemon=True).start()
    assert finished.wait(30)
    assert log.counts.refused > 0
    assert log.counts.taken + log.counts.refused == 5000
    assert log.counts.queued_bytes <= 1_000_000
    # let the writer finish
    draining = threading.Thread(target=log.close, daemon=True)
    draining.start()
    received = b""
    while draining.is_alive():
        try:
            received += os.read(reader, 1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
    received += os.read(reader, 1 << 22)
    os.close(reader)
    assert received.count(b"\n") == log.counts.taken == log.counts.written


def test_a_full_disk_drops_whole_records_and_is_told_once(tmp_path: Path) -> None:
    """Verify under a file size limit, which ends a write in its middle as a full disk does."""
    program = """
import json, resource, signal, sys, time
from serving.runtime.payload.sink import open_sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_500, resource.RLIM_INFINITY))
log = open_sink(sys.argv[1], model="flights", version="3")
for i in range(40):
    log.append({"i": i, "padding": "x" * 985})
    time.sleep(0.001)
while log.counts.queued_bytes:
    time.sleep(0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append({"i": 40})
log.close()
print(json.dumps({"written": log.counts.written, "failed": log.counts.failed}))
"""
    path = tmp_path / "predictions.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    numbers = [record["i"] for record in lines(path)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 40
    assert counts["written"] == len(numbers) < 41
    assert counts["failed"] == 41 - len(numbers)
    assert done.stderr.count("File too large") == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WindlassError, match=r"cannot write the prediction log .*give another --log"):
        opened(tmp_path / "file" / "predictions.jsonl")


def test_two_processes_append_whole_lines_to_one_file(tmp_path: Path) -> None:
    """Verify that neither loses, splits or reorders a line of its own."""
    program = """
import sys
from serving.runtime.payload.sink import open_sink
log = open_sink("file:" + sys.argv[1], model="flights", version="3")
sys.stdin.read()
for i in range(3000):
    assert log.append({"writer": sys.argv[2], "i": i, "padding": "x" * (i % 997)})
log.close()
print(log.counts.written)
"""
    path = tmp_path / "predictions.jsonl"
    command = [sys.executable, "-c", program, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [subprocess.Popen([*command, writer], **pipes) for writer in "ab"]  # type: ignore[call-overload]
    for process in both:
        process.stdin.close()
    for process in both:
        assert process.stdout.read() == b"3000\n"
        assert process.wait(60) == 0
    written = lines(path)
    for writer in "ab":
        assert [r["i"] for r in written if r["writer"] == writer] == list(range(3000))
