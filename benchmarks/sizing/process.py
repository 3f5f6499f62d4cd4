"""A process under measurement: memory and processor time of it and of all that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from windlass.errors import WindlassError

MIB = 2**20
READY_S = 180.0
_LOOKS_S = 0.05


@dataclass(frozen=True)
class Use:
    """What was used.

    Attributes:
        idle_mib: resident memory once it was ready; None of a job.
        peak_mib: the most that it and its children had resident together.
        cpu_s: processor seconds since it was ready, of a job all.
        wall_s: seconds in which they were spent.
    """

    idle_mib: float | None
    peak_mib: float
    cpu_s: float
    wall_s: float

    @property
    def cores(self) -> float:
        return self.cpu_s / self.wall_s


class Measured:
    """A running process.

    Args:
        command: without the interpreter.
        log: where its words go.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self._log = log
        self._peak = 0.0
        self._over = threading.Event()
        with log.open("wb") as out:
            self._child = subprocess.Popen(command, env={**os.environ, **env}, stdout=out, stderr=out)
        self._root = psutil.Process(self._child.pid)
        self._idle: float | None = None
        self._began, self._used = time.monotonic(), 0.0
        #: Of children that ended: their time is in nobody's hands any more.
        self._times: dict[int, float] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def ready(self, answers: Callable[[], bool]) -> None:
        """Wait until it answers, and count from then on.

        Raises:
            WindlassError: it ended, or never answered.
        """
        until = time.monotonic() + READY_S
        while not answers():
            if self._child.poll() is not None or time.monotonic() > until:
                raise WindlassError(f"{self._child.args!r} does not answer: {self._log.read_text()[-800:]}")
            time.sleep(0.1)
        time.sleep(1.0)
        self._idle = self._resident()
        self._began, self._used = time.monotonic(), self._cpu()

    def use(self) -> Use:
        """What it used until now."""
        self._sample()
        return Use(self._idle, self._peak, self._cpu() - self._used, time.monotonic() - self._began)

    def end(self) -> Use:
        """Wait for a job's end; what it used.

        Raises:
            WindlassError: it failed.
        """
        code = self._child.wait()
        use = Use(None, self._peak, self._cpu(), time.monotonic() - self._began)
        self.close()
        if code:
            raise WindlassError(f"{self._child.args!r} ended with {code}: {self._log.read_text()[-800:]}")
        return use

    def close(self) -> None:
        """End it, and what it started and left behind."""
        self._over.set()
        tree = list(self._tree())[1:]
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        for left in tree:
            with contextlib.suppress(psutil.Error):
                left.kill()
        self._thread.join(5)

    def _tree(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            yield self._root
            yield from self._root.children(recursive=True)

    def _resident(self) -> float:
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss / MIB
        return total

    def _cpu(self) -> float:
        return sum(self._times.values())

    def _sample(self) -> None:
        self._peak = max(self._peak, self._resident())
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._times[process.pid] = times.user + times.system

    def _look(self) -> None:
        while not self._over.wait(_LOOKS_S):
            self._sample()
