"""The result as one JSON object and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.drift.agreement import Agreement
from benchmarks.drift.rounds import PRESET, WINDLASS, Run
from benchmarks.report import judged, machine, targets_table

BENCH = "drift"
MILLION = 1_000_000
TIMES = 20.0
GIGABYTE = 1024.0
"""Megabytes; memory is given in MB of 2**20 bytes."""


def document(
    runs: Sequence[Run], agreements: dict[str, Agreement], not_run: dict[str, str], told: dict[str, Any]
) -> dict[str, Any]:
    """The object that `windlass bench drift --json` prints."""
    return {
        "bench": BENCH,
        "machine": machine(),
        **told,
        "measurements": [*_speeds(runs), *_ratios(runs), *_agreed(agreements)],
        "targets": _targets(runs, agreements),
        "not_run": not_run,
    }


def of(runs: Sequence[Run], contender: str, rows: int) -> list[Run]:
    """A contender's runs at a size, in the order of the rounds."""
    return [run for run in runs if run.contender == contender and run.rows == rows]


def _speeds(runs: Sequence[Run]) -> list[dict[str, Any]]:
    rows = []
    for size, contender in dict.fromkeys((run.rows, run.contender) for run in runs):
        found = of(runs, contender, size)
        figures = (
            ("rows/s", median(size / run.seconds for run in found), "rows/s"),
            ("rows per CPU second", median(size / run.cpu for run in found), "rows/s"),
            ("time", median(run.seconds for run in found), "s"),
            ("peak memory", max(run.peak for run in found) / 2**20, "MB"),
        )
        rows += [_row(name, f"{size:,} rows", contender, value, unit) for name, value, unit in figures]
    return rows


def ratios(runs: Sequence[Run], rival: str, rows: int, *, cpu: bool = False) -> list[float]:
    """How many times our rows/s are a rival's, by round."""
    pairs = zip(of(runs, WINDLASS.name, rows), of(runs, rival, rows), strict=False)
    return [theirs.cpu / ours.cpu if cpu else theirs.seconds / ours.seconds for ours, theirs in pairs]


def _ratios(runs: Sequence[Run]) -> list[dict[str, Any]]:
    found = []
    for rows, rival in dict.fromkeys((run.rows, run.contender) for run in runs):
        if rival == WINDLASS.name or not of(runs, WINDLASS.name, rows):
            continue
        for name, cpu in (("rows/s over its", False), ("rows per CPU second over its", True)):
            value = median(ratios(runs, rival, rows, cpu=cpu))
            found.append(_row(name, f"{rows:,} rows", rival, value, "times"))
    return found


def _agreed(agreements: dict[str, Agreement]) -> list[dict[str, Any]]:
    found = []
    for name, agreement in agreements.items():
        found.append(_row("exact distances", name, WINDLASS.name, agreement.exact, "count"))
        if agreement.difference is not None:
            found.append(
                _row("largest difference where exact", name, WINDLASS.name, agreement.difference, "distance")
            )
        if agreement.sketched:
            found.append(_row("distances with bounds", name, WINDLASS.name, agreement.sketched, "count"))
            found.append(_row("outside of the bounds", name, WINDLASS.name, agreement.outside, "count"))
        for method, width in sorted(agreement.width.items()):
            found.append(_row(f"widest bounds, {method}", name, WINDLASS.name, width, "distance"))
    return found


def _row(name: str, case: str, contender: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "case": case, "contender": contender, "value": value, "unit": unit}


def _targets(runs: Sequence[Run], agreements: dict[str, Agreement]) -> list[dict[str, Any]]:
    differences = [a.difference for a in agreements.values() if a.difference is not None]
    sketched = sum(a.sketched for a in agreements.values())
    outside = sum(a.outside for a in agreements.values())
    times = ratios(runs, PRESET.name, MILLION)
    peaks = {rows: [run.peak for run in of(runs, WINDLASS.name, rows)] for rows in (10**7, 10**8)}
    flat = max(peaks[10**8]) / max(peaks[10**7]) if peaks[10**7] and peaks[10**8] else None
    ours = [run.peak / 2**20 for run in runs if run.contender.startswith(WINDLASS.name)]
    exact = judged("same statistics within 1e-9 where exact", max(differences, default=None), "<=", 1e-9)
    # such small figures must not be rounded to 0 before they are read
    exact.update(value=max(differences, default=None), target=1e-9)
    return [
        exact,
        judged(
            "within stated bounds where sketched", 1 - outside / sketched if sketched else None, "==", 1.0
        ),
        judged("rows/s over Evidently's at 1 million", median(times) if times else None, ">=", TIMES),
        judged("memory flat 10→100 million", flat, "<=", 1.1),
        judged("peak memory, MB (< 1 GB)", max(ours, default=None), "<", GIGABYTE),
    ]


def table(found: dict[str, Any]) -> str:
    """The same for people: a block for each figure, a row for each size, a column for each contender."""
    blocks: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in found["measurements"]:
        block = blocks.setdefault((row["name"], row["unit"]), {})
        block.setdefault(row["case"], {})[row["contender"]] = row["value"]
    lines = []
    for (name, unit), cases in blocks.items():
        contenders = list(dict.fromkeys(contender for row in cases.values() for contender in row))
        lines.append(f"\n{f'{name}, {unit}':48}" + "".join(f"{c:>24}" for c in contenders))
        for case, row in cases.items():
            lines.append(f"  {case:46}" + "".join(f"{_shown(row.get(c)):>24}" for c in contenders))
    lines += ["", *targets_table(found["targets"])]
    lines += [f"not run: {name}: {reason}" for name, reason in found["not_run"].items()]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
