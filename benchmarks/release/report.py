"""The result as one JSON object and as a table."""

from __future__ import annotations

from typing import Any

from benchmarks.release.parts import Options, Part
from benchmarks.report import machine, targets_table

BENCH = "release"


def document(found: dict[str, Part], not_run: dict[str, str], options: Options) -> dict[str, Any]:
    """The object that `windlass bench release --json` prints."""
    return {
        "bench": BENCH,
        "machine": machine(),
        "seed": options.seed,
        "quick": options.quick,
        "measurements": [{"part": name, **row} for name, part in found.items() for row in part.measurements],
        "targets": [target for part in found.values() for target in part.targets],
        "not_run": not_run,
    }


def table(found: dict[str, Any]) -> str:
    """The same for people: a block for each thing measured, a row for each case, a column for each contender."""
    blocks: dict[tuple[str, str, str], dict[str, dict[str, float | None]]] = {}
    for row in found["measurements"]:
        block = blocks.setdefault((row["part"], row["name"], row["unit"]), {})
        block.setdefault(row["case"], {})[row["contender"]] = row["value"]
    lines = []
    for (part, name, unit), cases in blocks.items():
        contenders = list(dict.fromkeys(contender for row in cases.values() for contender in row))
        widths = [max(12, len(contender) + 2) for contender in contenders]
        heads = "".join(f"{head:>{width}}" for head, width in zip(contenders, widths, strict=True))
        lines.append(f"\n{f'{part}: {name}' + (f', {unit}' if unit else ''):58}{heads}")
        for case, row in cases.items():
            cells = [shown(row.get(contender)) for contender in contenders]
            lines.append(
                f"  {case:56}"
                + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            )
    lines += ["", *targets_table(found["targets"], width=86)]
    lines += [f"not run: {name}: {reason.splitlines()[0]}" for name, reason in found["not_run"].items()]
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return "-"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
