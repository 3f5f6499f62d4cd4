"""Runs by name on this machine, each in a process of its own that outlives whoever asked for it.

A run is a folder, `runs/.submitted/<name>/`: `request.json` is written before its process starts, `outcome.json` by
that process at the end, and a lock that the process inherits says whether it lives. So whoever asks, after whatever
crash, finds the run: it goes on, it has ended, or its process died and is started again under the same name, where
finished steps are taken from the cache and a registered version is found.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import atomic
from windlass.errors import WindlassError
from windlass.settings import Settings

REQUEST, OUTCOME, LOG, LOCK = "request.json", "outcome.json", "log.txt", ".lock"
MOST_STARTS = 5
"""A run whose process was killed so often has failed."""


@dataclass(frozen=True)
class Finished:
    """How a run ended: `result` of the pipeline, or `error`; `seconds` it took."""

    result: Mapping[str, Any] | None
    error: str | None
    seconds: float


class LocalRuns:
    """The runs of one home.

    Args:
        worker: the first words of the command that carries a run out; the run's folder and the lock's descriptor are
            added.
    """

    def __init__(
        self, settings: Settings, *, worker: tuple[str, ...] = (sys.executable, "-m", "pipelines.submitted")
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def folder(self, name: str) -> Path:
        return self._settings.runs_dir / ".submitted" / name

    def submit(self, name: str, workload: str, detail: Mapping[str, Any]) -> str:
        """Start the run, or find it; the request of a run that is known is not changed.

        Args:
            detail: of the signal; what is trained on follows from it, see `pipelines.span`.

        Raises:
            WindlassError: its process cannot be started.
        """
        folder = self.folder(name)
        if not (folder / REQUEST).is_file():
            request = {"name": name, "workload": workload, "detail": dict(detail), "starts": 0}
            atomic.write_text(folder / REQUEST, json.dumps(request))
        self._start(name)
        return f"local:{name}"

    def find(self, name: str) -> Finished | None:
        """How the run ended, None while it goes on; one whose process died is started again.

        Raises:
            WindlassError: it was never submitted, or its process cannot be started.
        """
        folder = self.folder(name)
        try:
            ended: dict[str, Any] = json.loads((folder / OUTCOME).read_bytes())
        except FileNotFoundError:
            if not (folder / REQUEST).is_file():
                done = self._settings.runs_dir / name / "result.json"
                if done.is_file():  # by whoever ran the pipeline itself under this name
                    result = json.loads(done.read_bytes())
                    return Finished(result, None, float(result.get("seconds", 0.0)))
                raise WindlassError(
                    f"run {name} was never submitted on {self._settings.home}; look where it was, or give it up"
                ) from None
            self._start(name)
            return None
        self._reap(name)
        return Finished(ended["result"], ended["error"], ended["seconds"])

    def wait(self, name: str, progress: Callable[[str], None], every_s: float = 0.1) -> Finished:
        """Wait until the run has ended; what its process prints is told line by line.

        Raises:
            WindlassError: it was never submitted, or its process cannot be started.
        """
        log = self.folder(name) / LOG
        told = 0
        while True:
            ended = self.find(name)
            if log.is_file():
                with log.open("rb") as file:
                    file.seek(told)
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                told += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    progress(line)
            if ended is not None:
                return ended
            time.sleep(every_s)

    def _start(self, name: str) -> None:
        """Start the process of a run that has not ended and has none."""
        self._reap(name)
        folder = self.folder(name)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if (folder / OUTCOME).is_file():
                return
            with (folder / LOG).open("ab") as log:
                # the process inherits the lock: there is no moment at which it runs without holding it
                self._children[name] = subprocess.Popen(
                    [*self._worker, str(folder), str(descriptor)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        **os.environ,
                        "WINDLASS_HOME": str(self._settings.home),
                        "WINDLASS_PROJECT": str(self._settings.project),
                    },
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
        except OSError as error:
            raise WindlassError(f"the process of run {name} cannot be started: {error}") from error
        finally:
            os.close(descriptor)

    def _reap(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            del self._children[name]
