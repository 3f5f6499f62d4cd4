"""The figures: false alarms by contender, detection by kind of change and by column, and the issue's targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from benchmarks.detection.changes import Outcome
from benchmarks.detection.quarters import SEEN_BY_EVIDENTLY, Alarms
from benchmarks.report import judged, machine, targets_table
from monitoring.detection.policy import DetectionPolicy

POLICY = DetectionPolicy()
WINDOW = POLICY.window.days
STATED_LABELS = 20_000
"""Matured labels within which concept drift (half of the outcomes dealt anew) is to be seen: about three weeks."""
WITHIN_ONE = ("nulls", "category", "unit")
SHIFTS = ("mean 0.5 sd", "scale 0.5 sd")
MONTHS = 3.0


def document(
    alarms: dict[str, Alarms], outcomes: Sequence[Outcome], options: dict[str, Any]
) -> dict[str, Any]:
    """The whole report."""
    counted = [o for o in outcomes if not o.rang_before]
    return {
        "bench": "detection",
        "machine": machine(),
        "options": options,
        "measurements": [*_alarms(alarms), *_detection(counted)],
        "columns": _columns([o for o in counted if o.contender == "windlass"]),
        "alarms_by_column": {name: dict(a.columns.most_common()) for name, a in alarms.items()},
        "targets": _targets(alarms.get("windlass"), [o for o in counted if o.contender == "windlass"]),
    }


def _alarms(alarms: dict[str, Alarms]) -> list[dict[str, Any]]:
    rows = [_row("false alarms a month, stated", "windlass", POLICY.false_alarms_per_month, "alarms/month")]
    for name, a in alarms.items():
        if not a.quarters:
            continue
        n = len(a.quarters)
        rows += [
            _row("quarters watched", name, n, "quarters"),
            _row("false alarms a month, columns", name, sum(a.quarters) / n / MONTHS, "alarms/month"),
            _row("false alarms a quarter, columns", name, sum(a.quarters) / n, "alarms/quarter"),
            _row("false alarms a quarter, calls", name, sum(a.calls) / n, "calls/quarter"),
            _row("quarters without any", name, sum(q == 0 for q in a.quarters) / n, "share"),
            _row("looks that ring", name, a.looks_ringing / max(a.looks, 1), "share"),
        ]
    return rows


def _detection(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    rows = []
    for (contender, family), group in _grouped(outcomes, lambda o: (o.contender, _name(o))).items():
        found = [o for o in group if o.days <= 4 * WINDOW * 2]
        rows += [
            _row(f"{family}: runs", contender, len(group), "runs"),
            _row(f"{family}: within one window", contender, _share(group, WINDOW), "share"),
            _row(f"{family}: within two windows", contender, _share(group, 2 * WINDOW), "share"),
        ]
        if found:
            rows.append(_row(f"{family}: median delay", contender, median(o.days for o in found), "days"))
            rows.append(
                _row(
                    f"{family}: other columns that ring with it",
                    contender,
                    sum(max(o.others, 0) for o in found) / len(found),
                    "columns",
                )
            )
        if group[0].injection.kind == "concept" and found:
            ordered = sorted(o.labels for o in found)
            rows.append(_row(f"{family}: median labels", contender, median(ordered), "labels"))
            rows.append(
                _row(f"{family}: labels, 95 %", contender, ordered[int(0.95 * (len(ordered) - 1))], "labels")
            )
    return rows


def _columns(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Column -> kind of change -> share detected within its bound: one window, two for shifts."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for (column, family), group in _grouped(outcomes, lambda o: (o.injection.column, _name(o))).items():
        if column and (family in WITHIN_ONE or family in SHIFTS):
            table[column][family] = round(_share(group, WINDOW if family in WITHIN_ONE else 2 * WINDOW), 3)
    return dict(table)


def _targets(ours: Alarms | None, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    quarters = None if ours is None or not ours.quarters else sum(ours.quarters) / len(ours.quarters)
    calls = None if ours is None or not ours.calls else sum(ours.calls) / len(ours.calls)
    targets = [
        judged("false alarms a quarter, mean (looks at which columns begin to ring)", calls, "<=", 1.0),
        judged("false alarms a quarter, mean (every column that rings counts)", quarters, "<=", 1.0),
    ]
    for family in WITHIN_ONE:
        group = [o for o in outcomes if _name(o) == family]
        targets.append(
            judged(f"{family}: found within one window", _share(group, WINDOW) if group else None, ">=", 0.95)
        )
    for family in SHIFTS:
        group = [o for o in outcomes if _name(o) == family]
        targets.append(
            judged(
                f"{family}: found within two windows",
                _share(group, 2 * WINDOW) if group else None,
                ">=",
                0.95,
            )
        )
    concept = [o for o in outcomes if o.injection.kind == "concept" and o.injection.size == 0.5]
    share = (
        sum(o.labels <= STATED_LABELS and o.days < 1000 for o in concept) / len(concept) if concept else None
    )
    targets.append(judged(f"concept drift: found within {STATED_LABELS:,} labels", share, ">=", 0.95))
    return targets


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'':58}{'contender':24}{'value':>10}"]
    lines += [
        f"{m['name']:58}{m['contender']:24}{m['value']:>10.3f} {m['unit']}" for m in report["measurements"]
    ]
    weak = {
        column: {k: v for k, v in found.items() if v < 0.95}
        for column, found in report["columns"].items()
        if min(found.values()) < 0.95
    }
    lines += ["", "columns below 95 %:"]
    lines += [
        f"  {column:30}" + ", ".join(f"{k} {v:.2f}" for k, v in found.items())
        for column, found in sorted(weak.items())
    ]
    return "\n".join([*lines, "", *targets_table(report["targets"], 70)])


def _name(outcome: Outcome) -> str:
    injection = outcome.injection
    return f"concept, {injection.size:.0%} of outcomes" if injection.kind == "concept" else injection.family


def _share(group: Sequence[Outcome], days: int) -> float:
    return sum(o.days <= days for o in group) / len(group)


def _grouped(
    outcomes: Iterable[Outcome], key: Callable[[Outcome], tuple[str, str]]
) -> dict[tuple[str, str], list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[key(outcome)].append(outcome)
    return dict(groups)


def _row(name: str, contender: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "contender": contender, "value": round(float(value), 4), "unit": unit}


__all__ = ["SEEN_BY_EVIDENTLY", "document", "table"]
