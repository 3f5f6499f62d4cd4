"""Starting, watching and ending child processes of the local platform."""

from __future__ import annotations

import contextlib
import http.client
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


def started(pid: int) -> str | None:
    """When a process began, as a text that no other process of that number ever had; None where none runs.

    A process that ended and that nobody waited for yet does not run. Linux only (reads /proc).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # the name in parentheses may hold anything; the state and the start time stand behind it
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def stopped(pid: int) -> bool:
    """Whether a process stands still (SIGSTOP, a debugger)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


class Adopted:
    """A process that another one started, with the part of `Popen` that a `Child` needs.

    Args:
        began: what `started` said of it, so that a process that took over its number is not mistaken for it.
    """

    def __init__(self, pid: int, began: str) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._began = began

    def poll(self) -> int | None:
        """None while it runs; nobody but its parent knows its exit code, so that it is -1 afterwards."""
        if self.returncode is None and started(self.pid) != self._began:
            self.returncode = -1
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        try:
            # the descriptor stays with this process, whoever gets its number next
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.poll() is None:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass
class Child:
    """One running child and where its output goes; `port` is the one it was told to listen on, if any."""

    name: str
    process: subprocess.Popen[bytes] | Adopted
    log: Path
    port: int | None = None

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
            # one that stands still hears it only once it goes on
            self.process.send_signal(signal.SIGCONT)
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
    name: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
) -> Child:
    """Start a child whose output goes to `log`; one that outlives us is for `windlass.local.records`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    return Child(name, process, log, port)


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
        if answers(url):
            return
        time.sleep(0.02)
    raise WindlassError(
        f"{child.name} was not ready at {url} within {timeout:.0f} s; the end of {child.log}:\n{child.tail()}"
    )


def answers(url: str, timeout: float = 1.0) -> bool:
    """Whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - a loopback address of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
