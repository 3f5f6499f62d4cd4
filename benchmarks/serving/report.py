"""The result as one JSON object and as a table."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.report import machine, targets_table
from benchmarks.serving.results import NAMES, Results
from benchmarks.serving.targets import TARGETS

BENCH = "serving"


def document(results: Results) -> dict[str, Any]:
    """The object that `windlass bench serving --json` prints."""
    return {
        "bench": BENCH,
        "machine": machine(),
        "measurements": results.measurements(),
        "targets": [target.judge(results) for target in TARGETS] + results.targets,
        "not_run": results.not_run,
    }


def table(found: dict[str, Any]) -> str:
    """The same for people: a block for each load, then what stands alone, then the targets."""
    blocks: defaultdict[str, defaultdict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    lines = []
    for row in found["measurements"]:
        if "load" in row:
            blocks[row["load"]][row["contender"]][row["name"]] = row["value"]
    for load, contenders in blocks.items():
        lines.append(
            f"\n{load:34}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'CPU s/1,000':>13}{'failed':>8}"
        )
        for contender, values in sorted(contenders.items(), key=lambda item: item[1][NAMES["cpu_s"]]):
            rate, p50, p99, cpu, failed = (values[name] for name in NAMES.values())
            lines.append(f"  {contender:32}{rate:12,.0f}{p50:10.2f}{p99:10.2f}{cpu:13.3f}{failed:8.0f}")
    lines.append("")
    for row in found["measurements"]:
        if "load" not in row:
            lines.append(f"{row['contender']:34}{row['name']:40}{row['value']:12,.3f} {row['unit']}")
    lines += ["", *targets_table(found["targets"])]
    lines += [f"not run: {name}: {reason.splitlines()[0]}" for name, reason in found["not_run"].items()]
    return "\n".join(lines)
