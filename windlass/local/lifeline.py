"""No process outlives its platform, whatever kills it.

A parent that is killed with SIGKILL cannot clean up, and the pipeline runner's grandchildren are not ours to
reap. So a small guard waits on a pipe that only the platform holds open: when it closes, for whatever reason,
the guard ends every process that carries the platform's mark in its environment. Linux only (reads /proc).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MARK = "WINDLASS_TREE"


def marked_processes(mark: str) -> list[int]:
    """Process ids whose environment carries `MARK=mark`, this process left out."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end_tree(mark: str, *, spare: int | None = None) -> None:
    """Kill every marked process; repeats until none is left, since a process may fork while we look."""
    for _ in range(50):
        pids = [pid for pid in marked_processes(mark) if pid != spare]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


class Lifeline:
    """Marks this process's future children and starts the guard. Create one before starting any of them."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        os.environ[MARK] = self.mark
        read_end, self._write_end = os.pipe()
        environment = {k: v for k, v in os.environ.items() if k != MARK}
        # its own session: a signal to our process group (Ctrl-C, a killed shell) must not reach the guard
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "windlass.local.lifeline", self.mark],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        os.close(read_end)

    def close(self) -> None:
        """End what is still running and the guard itself."""
        os.environ.pop(MARK, None)
        with contextlib.suppress(OSError):
            os.close(self._write_end)
        self._guard.wait(timeout=30)


def _guard(mark: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.read(0, 64):
        pass
    end_tree(mark)


if __name__ == "__main__":
    _guard(sys.argv[1])
