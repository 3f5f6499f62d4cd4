"""Programs of a cluster end with the tests, whatever ends those; and their last words are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.processes import Program
from windlass.errors import WindlassError

OWNER = """
import sys, threading, time
from pathlib import Path
from tests.cluster.processes import Program
program = Program("sleeper", ["sleep", "600"], Path(sys.argv[1]))
program.start()
print(program.pid, flush=True)
time.sleep(600)
"""
WAIT_S = 30.0


def gone(pid: int) -> bool:
    """Whether a process has ended, or only waits for somebody to take note of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_program_ends_with_an_owner_that_is_killed(tmp_path: Path, project: Path) -> None:
    """Verify that no server is left over when tests are killed, which runs no clean-up of ours."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path], cwd=project, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert not gone(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + WAIT_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its owner"
        time.sleep(0.01)


def test_a_program_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Verify that a test may start a server again from a thread of its own: the kernel ties a child to its thread."""
    program = Program("sleeper", ["sleep", "600"], tmp_path)
    thread = threading.Thread(target=program.start)
    thread.start()
    thread.join()
    time.sleep(0.2)  # the signal, were it sent, would be there by now
    assert program.running()
    program.kill()
    assert not program.running()


def test_the_last_words_of_a_program_are_in_the_error(tmp_path: Path) -> None:
    """Verify that who waits for a program that failed reads why; a second run adds to the log."""
    program = Program("broken", ["sh", "-c", "echo the disk is full; exit 3"], tmp_path)
    for _ in range(2):
        program.start()
        while program.running():
            time.sleep(0.01)
    with pytest.raises(
        WindlassError, match=r"broken ended with 3; [\s\S]*the disk is full\nthe disk is full"
    ):
        program.require_running()


def test_a_program_that_ignores_its_end_is_killed(tmp_path: Path) -> None:
    """Verify that stopping always ends a program, and that a program is not started beside itself."""
    program = Program(
        "stubborn", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], tmp_path
    )
    program.start()
    with pytest.raises(WindlassError, match="runs already"):
        program.start()
    while "ready" not in program.tail():
        time.sleep(0.01)
    program.stop(timeout=0.2)
    assert not program.running()
