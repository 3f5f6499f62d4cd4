"""Who is measured at which size, taking turns, each time in a process of its own with a cap on its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.drift.contender import MEMORY_EXIT
from benchmarks.drift.data import Files
from windlass.errors import WindlassError

TIMEOUT_S = 3600


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        seconds: from the files to the distances, without imports.
        cpu: CPU seconds of all threads in that time.
        peak: bytes resident at most, imports and all.
        values: what it found by column, or by column and method.
    """

    contender: str
    rows: int
    seconds: float
    cpu: float
    peak: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A way to the distances of a window from its reference.

    Attributes:
        job: what the process is told beside the files.
        largest: rows of the largest window it is given.
    """

    name: str
    job: dict[str, Any]
    largest: float = float("inf")


OURS = {"contender": "windlass", "exact_values": None, "threads": None, "methods": None}
WINDLASS = Contender("windlass", OURS)
SKETCHED = Contender("windlass in cells", {**OURS, "exact_values": 0}, 1e6)
ONE_THREAD = Contender("windlass, one thread", {**OURS, "threads": 1}, 1e6)
PRESET = Contender("evidently", {"contender": "evidently", "forced": False}, 1e6)
FORCED = Contender("evidently, named", {"contender": "evidently", "forced": True}, 1e6)
SCIPY = Contender("scipy", {"contender": "scipy"}, 1e7)
ALL = {
    "windlass": WINDLASS,
    "cells": SKETCHED,
    "thread": ONE_THREAD,
    "evidently": PRESET,
    "forced": FORCED,
    "scipy": SCIPY,
}
"""By the name that --only takes, in the order of a round."""


def measure(
    contenders: Iterable[Contender],
    files: Files,
    rows: int,
    memory: float,
    rounds: int,
    say: Callable[[str], None],
    before: Sequence[Run] = (),
) -> tuple[list[Run], dict[str, str]]:
    """Let the contenders take turns at a window; also say who did not run and why.

    Args:
        before: runs of smaller windows, which show what a contender needs.
    """
    runs: list[Run] = []
    not_run: dict[str, str] = {}
    for number in range(rounds):
        for contender in contenders:
            label = f"{contender.name}, {rows:,} rows"
            if rows > contender.largest:
                not_run[label] = _too_large(contender, before)
            if label in not_run:
                continue
            run = once(contender, files, rows, memory)
            if run is None:
                not_run[label] = f"needs more than the {memory / 2**30:.1f} GB of --memory"
                say(f"{label}: {not_run[label]}")
                continue
            runs.append(run)
            say(
                f"round {number + 1}, {label}: {run.seconds:.2f} s, {run.cpu:.2f} s of CPU, "
                f"{run.peak / 2**20:,.0f} MB at most"
            )
    return runs, not_run


def _too_large(contender: Contender, before: Sequence[Run]) -> str:
    reason = f"not given more than {int(contender.largest):,} rows"
    found = [run for run in before if run.contender == contender.name]
    if not found or contender.job["contender"] == WINDLASS.job["contender"]:
        return reason
    largest = max(found, key=lambda run: run.rows)
    return f"{reason}; of {largest.rows:,} it took {largest.peak / 2**20:,.0f} MB and {largest.seconds:.0f} s"


def once(contender: Contender, files: Files, rows: int, memory: float) -> Run | None:
    """Run one; None if the cap on memory was too small for it.

    Raises:
        WindlassError: it failed.
    """
    job = {
        "reference": str(files.reference),
        "window": [str(path) for path in files.windows[rows]],
        "columns": files.columns,
        "labels": files.labels,
        "memory": memory,
        **contender.job,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.drift.contender"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode == MEMORY_EXIT:
        return None
    if done.returncode:
        raise WindlassError(
            f"{contender.name} failed at {rows:,} rows with exit status {done.returncode}: "
            f"{done.stderr.strip()[-2000:]}"
        )
    found = json.loads(done.stdout)
    return Run(contender.name, rows, found["seconds"], found["cpu"], found["peak"], found["values"])
