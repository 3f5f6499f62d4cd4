"""One platform a home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from windlass.errors import AlreadyRunningError, PortInUseError
from windlass.local import lock, processes


def test_a_second_platform_is_refused_with_the_holder_named(tmp_path: Path) -> None:
    """Verify that the message says who runs and how to end it."""
    held = lock.PlatformLock(tmp_path / "home" / "run" / "platform.lock")
    with pytest.raises(AlreadyRunningError, match="windlass down"):
        lock.PlatformLock(tmp_path / "home" / "run" / "platform.lock")
    held.release()
    lock.PlatformLock(tmp_path / "home" / "run" / "platform.lock").release()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    """Verify that the lock of a process killed with SIGKILL is free again at once."""
    path = tmp_path / "run" / "platform.lock"
    code = (
        "import time; from pathlib import Path; from windlass.local.lock import PlatformLock; "
        f"held = PlatformLock(Path({str(path)!r})); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert lock.holder(path) == process.pid
    process.kill()
    process.wait()
    assert lock.holder(path) is None


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Verify that the error carries the port and what it was for."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} for predictions"):
            processes.require_port(port, "predictions")


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """Verify that a server that cannot start says why in the error."""
    from windlass.errors import WindlassError

    child = processes.start(
        "the thing", [sys.executable, "-c", "print('no model here'); raise SystemExit(3)"], tmp_path / "x.log"
    )
    with pytest.raises(WindlassError, match=r"(?s)the thing ended with code 3.*no model here"):
        processes.wait_ready(child, "http://127.0.0.1:9/")
