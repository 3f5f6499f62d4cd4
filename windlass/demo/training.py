"""Pipeline runs of the demo: `windlass train` as anybody would run it, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windlass.errors import WindlassError
from windlass.settings import Settings


async def run(
    settings: Settings,
    workload: str,
    start: datetime,
    end: datetime,
    *,
    run_id: str,
    trials: int,
) -> dict[str, Any]:
    """Train on the days from `start` up to, not including, `end`; returns what `windlass train --json` printed.

    Raises:
        WindlassError: the pipeline failed; its last words are in the message.
    """
    # nothing else needs much of the cores meanwhile, and the model is the same with any number of threads
    threads = os.environ.get("WINDLASS_TRAIN_THREADS", str(min(2, len(os.sched_getaffinity(0)))))
    last_day = end - timedelta(seconds=1)
    log = settings.logs_dir / f"train-{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["train", workload, "--from", f"{start:%Y-%m-%d}", "--to", f"{last_day:%Y-%m-%d}"]
    arguments += ["--trials", str(trials), "--run-id", run_id, "--json"]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "windlass", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
            env={**environment(settings), "WINDLASS_TRAIN_THREADS": threads},
        )
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise WindlassError(
            f"pipeline run {run_id} failed with code {process.returncode}: {_tail(log)} "
            + output.decode(errors="replace")
        )
    result: dict[str, Any] = json.loads(output)
    return result


def environment(settings: Settings) -> dict[str, str]:
    """What a child needs to work on the same home."""
    return {**os.environ, "WINDLASS_HOME": str(settings.home), "WINDLASS_PROJECT": str(settings.project)}


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-8:])
