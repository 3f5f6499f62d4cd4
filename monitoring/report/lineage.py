"""Where the current champion comes from: data, run, version, gates, release, outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, el, nothing
from monitoring.report.values import clock, moment, rows, text

KINDS = {
    "data": "Training data",
    "signal": "Signal",
    "trigger": "Trigger",
    "run": "Pipeline run",
    "version": "Model version",
    "gate": "Gate",
    "release": "Release",
    "outcome": "Outcome",
    "replacedBy": "Replaced by",
    "rebuiltAs": "Rebuilt as",
}


def section(series: Mapping[str, Any]) -> Markup:
    chain = rows(series, "lineage")
    if not chain:
        return nothing()
    return el("ol", *(_step(entry) for entry in chain), class_="lineage")


def _step(entry: Mapping[str, Any]) -> Markup:
    kind = text(entry.get("kind"))
    at = moment(entry.get("at"))
    return el(
        "li",
        el("span", KINDS.get(kind, kind), class_="kind"),
        el("b", text(entry.get("title"))),
        el("span", text(entry.get("detail"), ""), class_="detail"),
        el("time", clock(at)) if at is not None else Markup(""),
    )
