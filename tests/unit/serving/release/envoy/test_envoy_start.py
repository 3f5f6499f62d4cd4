"""Envoy's start, where the program itself fails."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from serving.release.envoy.process import MOST_ABORTS, PORTS, EnvoyProcess, free_port
from windlass.errors import WindlassError


class Aborting(EnvoyProcess):
    """The first so many processes abort; the one after them lives."""

    def __init__(self, directory: Path, aborts: int, signal: str = "ABRT") -> None:
        super().__init__(directory)
        self.started = 0
        self._aborts = aborts
        self._signal = signal

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.started += 1
        aborts = self.started <= self._aborts
        return subprocess.Popen(["bash", "-c", f"kill -{self._signal} $$"] if aborts else ["sleep", "60"])


def test_a_start_that_aborts_is_tried_again(tmp_path: Path) -> None:
    """Verify that an abort before Envoy is ready costs another start and nobody an error."""
    envoy = Aborting(tmp_path, aborts=MOST_ABORTS)
    envoy.start(lambda: envoy.started > MOST_ABORTS)
    assert envoy.running()
    envoy.stop()


@pytest.mark.parametrize(
    ("aborts", "signal", "starts"),
    [
        pytest.param(MOST_ABORTS + 1, "ABRT", MOST_ABORTS + 1, id="one-that-always-aborts"),
        pytest.param(1, "TERM", 1, id="one-that-somebody-ended"),
    ],
)
def test_any_other_end_is_an_error(tmp_path: Path, aborts: int, signal: str, starts: int) -> None:
    """Verify that starts are not repeated for ever, and not where Envoy was told to end."""
    envoy = Aborting(tmp_path, aborts, signal)
    with pytest.raises(WindlassError, match="Envoy ended with status -"):
        envoy.start(lambda: envoy.started > starts)
    assert envoy.started == starts


def test_a_free_port_is_nobodys_and_comes_once() -> None:
    """Verify that none is listened on, and that none is of those that Linux gives to any connection."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        ports = [free_port() for _ in range(100)]
        assert taken.getsockname()[1] not in ports
    assert len(set(ports)) == len(ports) and set(ports) <= set(PORTS)
    assert max(PORTS) < 32_768
