"""Build all that a node is made of, where it is not there: `python -m tests.cluster.node.prepare [--beside]`.

`--beside` is for the time in which other tests run (`.ci/run`): once the API server's tier has its programs, which
those tests wait for, it takes one processor at most, and that only where nobody else wants it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.node import machine
from tests.cluster.node.images import archive
from tests.cluster.node.releases import IMAGES
from tests.cluster.tools import build
from tests.cluster.tools.catalogue import API_TIER, TOOLS
from windlass.errors import WindlassError


def main(arguments: Sequence[str] | None = None) -> int:
    """Build it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.node.prepare", description=__doc__)
    parser.add_argument("--beside", action="store_true", help="leave the machine to what else runs")
    given = parser.parse_args(arguments)
    _end_together()
    code = build.main(["--api-tier"])
    if code:
        return code
    why = machine.no_node()
    if why is not None:
        print(f"node tier SKIPPED: {why}")
        return 0
    if given.beside:
        _step_back()
        os.environ["GOMAXPROCS"] = "1"  # what `go build` takes for the number of processors
    code = build.main([name for name in TOOLS if name not in API_TIER])
    if code:
        return code
    try:
        for name in ("pause", *IMAGES):
            print(f"{name} is there: {archive(name)}", flush=True)
    except WindlassError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _step_back() -> None:
    """Take a processor where nobody else wants it.

    A kernel that shares the processors out between sessions asks a process to be nice to its own session alone: beside
    the servers that tests start in theirs it would get as much as each. There the session has to be nice.
    """
    os.nice(19)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # a kernel that does not
            Path("/proc/self/autogroup").write_text("19")


def _end_together() -> None:
    """Have what is started here, and what that starts, end with this process when it is told to end."""
    if os.getpgrp() != os.getpid():
        os.setsid()

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


if __name__ == "__main__":
    sys.exit(main())
