"""Starting, watching and ending child processes of the local platform."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import PortInUseError, WindlassError


def require_port(port: int, purpose: str, host: str = "127.0.0.1") -> int:
    """Return `port` if it can be listened on.

    Raises:
        PortInUseError: something listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"port {port} for {purpose} is in use ({error.strerror}); "
                "choose another with --port or end what listens there"
            ) from error
    return port


@dataclass
class Child:
    """One running child and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to drain and end; kill it if it does not."""
        if not self.alive():
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start a child whose output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    return Child(name, process, log)


def wait_ready(child: Child, url: str, timeout: float = 60.0) -> None:
    """Wait until `url` answers 200.

    Raises:
        WindlassError: the child ended or did not get ready in time; the end of its log is in the message.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not child.alive():
            raise WindlassError(
                f"{child.name} ended with code {child.process.returncode} before it was ready; "
                f"the end of {child.log}:\n{child.tail()}"
            )
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - a loopback address of ours
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise WindlassError(
        f"{child.name} was not ready at {url} within {timeout:.0f} s; the end of {child.log}:\n{child.tail()}"
    )
