"""`windlass bench drift`: distances of windows too large for a data frame, beside Evidently's and scipy's."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.drift import agreement, data, plots, report, rounds
from benchmarks.drift.agreement import Agreement
from benchmarks.drift.rounds import ALL, Contender, Run
from windlass import atomic
from windlass.cli import app
from windlass.errors import UsageError

FEWEST_ROWS = 2000
"""Evidently's default distances are others for a reference of at most 1000 rows."""
REPEATED = 1_000_000
"""Larger windows are measured once."""


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench drift` takes."""
    parser = app.Parser(
        prog="windlass bench drift",
        description="Measures rows/s and memory of drift statistics over generated parquet files.",
        epilog="example: windlass bench drift --rows 1e6,1e7 --out bench-out\n"
        f"Contenders: {', '.join(ALL)}; Evidently and what is in cells run up to 1 million rows, scipy up to 10.\n"
        "The files lie under TMPDIR and are removed; 100 million rows of 30 columns take 11 GB.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON and the plots there")
    parser.add_argument(
        "--rows", type=_numbers, default=[10**6, 10**7, 10**8], metavar="N,M", help="default: 1e6,1e7,1e8"
    )
    parser.add_argument("--columns", type=int, default=30, metavar="N", help="default: 30")
    parser.add_argument(
        "--rounds", type=int, default=2, metavar="N", help="turns up to 1 million rows (default: 2)"
    )
    parser.add_argument("--only", type=_names, default=list(ALL), metavar="A,B", help="these contenders only")
    parser.add_argument(
        "--memory", type=float, default=6.0, metavar="GB", help="a contender's memory at most (default: 6)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default: 1)")
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Generate, measure and print.

    Raises:
        UsageError: what was asked for cannot be measured.
        WindlassError: no room on the disk, or a contender failed.
    """
    if unknown := [name for name in told.only if name not in ALL]:
        raise UsageError(f"no contender {unknown[0]!r}; there are: {', '.join(ALL)}")
    if not told.rows or min(told.rows) < FEWEST_ROWS:
        raise UsageError(f"--rows must be {FEWEST_ROWS} or more: Evidently's distances are others below that")
    if told.columns < 1 or told.rounds < 1 or told.memory <= 0:
        raise UsageError("--columns and --rounds must be 1 or more, --memory more than 0")
    contenders = [contender for name, contender in ALL.items() if name in told.only]
    runs: list[Run] = []
    not_run: dict[str, str] = {}
    agreements: dict[str, Agreement] = {}
    memory = told.memory * 2**30
    with tempfile.TemporaryDirectory(prefix="windlass-bench-drift-") as folder:
        files = data.generate(Path(folder), told.rows, told.columns, told.seed, say)
        for rows in told.rows:
            turns = told.rounds if rows <= REPEATED else 1
            found, missing = rounds.measure(contenders, files, rows, memory, turns, say, before=runs)
            runs += found
            not_run |= missing
            agreements |= _compare(found, rows)
        if told.only == list(ALL):
            say(f"all statistics by their own functions, {min(told.rows):,} rows")
            agreements |= _all_statistics(files, min(told.rows), memory)
    options = {"rows": told.rows, "columns": told.columns, "rounds": told.rounds, "seed": told.seed}
    document = report.document(runs, agreements, not_run, options)
    if told.out:
        atomic.write_text(told.out / "drift.json", json.dumps(document, indent=1) + "\n")
        plots.write(document, told.out)
    print(json.dumps(document) if told.json else report.table(document))
    return 0


def _compare(runs: list[Run], rows: int) -> dict[str, Agreement]:
    """Ours beside each other contender's default distances of the same window."""
    last = {run.contender: run.values for run in runs}
    ours = {name: last[name] for name in (rounds.WINDLASS.name, rounds.SKETCHED.name) if name in last}
    return {
        f"{name} and {other}, {rows:,} rows": agreement.between(values, last[other])
        for name, values in ours.items()
        for other in (rounds.PRESET.name, rounds.SCIPY.name)
        if other in last
    }


def _all_statistics(files: data.Files, rows: int, memory: float) -> dict[str, Agreement]:
    """Ours, exact and in cells, beside the functions of Evidently and scipy for every statistic."""
    theirs = rounds.once(Contender("theirs", {"contender": "theirs"}), files, rows, memory)
    found = {}
    for name, exact in (("exact", None), ("in cells", 0)):
        job: dict[str, Any] = {**rounds.OURS, "methods": "all", "exact_values": exact}
        ours = rounds.once(Contender(name, job), files, rows, memory)
        if ours is not None and theirs is not None:
            found[f"every statistic {name}, {rows:,} rows"] = agreement.between(ours.values, theirs.values)
    return found


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return sorted({int(float(number)) for number in _names(text)})


if __name__ == "__main__":
    sys.exit(app.run(sys.argv[1:], parser=build_parser()))
