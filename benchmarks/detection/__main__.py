"""`windlass bench detection`: false alarms when nothing happens, and delay when something does, on real flights."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from benchmarks.detection import flights, plots, report, work
from benchmarks.detection.changes import Outcome
from benchmarks.detection.quarters import Alarms, Asked
from windlass import atomic, settings, telemetry
from windlass.cli import app
from windlass.errors import UsageError

EVERY_SIZE = 2
"""Worlds in which shifts of all sizes are tried; half a deviation is in all."""


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench detection` takes."""
    parser = app.Parser(
        prog="windlass bench detection",
        description="Judges quarters made of real weeks of flights, as they were and with injected changes.",
        epilog="example: windlass bench detection --quarters 200 --runs 8 --out bench-out\n"
        "Evidently's preset takes seconds a look: it sees --evidently quarters; its default distances, as "
        "computed by ours (tests hold the two together), and the KS test see --rivals.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON and the plots there")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where computed rows are kept")
    parser.add_argument(
        "--worlds", type=int, default=8, metavar="N", help="cuts into reference and live weeks"
    )
    parser.add_argument(
        "--quarters", type=int, default=200, metavar="N", help="quarters with nothing injected"
    )
    parser.add_argument("--rivals", type=int, default=40, metavar="N", help="of these for distances and KS")
    parser.add_argument("--evidently", type=int, default=2, metavar="N", help="of these for Evidently itself")
    parser.add_argument("--runs", type=int, default=8, metavar="N", help="runs of each change of each column")
    parser.add_argument("--outcomes", type=int, default=40, metavar="N", help="runs of changes of the labels")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (default: the cores)")
    parser.add_argument("--quick", action="store_true", help="one world, four quarters, one run")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default 1)")
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Run and print.

    Raises:
        UsageError: a count makes no sense.
    """
    if min(told.worlds, told.quarters) < 1 or min(told.rivals, told.evidently, told.runs, told.outcomes) < 0:
        raise UsageError("--worlds and --quarters must be 1 or more, the other counts 0 or more")
    if told.quick:
        told.worlds, told.quarters, told.rivals, told.evidently, told.runs, told.outcomes = 1, 4, 1, 0, 1, 2
    telemetry.switch_off()
    found = settings.load()
    cache = told.cache or found.cache_dir
    begun = time.monotonic()
    flights.load(cache, found.project)  # once, before there are many who would
    tasks = [_task(told, cache, found.project, k) for k in range(told.worlds)]
    alarms: dict[str, Alarms] = {}
    outcomes: list[Outcome] = []
    counts = ("worlds", "quarters", "rivals", "evidently", "runs", "outcomes", "seed")
    options = {name: getattr(told, name) for name in counts}
    context = multiprocessing.get_context("spawn")
    document = {}
    with context.Pool(min(told.workers or os.cpu_count() or 1, told.worlds)) as pool:
        for k, (rang, seen) in enumerate(pool.imap_unordered(work.run, tasks)):
            for name, a in rang.items():
                alarms.setdefault(name, Alarms()).add(a)
            outcomes += seen
            print(f"{k + 1} of {told.worlds} worlds, {time.monotonic() - begun:.0f} s", file=sys.stderr)
            document = report.document(alarms, outcomes, {**options, "worlds_done": k + 1})
            if told.out:  # after each world: a run that is cut short has said what it saw
                atomic.write_text(told.out / "detection.json", json.dumps(document, indent=1) + "\n")
    if told.out:
        plots.write(document, told.out)
    print(json.dumps(document) if told.json else report.table(document))
    return 0


def _task(told: argparse.Namespace, cache: Path, project: Path, k: int) -> work.Task:
    def part(count: int) -> int:
        """The share of world k: the rest of a division goes to the first ones."""
        worlds = int(told.worlds)
        return count // worlds + (k < count % worlds)

    asked = Asked(part(told.quarters), part(told.rivals), part(told.rivals), part(told.evidently))
    runs = part(told.runs)
    return work.Task(
        cache, project, (told.seed, k), asked, runs, k < EVERY_SIZE, k == told.worlds - 1, part(told.outcomes)
    )


if __name__ == "__main__":
    sys.exit(app.run(sys.argv[1:], parser=build_parser()))
