"""Service objectives: what is left of each error budget, and how fast it burns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, badge, el, nothing, table
from monitoring.report.values import number, rows, text
from monitoring.report.watched.looks import TONES, Look

TITLES = {"availability": "Availability", "latency": "Latency"}


def section(found: list[Look]) -> Markup:
    """The budgets of the newest window."""
    evidence = found[-1].evidence("slo")
    budgets = rows(evidence, "budgets")
    if not budgets:
        return nothing("Error budgets: no data")
    days = number(evidence.get("period_days")) or 30.0
    cards = [_budget(budget, days) for budget in budgets]
    return el(
        "div", el("div", *cards, class_="strip wide"), _burn(budgets), _resources(evidence.get("resources"))
    )


def _budget(budget: Mapping[str, Any], days: float) -> Markup:
    name, verdict = text(budget.get("slo")), text(budget.get("verdict"), "INCONCLUSIVE")
    tone = TONES.get(verdict, "warn")
    left, target = number(budget.get("remaining")), number(budget.get("target"))
    title = TITLES.get(name, name)
    heading = title if target is None else f"{title}: {100 * target:g} % promised"
    return el(
        "section",
        el("header", el("h3", heading), badge(verdict, tone)),
        _gauge(left),
        el("p", text(budget.get("reason"), ""), class_="reason"),
        el("p", f"Of {days:g} days; counted by: {text(budget.get('source'))}.", class_="facts"),
        class_=f"card {tone}",
    )


def _gauge(left: float | None) -> Markup:
    if left is None:
        return el("p", "not known: nothing was counted", class_="nothing")
    shown = min(max(left, 0.0), 1.0)
    tone = "good" if left > 0.25 else "warn" if left > 0 else "bad"
    label = f"{left:.0%} of the budget is left" if left >= 0 else f"overspent by {-left:.0%}"
    return el(
        "p",
        el(
            "span",
            el("i", class_=tone, style=f"width:{100 * shown:.1f}%"),
            class_="gauge",
            role="img",
            aria_label=label,
        ),
        el("b", label),
        class_="left",
    )


def _burn(budgets: list[Mapping[str, Any]]) -> Markup:
    windows = list(
        dict.fromkeys(w for b in budgets for w in (b.get("burn") or {}) if isinstance(b.get("burn"), Mapping))
    )
    if not windows:
        return Markup("")
    body = []
    for budget in budgets:
        burn = budget.get("burn") or {}
        rates = [number(burn.get(w)) for w in windows]
        body.append(
            (
                TITLES.get(text(budget.get("slo")), text(budget.get("slo"))),
                *("–" if r is None else f"{r:.2g}" for r in rates),
            )
        )
    head = ("Burn rate (1 spends the budget in its period)", *(f"last {w}" for w in windows))
    return table("How fast it burns", head, body, numeric=range(1, len(windows) + 1))


def _resources(found: object) -> Markup:
    if not isinstance(found, Mapping):
        return Markup("")
    cpu, memory = number(found.get("cpu_seconds_per_1000")), number(found.get("memory_bytes"))
    if cpu is None and memory is None:
        return el(
            "p",
            "CPU and memory of the model servers are not known here: they come from Prometheus.",
            class_="facts",
        )
    parts = []
    if cpu is not None:
        parts.append(f"{cpu:.2g} s of CPU for a thousand requests")
    if memory is not None:
        parts.append(f"{memory / 2**20:,.0f} MB of memory at most")
    return el("p", f"Model servers took {' and '.join(parts)}.", class_="facts")
