"""The journal: what was acknowledged is read again, what was torn is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from monitoring.collector import wal
from monitoring.collector.wal import StorageError, Wal

FRAMES = [b'{"a":1}\n{"a":2}\n', b'{"b":1}\n']


def test_frames_come_back_as_they_went(tmp_path: Path) -> None:
    """Verify that lines are read in order, over segments."""
    log = Wal(tmp_path, 7, segment_bytes=1)
    for frame in FRAMES:
        log.append(frame)
    assert wal.numbers(tmp_path) == [7, 8]
    assert log.active == 9
    found = [wal.content(wal.path(tmp_path, n).read_bytes()) for n in (7, 8)]
    assert [c.lines for c in found] == [[b'{"a":1}', b'{"a":2}'], [b'{"b":1}']]
    assert not any(c.torn or c.damaged for c in found)
    assert wal.size(tmp_path) == sum(len(wal.frame(frame)) for frame in FRAMES)


@pytest.mark.parametrize("cut", range(1, len(wal.frame(FRAMES[1])) + 1))
def test_a_torn_frame_takes_nothing_with_it(cut: int) -> None:
    """Verify, for every place at which a process can have been killed, that the frames before it are whole."""
    data = b"".join(map(wal.frame, FRAMES))
    content = wal.content(data[: len(data) - cut])
    assert content.lines == [b'{"a":1}', b'{"a":2}']
    assert content.torn == len(wal.frame(FRAMES[1])) - cut
    assert not content.damaged


def test_a_frame_whose_bytes_never_reached_the_disk_is_torn() -> None:
    """Verify that zeros where the last payload should be are not taken for lines."""
    data = b"".join(map(wal.frame, FRAMES))
    content = wal.content(data[:-5] + b"\0" * 5)
    assert (len(content.lines), content.damaged) == (2, False)


def test_damage_that_no_kill_explains_is_told() -> None:
    """Verify that a flipped byte with whole frames behind it is called damage."""
    first, second = map(wal.frame, FRAMES)
    broken = first[:-2] + b"#" + first[-1:]
    assert wal.content(broken + second).damaged
    assert wal.content(b"no frame at all, but long enough").damaged


@pytest.mark.parametrize("after", [0, 5])
def test_what_could_not_be_written_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Verify that a full disk costs the frame that did not fit and no other."""
    log = Wal(tmp_path, 0)
    log.append(FRAMES[0])
    real = os.write

    def full(file: int, data: bytes) -> int:
        if after and len(data) > after:
            return real(file, bytes(data)[:after])
        raise OSError(errno.ENOSPC, "No space left on device")

    if after:
        calls = iter((True, False))

        def partly(file: int, data: bytes) -> int:
            if next(calls):
                return real(file, bytes(data)[:after])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("monitoring.collector.wal.os.write", partly)
    else:
        monkeypatch.setattr("monitoring.collector.wal.os.write", full)
    with pytest.raises(StorageError, match="No space left on device; nothing of this request was kept"):
        log.append(b'{"lost":1}\n')
    monkeypatch.setattr("monitoring.collector.wal.os.write", real)
    log.append(FRAMES[1])
    log.close()
    read = [wal.content(wal.path(tmp_path, n).read_bytes()) for n in wal.numbers(tmp_path)]
    assert [line for content in read for line in content.lines] == [b'{"a":1}', b'{"a":2}', b'{"b":1}']
    assert not any(content.torn for content in read)


def test_a_failed_fsync_ends_its_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that after an fsync that failed, and a disk that takes nothing back either, another segment goes on."""
    log = Wal(tmp_path, 0)
    log.append(FRAMES[0])

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("monitoring.collector.wal.os.fsync", broken)
        patch.setattr("monitoring.collector.wal.os.ftruncate", broken)
        with pytest.raises(StorageError):
            log.append(b'{"unknown":1}\n')
    log.append(FRAMES[1])
    assert wal.numbers(tmp_path) == [0, 1]
    assert wal.content(wal.path(tmp_path, 1).read_bytes()).lines == [b'{"b":1}']
