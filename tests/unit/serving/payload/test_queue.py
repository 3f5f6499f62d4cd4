"""The queue in front of every payload log: bounded, in order, and never in a request's way."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.runtime.payload.lines import LinesWriter
from serving.runtime.payload.queue import RecordQueue, Written, json_lines
from serving.runtime.payload.sink import open_sink


def test_records_taken_together_keep_their_order(tmp_path: Path) -> None:
    """Verify that batches and single records are written as they came, one line each."""
    path = tmp_path / "log.jsonl"
    log = open_sink(str(path), model="m", version="1")
    for start in range(0, 300, 3):
        assert log.append_many([{"i": start}, {"i": start + 1}])
        assert log.append({"i": start + 2})
    log.close()
    assert [json.loads(line)["i"] for line in path.read_text().splitlines()] == list(range(300))
    assert (log.counts.taken, log.counts.written, log.counts.dropped) == (300, 300, 0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_of_a_matrix_survive(kind: type[np.floating[Any]]) -> None:
    """Verify that a row reads back as the very numbers it held, and what is missing as null."""
    matrix = np.random.default_rng(0).normal(size=(100, 30)).astype(kind)
    matrix *= 10.0 ** np.random.default_rng(1).integers(-30, 30, size=matrix.shape)
    matrix[3, 4] = np.nan
    lines = json_lines([{"features": row} for row in matrix]).splitlines()
    read = np.array([json.loads(line)["features"] for line in lines], dtype=object)
    assert read[3, 4] is None
    read[3, 4] = np.nan
    np.testing.assert_array_equal(read.astype(kind), matrix)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"i": object()}, id="no-json"),
        pytest.param({"i": 1 << 70}, id="huge-integer"),
        pytest.param({"i": "\ud800"}, id="half-a-character"),
    ],
)
def test_a_record_that_is_no_json_costs_itself_alone(tmp_path: Path, bad: dict[str, Any]) -> None:
    """Verify that it is refused and counted, and that nothing is raised to the request."""
    path = tmp_path / "log.jsonl"
    log = open_sink(str(path), model="m", version="1")
    assert not log.append(bad)
    assert not log.append_many([{"i": 1}, bad, {"i": 2}])
    log.close()
    assert path.read_bytes() == b'{"i":1}\n{"i":2}\n'
    assert (log.counts.written, log.counts.refused) == (2, 2)


@pytest.fixture
def pipe(tmp_path: Path, wait_until: Callable[[Callable[[], bool]], None]) -> Iterator[tuple[Path, int]]:
    """A pipe, and the end of it that reads; a log that waits for room in it gets some in the end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    before = threading.enumerate()

    def ended() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 1 << 20)
        return all(t.name != "payload-log" or t in before for t in threading.enumerate())

    yield path, reader
    wait_until(ended)
    os.close(reader)


def test_a_full_queue_takes_records_again_once_it_was_written(
    pipe: tuple[Path, int],
    wait_until: Callable[[Callable[[], bool]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify with a pipe that is first not read, then read."""
    path, reader = pipe
    log = RecordQueue(LinesWriter(path), most_bytes=200_000)
    filler = {"padding": "x" * 1000}
    wait_until(lambda: not log.append(filler))  # so slowly that the pipe was full long before the queue is
    before = log.counts.refused
    assert not log.append_many([filler, filler])
    assert log.counts.refused == before + 2

    received = bytearray()

    def drain() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.extend(os.read(reader, 1 << 20))
        return log.counts.queued_bytes == 0

    wait_until(drain)
    wait_until(lambda: log.append({"last": True}))
    wait_until(drain)
    log.close()
    drain()
    assert received.endswith(b'{"last":true}\n')
    assert received.count(b"\n") == log.counts.taken == log.counts.written
    assert "faster than they are taken; dropping and counting" in capsys.readouterr().err


def test_a_full_queue_takes_records_as_soon_as_some_are_written(
    pipe: tuple[Path, int], wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Verify with a pipe of which a part is read, while several batches still wait."""
    path, reader = pipe
    log = RecordQueue(LinesWriter(path), most_bytes=400_000, flush_bytes=10_000, close_s=0.0)
    filler = {"padding": "x" * 1000}
    wait_until(lambda: not log.append(filler) and log.counts.settled_bytes > 0)  # the pipe itself is full
    settled = log.counts.settled_bytes
    received = 0
    while received < 50_000:
        received += len(os.read(reader, 50_000 - received))
    wait_until(lambda: log.counts.settled_bytes > settled)
    assert log.counts.queued_bytes > 100_000
    wait_until(lambda: log.append(filler))
    log.close()


def test_a_record_larger_than_the_queue_costs_itself_alone(tmp_path: Path) -> None:
    """Verify that the one after it is taken at once."""
    log = RecordQueue(LinesWriter(tmp_path / "log.jsonl"), most_bytes=1000)
    assert not log.append({"padding": "x" * 1000})
    assert log.append({"i": 1})
    log.close()
    assert (log.counts.written, log.counts.refused) == (1, 1)


def test_what_waits_is_bounded_in_memory(pipe: tuple[Path, int]) -> None:
    """Verify by the interpreter's own count of allocated bytes, with 40 times of what may wait."""
    log = RecordQueue(LinesWriter(pipe[0]), most_bytes=1_000_000, close_s=0.0)
    tracemalloc.start()
    for i in range(2000):
        log.append_many([{"i": i, "padding": "x" * 1000}] * 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.counts.queued_bytes <= 1_000_000
    assert log.counts.taken + log.counts.refused == 40_000
    # once in the queue, once more as the batch that is being written, and half of that for the containers
    assert peak < 2_500_000
    log.close()


class Broken:
    """A writer with a bug that shows in every second batch."""

    name = "broken"

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.closed = threading.Event()

    def write(self, lines: bytes, give_up: threading.Event) -> Written:
        self.batches.append(lines)
        if len(self.batches) % 2:
            raise ZeroDivisionError("a bug")
        return Written(lines.count(b"\n"))

    def close(self) -> None:
        self.closed.set()


def test_a_bug_of_a_writer_costs_a_batch_and_not_the_log(
    wait_until: Callable[[Callable[[], bool]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that the thread lives on, and tells once."""
    writer = Broken()
    log = RecordQueue(writer, flush_s=0.0)
    for i in range(6):
        log.append({"i": i})
        wait_until(lambda: log.counts.queued_bytes == 0)
    log.close()
    assert writer.closed.is_set()
    assert (log.counts.taken, log.counts.written, log.counts.failed) == (6, 3, 3)
    told = capsys.readouterr().err
    assert told.count("prediction log ") == 1
    assert "prediction log broken: ZeroDivisionError: a bug; dropping and counting" in told


def test_records_after_the_end_are_refused(tmp_path: Path) -> None:
    """Verify that they are counted as dropped, and that closing twice is no error."""
    log = open_sink(str(tmp_path / "log.jsonl"), model="m", version="1")
    log.append({"i": 1})
    log.close()
    assert not log.append({"i": 2})
    log.close()
    assert (log.counts.written, log.counts.refused) == (1, 1)


def test_lines_that_gather_long_are_written_at_the_end(tmp_path: Path) -> None:
    """Verify that closing does not wait for the time that lines may gather."""
    log = RecordQueue(LinesWriter(tmp_path / "log.jsonl"), flush_s=3600.0, close_s=30.0)
    log.append({"i": 1})
    log.close()
    assert log.counts.written == 1


def test_lines_that_are_many_do_not_gather_long(
    tmp_path: Path, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Verify that a size ends the gathering before its time."""
    log = RecordQueue(LinesWriter(tmp_path / "log.jsonl"), flush_s=3600.0, flush_bytes=100)
    log.append({"padding": "x" * 90})
    wait_until(lambda: log.counts.written == 1)
    log.close()
