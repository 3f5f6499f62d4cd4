"""Processes that outlive their starter: found again, never mistaken, never lost, ended by whoever comes later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import planes
import pytest

from windlass.local import processes
from windlass.local.processes import Adopted, Child
from windlass.local.records import MARK, Records

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

STARTER = f"""
import sys
from pathlib import Path
from windlass.local import records
if sys.argv[2] == "lost":
    # killed after the process has started and before its number is written
    written = records.Records._write
    def write(self, record):
        if record.pid is not None:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        written(self, record)
    records.Records._write = write
child = records.Records(Path(sys.argv[1])).start("it", "the thing", {SLEEP!r}, Path(sys.argv[1]) / "it.log", port=7)
print(child.pid, flush=True)
"""


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    found = Records(tmp_path / "processes")
    yield found
    for name in found.names():
        found.end(name)
    found.end_strays()


def started_elsewhere(records: Records, how: str = "in order") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STARTER, str(records.folder), how]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def find(records: Records) -> Child:
    child = records.find("it")
    assert child is not None
    return child


def test_a_process_outlives_its_starter_and_is_found(records: Records) -> None:
    """Verify that another process finds it with its port, and starts no second one."""
    done = started_elsewhere(records)
    child = find(records)
    assert (child.pid, child.port, child.name, child.alive()) == (int(done.stdout), 7, "the thing", True)
    again = records.start("it", "the thing", SLEEP, records.folder / "it.log", port=8)
    assert (again.pid, again.port) == (child.pid, 7)


def test_a_process_whose_number_was_never_written_is_found(records: Records) -> None:
    """Verify that a starter killed between the start and the record loses nothing."""
    done = started_elsewhere(records, "lost")
    assert done.returncode == -signal.SIGKILL
    record = records.read("it")
    assert record is not None
    assert record.pid is None
    child = find(records)
    assert os.pidfd_open(child.pid) > 0
    assert records.end("it")
    assert not child.alive()


def test_a_process_without_a_record_is_a_stray(records: Records) -> None:
    """Verify that one whose record is gone is ended all the same, and that others are not."""
    started_elsewhere(records)
    lost = find(records)
    records.forget("it")
    other = Records(records.folder.with_name("processes-2"))
    kept = other.start("it", "another home's", SLEEP, other.folder / "it.log")
    mine = records.start("mine", "a recorded one", SLEEP, records.folder / "mine.log")
    try:
        assert records.end_strays() == 1
        assert [lost.alive(), kept.alive(), mine.alive()] == [False, True, True]
    finally:
        other.end("it")


def test_a_number_that_another_process_took_is_not_ours(records: Records) -> None:
    """Verify that a record from before a restart of the machine cannot end a stranger."""
    stranger = subprocess.Popen(SLEEP)
    try:
        path = records.folder / "it.json"
        records.start("it", "the thing", SLEEP, records.folder / "it.log")
        # the kernel notes a start to the hundredth of a second, and the two may share one
        while (ours := json.loads(path.read_text()))["began"] == processes.started(stranger.pid):
            records.end("it")
            records.start("it", "the thing", SLEEP, records.folder / "it.log")
        path.write_text(json.dumps({**ours, "pid": stranger.pid}))
        assert records.find("it") is None
        assert not records.end("it")
        Adopted(stranger.pid, ours["began"]).kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_dead_are_not_found(records: Records) -> None:
    """Verify that a process which ended counts as dead before its parent has waited for it."""
    child = records.start("it", "the thing", SLEEP, records.folder / "it.log")
    os.kill(child.pid, signal.SIGKILL)
    planes.wait(lambda: processes.started(child.pid) is None)
    assert records.find("it") is None
    assert Path(f"/proc/{child.pid}").exists(), "nobody has waited for it yet"
    assert not child.alive()


def test_an_adopted_process_is_ended_even_if_it_stands_still(records: Records) -> None:
    """Verify that a stop reaches a stopped process, and that its mark is the folder's."""
    started_elsewhere(records)
    child = find(records)
    environment = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
    assert any(v.startswith(f"{MARK}={records.folder}#".encode()) for v in environment)
    os.kill(child.pid, signal.SIGSTOP)
    planes.wait(lambda: processes.stopped(child.pid))
    child.stop(30.0)
    assert not child.alive()


def test_of_two_starters_one_starts(records: Records) -> None:
    """Verify that an engine and a rollback that see the same server dead do not start two."""
    found: list[int] = []

    def start() -> None:
        found.append(records.start("it", "the thing", SLEEP, records.folder / "it.log").pid)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_record_that_cannot_be_read_is_none(records: Records) -> None:
    records.folder.mkdir(parents=True)
    (records.folder / "it.json").write_text("{")
    assert (records.names(), records.find("it")) == (["it"], None)
