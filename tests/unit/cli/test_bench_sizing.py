"""`windlass bench sizing`: what it says of a process is what the process says of itself."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from benchmarks.sizing.process import Measured
from windlass.errors import WindlassError

CHILD = (
    "held = bytearray(b'x') * (64 << 20); import sys, time; open(sys.argv[1], 'w').close(); time.sleep(60)"
)
HOLDS = f"""
import subprocess, sys, time
held = bytearray(b"x") * (64 << 20)
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[1]])
time.sleep(60)
"""
SPINS = """
import sys, time
while time.process_time() < 1.0: pass
print(time.process_time())
"""


def test_memory_is_that_of_a_process_and_its_children(tmp_path: Path) -> None:
    """Verify that 64 MiB here and 64 MiB in a child are 128 MiB and two interpreters."""
    began = tmp_path / "began"
    process = Measured([sys.executable, "-c", HOLDS, str(began)], tmp_path / "log", {})
    with contextlib.closing(process):
        process.ready(began.exists)
        use = process.use()
    assert use.idle_mib is not None
    assert 128 < use.peak_mib < 256 and use.idle_mib <= use.peak_mib


def test_processor_time_is_the_jobs_own(tmp_path: Path) -> None:
    """Verify it against the job's own clock; it is looked at twenty times a second."""
    use = Measured([sys.executable, "-c", SPINS], tmp_path / "log", {}).end()
    said = float((tmp_path / "log").read_text())
    assert said / 2 < use.cpu_s < said + 0.5
    assert use.idle_mib is None


def test_a_job_that_fails_is_no_measurement(tmp_path: Path) -> None:
    job = Measured([sys.executable, "-c", "raise SystemExit('no room')"], tmp_path / "log", {})
    with pytest.raises(WindlassError, match="no room"):
        job.end()
