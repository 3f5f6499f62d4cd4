"""What is done in one world; a module of its own, because processes that are spawned import it by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.detection import changes, flights, quarters, worlds
from benchmarks.detection.changes import Outcome
from benchmarks.detection.quarters import Alarms, Asked


@dataclass(frozen=True)
class Task:
    """What is done in one world."""

    cache: Path
    project: Path
    seed: tuple[int, int]
    asked: Asked
    runs: int
    every_size: bool
    rivals: bool
    outcome_runs: int


def run(task: Task) -> tuple[dict[str, Alarms], list[Outcome]]:
    """Everything that happens in one world."""
    rows = flights.load(task.cache, task.project)
    world = worlds.make(rows, task.seed)
    rang = quarters.run(world, task.asked, list(task.seed))
    seen = changes.columns(world, task.runs, list(task.seed), every_size=task.every_size, rivals=task.rivals)
    seen += changes.outcomes(world, task.outcome_runs, list(task.seed))
    return rang, seen
