"""The drills there are, and the table of them that docs/drills.md holds."""

from __future__ import annotations

from windlass.drill.drill import Drill
from windlass.drill.faults import (
    clock_jump,
    corrupt_model,
    dead_feature_store,
    disk_full,
    double_trigger,
    drifted_feature,
    label_outage,
    metrics_down,
    poisoned_partition,
    slow_model,
)
from windlass.errors import UsageError

DRILLS: tuple[Drill, ...] = (
    drifted_feature.DRILL,
    dead_feature_store.DRILL,
    corrupt_model.DRILL,
    label_outage.DRILL,
    metrics_down.DRILL,
    slow_model.DRILL,
    disk_full.DRILL,
    clock_jump.DRILL,
    poisoned_partition.DRILL,
    double_trigger.DRILL,
)


def find(name: str) -> Drill:
    """The drill of this name.

    Raises:
        UsageError: there is none.
    """
    for drill in DRILLS:
        if drill.name == name:
            return drill
    raise UsageError(f"there is no drill {name!r}; there are {', '.join(d.name for d in DRILLS)}")


def table() -> str:
    """The drills as a Markdown table."""
    lines = [
        "| drill | fault | alert | end state | what proves that nothing was lost |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| `{d.name}` | {d.fault} | `{d.alert}` | {d.end_state} | {d.proof} |" for d in DRILLS]
    return "\n".join(lines) + "\n"
