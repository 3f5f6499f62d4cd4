"""However a platform dies, nothing that it started goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import signal, subprocess, sys, time
# a background job of a shell inherits SIGINT as ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from windlass.local.lifeline import Lifeline
lifeline = Lifeline()
# a grandchild in a session of its own: neither its parent's death nor a signal to the group reaches it
code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
code += "start_new_session=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print(lifeline.mark, flush=True)
time.sleep(600)
"""


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "interrupt"]
)
def test_grandchildren_end_with_their_platform(number: signal.Signals) -> None:
    """Verify that a grandchild in another session is ended too."""
    from windlass.local.lifeline import marked_processes

    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    mark = parent.stdout.readline().strip()
    assert wait_for(lambda: len(marked_processes(mark)) >= 2), "the children never started"
    os.kill(parent.pid, number)
    parent.wait(timeout=60)
    assert wait_for(lambda: not marked_processes(mark))


def test_close_ends_the_tree_and_the_guard(tmp_path: Path) -> None:
    """Verify that an orderly end leaves neither children nor the guard."""
    code = """
import subprocess, sys, psutil
from windlass.local.lifeline import Lifeline
lifeline = Lifeline()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
lifeline.close()
print(len([p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "0"
