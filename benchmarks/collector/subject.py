"""The collector as a process of its own, on one core, that can be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from serving.release.envoy.process import free_port

STARTS_IN_S = 60.0
STOPS_IN_S = 60.0


class Collector:
    """A collector on a home; `kill` and `start` may follow each other.

    Args:
        core: the core that it and its consolidations run on; None leaves that to the system.
        options: further arguments.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        core: int | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.home = home
        self.port = free_port()
        self._options = options
        self._core = core
        self._prepare = prepare
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [
            sys.executable,
            "-m",
            "monitoring.collector",
            "--port",
            str(self.port),
            "--home",
            str(self.home),
        ]
        self.process = subprocess.Popen(
            [*words, *self._options], start_new_session=True, preexec_fn=self._begin
        )
        deadline = time.monotonic() + STARTS_IN_S
        while time.monotonic() < deadline:
            try:
                self.get("/health")
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the collector ended with {self.process.returncode}") from None
                time.sleep(0.01)
        raise RuntimeError(f"the collector does not answer after {STARTS_IN_S} s")

    def _begin(self) -> None:
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})
        if self._prepare is not None:
            self._prepare()

    def kill(self, *, group: bool) -> None:
        """Kill it with SIGKILL; with its consolidation, if it runs one, where `group`."""
        assert self.process is not None
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as a supervisor does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOPS_IN_S)

    def finish(self) -> None:
        """Bring what it left in its journal, for want of time, into the store; on its core."""
        if any((self.home / "events" / "wal").glob("*.wal")):
            words = [sys.executable, "-m", "monitoring.collector.consolidation", "--home", str(self.home)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, preexec_fn=self._begin)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The value of a series, by its name and labels as they are written."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def peak_mb(self) -> float:
        """The largest resident memory of the process so far."""
        assert self.process is not None
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else float("nan")
