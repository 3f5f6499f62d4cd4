"""What every benchmark's report has in common: the machine it ran on, and a target that is held, missed or open."""

from __future__ import annotations

import operator
import os
import platform
from collections.abc import Iterable
from typing import Any

OPERATORS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq}
VERDICTS = {True: "holds", False: "MISSED", None: "not measured"}


def machine() -> dict[str, Any]:
    """The machine that the figures are of."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "python": platform.python_version(),
    }


def judged(name: str, value: float | None, op: str, bound: float) -> dict[str, Any]:
    """A target in the form of the report; `holds` is null where nothing was measured (`value` None)."""
    return {
        "name": name,
        "value": None if value is None else round(value, 4),
        "target": round(bound, 4),
        "op": op,
        "holds": None if value is None else bool(OPERATORS[op](value, bound)),
    }


def targets_table(targets: Iterable[dict[str, Any]], width: int = 64) -> list[str]:
    """The lines of the targets, for people."""
    lines = [f"{'target':{width}}{'value':>10}   bound"]
    for target in targets:
        value = "-" if target["value"] is None else f"{target['value']:.3f}"
        verdict = VERDICTS[target["holds"]]
        lines.append(f"{target['name']:{width}}{value:>10}{target['op']:>5} {target['target']:<8g}{verdict}")
    return lines
