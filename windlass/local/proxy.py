"""An Envoy that no death of its starter ends, and that another process may take over."""

from __future__ import annotations

import time
from pathlib import Path

from serving.release.envoy import process as envoy_process
from serving.release.envoy.backend import Endpoints, EnvoyBackend
from serving.release.envoy.process import EnvoyProcess
from windlass.local.records import Records


class LastingEnvoy(EnvoyProcess):
    """Envoy as a recorded process; one that runs already is this one."""

    def __init__(self, directory: Path, records: Records, key: str) -> None:
        super().__init__(directory)
        self._records, self._key = records, key
        self._adopt()

    def running(self) -> bool:
        """Whether it runs; somebody else may have started it since."""
        if not super().running():
            self._adopt()
        return super().running()

    def stop(self, timeout: float = 5.0) -> None:
        """As `EnvoyProcess.stop`, whoever started it."""
        super().stop(timeout)
        self._records.forget(self._key)

    def _spawn(self) -> envoy_process.Process:
        command = envoy_process.command(self.directory)
        log = self.directory / "envoy.out"
        return self._records.start(self._key, "Envoy", command, log).process

    def _adopt(self) -> None:
        child = self._records.find(self._key)
        self._process = None if child is None else child.process


class LastingProxy(EnvoyBackend):
    """The backend of a recorded Envoy."""

    def __init__(self, directory: Path, endpoints: Endpoints, records: Records, key: str) -> None:
        super().__init__(directory, endpoints)
        self._lasting = LastingEnvoy(directory, records, key)
        self._process = self._lasting
        self._live = self._lasting.running()

    def alive(self) -> bool:
        """Whether the process runs, whether or not it answers."""
        self._live = self._lasting.running()
        return self._live

    def adopt(self, timeout: float = 5.0) -> bool:
        """Whether it runs and answers within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive() and time.monotonic() < deadline:
            if self.running():
                return True
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        """End one that does not answer."""
        self._lasting.stop(0.0)
        self._live = False
