"""Logs on this machine, brought into the journal with how far they were read."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from event_store import NOON, home

from monitoring.collector import follower
from monitoring.collector.follower import Follower, unread
from monitoring.collector.intake import Intake
from monitoring.collector.names import BrokenWorkloadError, Names
from monitoring.collector.wal import StorageError
from windlass.errors import WindlassError

LINE = orjson.dumps(
    {"request_id": "a", "model": "m", "version": 1, "at": NOON, "features": [1.0], "score": 0.5}
)


@pytest.mark.parametrize(
    ("content", "read", "found"),
    [
        pytest.param(b"one\ntwo\nthr", 0, (b"one\ntwo\n", 8), id="half-a-line-waits"),
        pytest.param(b"one\ntwo\n", 4, (b"two\n", 8), id="what-is-new"),
        pytest.param(b"one\n", 4, None, id="nothing-new"),
        pytest.param(b"o", 0, None, id="no-line-yet"),
        pytest.param(b"new\n", 9, (b"new\n", 4), id="a-shorter-file-is-another-one"),
    ],
)
def test_whole_lines_behind_what_was_read(
    tmp_path: Path, content: bytes, read: int, found: tuple[bytes, int] | None
) -> None:
    """Verify what is read of a file, and the offset behind it."""
    path = tmp_path / "log"
    path.write_bytes(content)
    inode = path.stat().st_ino
    got = unread(path, [inode, read])
    assert got == (None if found is None else (found[0], [inode, found[1]]))


def test_a_file_that_took_another_s_name_is_read_from_its_start(tmp_path: Path) -> None:
    """Verify that a rotated log, although longer than the old one, loses no line."""
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    old = [path.stat().st_ino, 4]
    (tmp_path / "next").write_bytes(b"first\nsecond\n")
    (tmp_path / "next").replace(path)
    got = unread(path, old)
    assert got is not None
    assert got[0] == b"first\nsecond\n"
    assert unread(tmp_path / "gone", None) is None


def test_a_line_longer_than_a_chunk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that reading in chunks neither stops at a long line nor cuts it."""
    monkeypatch.setattr(follower, "CHUNK_BYTES", 8)
    path = tmp_path / "log"
    path.write_bytes(b"x" * 50 + b"\nshort\n")
    first = unread(path, None)
    assert first is not None
    assert first[0].startswith(b"x" * 50 + b"\n")


def test_lines_and_offset_are_one_frame_and_a_refused_frame_is_read_again(tmp_path: Path) -> None:
    """Verify that what the journal did not take stays unread, and that a line that is none is counted and left."""
    settings = home(tmp_path)
    predictions, feedback = tmp_path / "predictions", tmp_path / "feedback.jsonl"
    predictions.mkdir()
    (predictions / "m-1.jsonl").write_bytes(LINE + b"\nnonsense\n" + b'{"request_id":1}\n')
    feedback.write_bytes(b'{"request_id":"a","label":1,"at":1e300}\n{"request_id":"a","label":7,"at":1}\n')
    frames: list[list[dict[str, Any]]] = []
    refusals = iter([True, True])
    refused: list[int] = []
    counted: list[tuple[str, int]] = []

    async def append(data: bytes) -> None:
        if next(refusals, False):
            raise StorageError("full")
        frames.append([orjson.loads(line) for line in data.splitlines()])

    logs = Follower(
        predictions, feedback, Intake(Names(settings), None, lambda: NOON), append, offsets={},
        now=lambda: NOON, refuse=refused.append, count=lambda kind, n: counted.append((kind, n)),
    )  # fmt: skip

    async def run() -> list[bool]:
        with pytest.raises(StorageError):
            await logs.poll()
        return [await logs.poll(), await logs.poll()]

    assert asyncio.run(run()) == [True, False]
    (row, offsets), (label, _) = frames
    assert (row["type"], row["version"], offsets["of"]) == ("prediction", "1", "predictions")
    assert list(offsets["files"]) == ["m-1.jsonl"]
    assert (label["type"], label["at"]) == ("label", NOON), "no calendar has the year of 1e300"
    assert (refused, counted) == ([2, 1], [("prediction", 1), ("label", 1)])


def test_no_line_ends_the_following(tmp_path: Path) -> None:
    """Verify lines that are JSON and still nothing that can be kept: they are counted, and the next one is taken."""
    predictions, feedback = tmp_path / "predictions", tmp_path / "feedback.jsonl"
    predictions.mkdir()
    deep = LINE.replace(b"0.5", b"[" * 400 + b"]" * 400)
    no_rows = LINE.replace(b'"score"', b'"rows":0,"score"')
    (predictions / "m-1.jsonl").write_bytes(b"\n".join([deep, no_rows, LINE, b""]))
    absurd = b'{"request_id":"%s","label":1,"at":%s,"received":%s}\n'
    feedback.write_bytes(
        absurd % (b"a", b"1", b"1e300")
        + absurd % (b"b", b"1e11", b"-1e300")
        + absurd % (b"\\u001fa", b"1", b"1")
    )
    frames, refused, error = followed(tmp_path, predictions, feedback)
    (row, _), (one, two, _) = frames
    assert (row["request_id"], row["score"]) == ("a", 0.5)
    assert [one["received"], two["received"], two["at"]] == [NOON] * 3, "no day can be made of these times"
    assert (refused, error) == ([2, 1], None)


def test_a_file_that_waits_keeps_no_other_one_back(tmp_path: Path) -> None:
    """Verify that labels are read although a workload is broken, and the error is told all the same."""
    predictions, feedback = tmp_path / "predictions", tmp_path / "feedback.jsonl"
    predictions.mkdir()
    (predictions / "mine-1.jsonl").write_bytes(LINE.replace(b'"m"', b'"mine"') + b"\n")
    (predictions / "other-1.jsonl").write_bytes(LINE + b"\n")
    feedback.write_bytes(b'{"request_id":"a","label":1,"at":1}\n')
    workload = tmp_path / "workloads" / "mine" / "workload.py"
    workload.parent.mkdir(parents=True)
    workload.write_text("raise RuntimeError('half edited')")
    frames, _, error = followed(tmp_path, predictions, feedback)
    assert isinstance(error, BrokenWorkloadError)
    read = [name for *_, offsets in frames for name in offsets["files"]]
    assert read == ["other-1.jsonl", "feedback.jsonl"]


def test_many_small_lines_cost_about_their_bytes() -> None:
    """Verify the peak of a process of its own: rows of a matrix are many, and must not take kilobytes each."""
    program = """
import resource
from monitoring.collector.follower import lines
entry = {"type": "prediction", "request_id": "a" * 200, "features": [1.0]}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = len(lines([entry] * 60_000))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / made)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 5


def followed(
    path: Path, predictions: Path, feedback: Path
) -> tuple[list[list[dict[str, Any]]], list[int], WindlassError | None]:
    """The frames of one poll, how many lines of each file were none, and how the poll ended."""
    frames: list[list[dict[str, Any]]] = []
    refused: list[int] = []

    async def append(data: bytes) -> None:
        frames.append([orjson.loads(line) for line in data.splitlines()])

    logs = Follower(
        predictions, feedback, Intake(Names(home(path)), None, lambda: NOON), append, offsets={},
        now=lambda: NOON, refuse=refused.append, count=lambda kind, n: None,
    )  # fmt: skip
    try:
        asyncio.run(logs.poll())
    except WindlassError as error:
        return frames, refused, error
    return frames, refused, None


def test_labels_are_complete_up_to_a_poll_that_read_their_log_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify the moment that is told: that of the poll's beginning, after what was being written to the log is in it,
    and not while there is more than a chunk, nor where the journal did not take it."""
    monkeypatch.setattr(follower, "CHUNK_BYTES", 128)
    feedback = tmp_path / "feedback.jsonl"
    now = [NOON]
    full = [False]

    async def append(data: bytes) -> None:
        if full[0]:
            raise StorageError("full")

    async def settled() -> None:
        now[0] += 1  # the write takes its time; what arrives meanwhile may be in the log, or not
        with feedback.open("ab") as file:
            file.write(b'{"request_id":"late","label":1,"at":1}\n')

    logs = Follower(
        tmp_path, feedback, Intake(Names(home(tmp_path)), None, lambda: NOON), append, offsets={},
        now=lambda: now[0], refuse=lambda count: None, count=lambda kind, count: None, settled=settled,
    )  # fmt: skip

    async def run() -> None:
        assert logs.complete == 0
        await logs.poll()
        assert logs.complete == NOON
        feedback.write_bytes(feedback.read_bytes() + b'{"request_id":"a","label":1,"at":1}\n' * 20)
        while await logs.poll():
            if logs.complete == NOON:
                continue
            break
        assert logs.complete > NOON + 1
        full[0], before = True, logs.complete
        with pytest.raises(StorageError):
            await logs.poll()
        assert logs.complete == before

    asyncio.run(run())
