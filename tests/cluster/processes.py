"""The long-running programs of a cluster: each with a log of its own, and none outlives the tests that started it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from windlass.errors import WindlassError

#: What programs written in Go say of a port that somebody else has taken.
IN_USE = "address already in use"
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Program:
    """One program that can be started again with the same arguments; it is killed when this process ends, however.

    Args:
        name: for messages and for its log, `NAME.log`.
        command: its arguments, the program itself first.
        logs: the folder of logs; what it writes is added to what it wrote before.
        environment: its environment; ours by default.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        logs: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.log = logs / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; from any thread.

        Raises:
            WindlassError: it runs already.
        """
        if self.running():
            raise WindlassError(f"{self.name} (process {self.pid}) runs already; stop it first")
        # the kernel sends the death signal when the *thread* that started a child ends: one that never does starts all
        self._process = _starter().submit(self._started).result()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
                preexec_fn=functools.partial(_die_with, os.getpid()),
            )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raise WindlassError, with the log's last lines, where it has ended."""
        if not self.running():
            code = None if self._process is None else self._process.returncode
            raise WindlassError(f"{self.name} ended with {code}; the end of {self.log}:\n{self.tail()}")

    def stop(self, timeout: float = 20.0) -> None:
        """Ask it to end, and kill it where it has not after `timeout` seconds; nothing where it does not run."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash does; nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 20) -> str:
        """The newest lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@functools.cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="starts-programs")


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it is gone already
        os.kill(os.getpid(), signal.SIGKILL)
