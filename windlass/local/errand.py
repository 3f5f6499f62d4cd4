"""A process that the loop starts and never waits for: one at a time, at the lowest priority, ended when it hangs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from windlass.settings import Settings


class Errand:
    """Runs commands of one kind for a platform; times are of a clock that nobody sets, in seconds.

    Args:
        log: what the last one said.
        limit_s: one that takes longer is ended.
    """

    def __init__(self, settings: Settings, log: Path, limit_s: float) -> None:
        self._settings = settings
        self._log = log
        self._limit_s = limit_s
        self._deadline = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the one under way; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self, words: Sequence[str], now: float) -> None:
        """Start a command; none may be under way."""
        assert self._process is None  # noqa: S101 - asked by turn
        self._log.parent.mkdir(parents=True, exist_ok=True)
        nice = shutil.which("nice")
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*([nice, "-n", "19"] if nice else []), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._settings.project,
                env={
                    **os.environ,
                    "WINDLASS_HOME": str(self._settings.home),
                    "WINDLASS_PROJECT": str(self._settings.project),
                },
            )
        self._deadline = now + self._limit_s

    def ended(self, now: float) -> bool | None:
        """Whether the one under way ended well; None while it goes on. Told once."""
        assert self._process is not None  # noqa: S101 - asked by turn
        code = self._process.poll()
        if code is None and now < self._deadline:
            return None
        if code is None:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code == 0

    def close(self) -> None:
        """End the one under way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
