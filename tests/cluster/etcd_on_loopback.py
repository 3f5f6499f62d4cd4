"""An etcd of a test's own on loopback, without the safety of its disk: what a power cut would take, no test needs."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request
from pathlib import Path

from tests.cluster.processes import IN_USE, Program
from tests.cluster.tools.build import tool
from windlass.errors import WindlassError

HOST = "127.0.0.1"
#: Another process may take a port between our look and the server's start: so often it is tried with a new one.
STARTS = 3
#: On a machine that compiles beside it.
READY_S = 180.0


def started(data: Path, logs: Path) -> tuple[Program, str]:
    """Start etcd and wait until it is healthy; returns it and its URL.

    Raises:
        WindlassError: it ended, or was not healthy in time; the last lines of its log are in the message.
    """
    for attempt in range(STARTS):
        url, peers = f"http://{HOST}:{free_port()}", f"http://{HOST}:{free_port()}"
        etcd = Program(
            "etcd",
            [
                tool("etcd"),
                f"--data-dir={data}",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            logs,
        )
        etcd.start()
        if _healthy(etcd, url):
            return etcd, url
        if attempt == STARTS - 1 or IN_USE not in etcd.tail():
            break
    etcd.require_running()
    etcd.kill()
    raise WindlassError(f"etcd was not healthy within {READY_S:g} s; {etcd.log}:\n{etcd.tail()}")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _healthy(etcd: Program, url: str) -> bool:
    deadline = time.monotonic() + READY_S
    while etcd.running() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
            return True
        time.sleep(0.02)
    return False
