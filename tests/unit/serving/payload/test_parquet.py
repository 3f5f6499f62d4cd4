"""Parquet files of the prediction log, read back by other readers: complete, or not there."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.dataset as ds
import pytest

from serving.runtime.payload import parquet
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.payload.sink import open_sink
from windlass.errors import WindlassError

Make = Callable[..., dict[str, Any]]


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, read by duckdb as partitioned files."""
    with duckdb.connect() as connection:
        pattern = str(folder / "*" / "*.parquet")
        found = connection.sql(
            "SELECT * FROM read_parquet(?, hive_partitioning=true, hive_types_autocast=false, union_by_name=true) "
            "ORDER BY request_id",
            params=[pattern],
        )
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def opened(folder: Path, *, seconds: float = 3600.0, size: int = 1 << 24) -> RecordQueue:
    writer = parquet.ParquetWriter(folder)
    return RecordQueue(writer, encode=parquet.encode, flush_s=seconds, flush_bytes=size, close_s=60.0)


def test_a_record_comes_back_as_it_went(tmp_path: Path, record: Make) -> None:
    """Verify every field, numbers to the last bit, through the address that opens it."""
    log = open_sink(f"parquet:{tmp_path / 'log'}#seconds=3600", model="flights", version="3")
    log.append(record(7))
    log.close()
    assert (log.counts.written, log.counts.dropped) == (1, 0)
    assert rows(tmp_path / "log") == [
        {
            "request_id": "r-7",
            "model": "flights",
            "version": "3",
            "at": 1_360_000_000.25,
            "entities": '{"carrier":"AA"}',
            "request": '{"distance":1400.5,"tail":null}',
            "features": [7.1, None, 1e-300],
            "score": 0.1234567890123,
            "latency_ms": 0.25,
            "source": "online",
            "answered_by": "model",
            "mirrored": False,
            "route": None,
            "unit": None,
            "date": "2013-02-04",
        }
    ]


def test_doubles_survive(tmp_path: Path, record: Make) -> None:
    """Verify a matrix of numbers of every size, as a row of numpy each."""
    matrix = np.random.default_rng(0).normal(size=(200, 30))
    matrix *= 10.0 ** np.random.default_rng(1).integers(-300, 300, size=matrix.shape)
    log = opened(tmp_path)
    log.append_many([record(request_id=f"{i:04}", features=row) for i, row in enumerate(matrix)])
    log.close()
    np.testing.assert_array_equal(np.array([row["features"] for row in rows(tmp_path)]), matrix)


def test_a_batch_over_midnight_is_a_file_a_day(tmp_path: Path, record: Make) -> None:
    """Verify the partitions, with a clock that no calendar has in Hive's own."""
    log = opened(tmp_path)
    times = [1_360_022_399.999, 1_360_022_400.0, 0.0, 1e300, -1.0]
    log.append_many([record(i, at=at) for i, at in enumerate(times)])
    log.close()
    found = {row["request_id"]: (row["date"], row["at"]) for row in rows(tmp_path)}
    dates = ["2013-02-04", "2013-02-05", "1970-01-01", None, None]
    assert found == {f"r-{i}": (date, at) for i, (date, at) in enumerate(zip(dates, times, strict=True))}
    assert len(list(tmp_path.glob("*/*.parquet"))) == 4


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([1, 0], [1.0, 0.0], id="whole-numbers"),
        pytest.param([[0, 1], [1, 0]], [[0.0, 1.0], [1.0, 0.0]], id="whole-classes"),
        pytest.param([None, None], [None, None], id="no-answer"),
        pytest.param([[[1, 2]], [[3, 4]]], [[[1.0, 2.0]], [[3.0, 4.0]]], id="tensor"),
        pytest.param([[0.2, 0.8], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]], id="classes"),
    ],
)
def test_the_type_of_a_score_does_not_hang_on_its_values(
    tmp_path: Path, record: Make, scores: list[Any], expected: list[Any]
) -> None:
    """Verify that files of whole numbers, or of none, read together with any other."""
    log = opened(tmp_path)
    log.append_many([record(i, score=score) for i, score in enumerate(scores)])
    log.close()
    assert [row["score"] for row in rows(tmp_path)] == expected
    assert (
        str(ds.dataset(tmp_path, partitioning="hive").schema.field("score").type)
        .rstrip(">")
        .endswith("double")
    )


def test_fields_of_later_versions_and_missing_ones_are_kept(tmp_path: Path, record: Make) -> None:
    """Verify that a new field becomes a column, and that a record of tensors has no entities."""
    new = record(1, fallback="static")
    del new["entities"], new["request"]
    log = opened(tmp_path)
    log.append(new)
    log.close()
    (row,) = rows(tmp_path)
    assert (row["fallback"], row["entities"]) == ("static", "null")


def test_files_are_rotated_by_size(
    tmp_path: Path, record: Make, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Verify that a file appears while records still come, and holds all that its name promises."""
    log = opened(tmp_path, size=2000)
    for i in range(100):
        log.append(record(i))
        if i % 20 == 19:
            wait_until(lambda: log.counts.queued_bytes < 2000)
    log.close()
    assert len(list(tmp_path.glob("*/*.parquet"))) >= 5
    assert len(rows(tmp_path)) == log.counts.written == 100


def test_files_are_rotated_by_time(
    tmp_path: Path, record: Make, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Verify that few records do not wait for more of them."""
    log = opened(tmp_path, seconds=0.01)
    for i in range(3):
        log.append(record(i))
        wait_until(lambda: log.counts.queued_bytes == 0)
        assert len(rows(tmp_path)) == i + 1
    log.close()


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet
from serving.runtime.payload import parquet
from serving.runtime.payload.queue import RecordQueue

whole, files = pyarrow.parquet.write_table, 0
def killed_in_the_fourth(rows, path, **options):
    global files
    files += 1
    whole(rows, path, **options)
    if files == 4:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
pyarrow.parquet.write_table = killed_in_the_fourth

log = RecordQueue(parquet.ParquetWriter(Path(sys.argv[1])), encode=parquet.encode, flush_s=0.0, flush_bytes=20_000)
known = {"model": "m", "version": "1", "at": 1360000000.0, "latency_ms": 0.1, "source": "online"}
for i in range(0, 100_000, 20):
    some = range(i, i + 20)
    log.append_many([{**known, "request_id": f"{n:08}", "features": [float(n)] * 30, "score": n / 7} for n in some])
log.close()
"""


def test_a_killed_process_leaves_readable_files(tmp_path: Path) -> None:
    """Verify, killed where half a file is written, that two readers take what is there: whole rows, no gap."""
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4
    found = rows(tmp_path)
    assert len(found) > 3
    assert [row["request_id"] for row in found] == [f"{i:08}" for i in range(len(found))]
    assert [row["score"] for row in found] == [i / 7 for i in range(len(found))]
    assert ds.dataset(tmp_path, partitioning="hive").count_rows() == len(found)


FULL = """
import json, resource, signal, sys
from pathlib import Path
from serving.runtime.payload import parquet
from serving.runtime.payload.queue import RecordQueue
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = parquet.ParquetWriter(Path(sys.argv[1]))
record = {"model": "m", "version": "1", "at": 1360000000.0, "features": [1.5], "score": 0.5}
def log(name):
    queue = RecordQueue(writer, encode=parquet.encode)
    queue.append_many([{**record, "request_id": f"{name}-{i}"} for i in range(100)])
    queue.close()
    return queue.counts.written, queue.counts.failed
before = log("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
full = log("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([before, full, log("after")]))
"""


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    """Verify under a file size limit that the batch is dropped, counted and told, and the next one written."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[100, 0], [0, 100], [100, 0]]"
    assert done.stderr.count("File too large") == 1
    assert {row["request_id"].partition("-")[0] for row in rows(tmp_path)} == {"before", "after"}
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Verify that it is said at the start, and how to go on."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WindlassError, match=r"cannot write the prediction log parquet:.*give another --log"):
        parquet.ParquetWriter(tmp_path / "file" / "log")


def test_pyarrow_is_imported_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """Verify that a server that logs lines never pays for it."""
    program = """
import sys
from serving.runtime.payload.sink import open_sink
open_sink(sys.argv[1], model="m", version="1").close()
print("pyarrow" in sys.modules)
"""
    for address, imported in (
        ("file:{}/x.jsonl", "False"),
        ("http://127.0.0.1:9/", "False"),
        ("parquet:{}", "True"),
    ):
        command = [sys.executable, "-c", program, address.format(tmp_path)]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == imported
