"""`windlass bench release`: what the release engine's statistics, strategies and simulator are held to."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from benchmarks.release import plots, report
from benchmarks.release.parts import PARTS, Options, Part, Progress
from windlass import atomic
from windlass.cli import app
from windlass.errors import UsageError, WindlassError


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench release` takes."""
    parser = app.Parser(
        prog="windlass bench release",
        description="Simulates the release engine: false decisions, sample sizes, guardrails, bandits, splits, faults.",
        epilog=f"example: windlass bench release --only aa,power --out bench-out\nParts: {', '.join(PARTS)}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON and the plots there")
    parser.add_argument("--only", type=_names, default=list(PARTS), metavar="A,B", help="these parts only")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it work at all")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (default: the cores)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default 1)")
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Run and print.

    Raises:
        UsageError: a part is not known, or no process may work.
    """
    if unknown := [name for name in told.only if name not in PARTS]:
        raise UsageError(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    workers = os.cpu_count() or 1 if told.workers is None else told.workers
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give 1 or more")
    options = Options(quick=told.quick, workers=workers, seed=told.seed)
    found: dict[str, Part] = {}
    not_run: dict[str, str] = {}
    for name in (part for part in PARTS if part in told.only):
        module = f"benchmarks.release.{name}"
        if importlib.util.find_spec(module) is None:
            not_run[name] = "there is no such module yet"
            continue
        try:
            found[name] = importlib.import_module(module).measure(options, Progress(name))
        except WindlassError as error:
            not_run[name] = str(error)
    document = report.document(found, not_run, options)
    if told.out:
        atomic.write_text(told.out / "release.json", json.dumps(document, indent=1) + "\n")
        plots.write({name: part.plots for name, part in found.items()}, told.out)
    print(json.dumps(document) if told.json else report.table(document))
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(app.run(sys.argv[1:], parser=build_parser()))
