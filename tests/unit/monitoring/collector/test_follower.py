"""Logs on this machine, brought into the journal with how far they were read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from event_store import NOON, home

from monitoring.collector import follower
from monitoring.collector.follower import Follower, unread
from monitoring.collector.intake import Intake
from monitoring.collector.names import Names
from monitoring.collector.wal import StorageError

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
    refusals = iter([True])
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
