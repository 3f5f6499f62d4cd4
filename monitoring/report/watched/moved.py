"""Drift as a heat map: a row a column of the data, a column a window, by how much evidence there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.canvas import both, figure
from monitoring.report.drift import MOST_FEATURES, Cells, heat_map
from monitoring.report.markup import Markup, legend, table
from monitoring.report.values import clock, count, date, moment, number, rows, text
from monitoring.report.watched.looks import Look

KINDS = {"prediction": "score", "label": "outcome"}


def section(found: list[Look], summary: Mapping[str, Any]) -> Markup:
    title = "Evidence of drift by column"
    cells: Cells = {}
    newest: dict[str, Mapping[str, Any]] = {}
    for look in found:
        for column in rows(look.detection, "columns"):
            name = _name(column)
            evidence = number(column.get("evidence"))
            if evidence is not None:
                cells[name, look.at] = (max(evidence, 0.0), 1.0)
                newest[name] = column
    if not cells:
        return figure(title, "", None)
    order = sorted(newest, key=lambda n: -max(score for (name, _), (score, _) in cells.items() if name == n))
    ringing = [_name(c) for c in rows(found[-1].detection, "columns") if c.get("alarm")]
    lead = (
        "How far the change of a column lies beyond what matters, in half widths of its confidence interval; from 1 on "
        "it rings. Small changes that are sure and large ones that are chance both stay pale. "
    )
    lead += (
        f"{count(len(ringing), 'column')} of {len(newest)} ring now." if ringing else "No column rings now."
    )
    guarantee = found[-1].detection.get("guarantee")
    stated = number(found[-1].detection.get("false_alarms_per_month"))
    if stated is not None and guarantee is not None:
        lead += f" False alarms are held to {stated:g} a month over everything: {guarantee}."
    marks = [
        (at, bool(t.get("accepted")), t)
        for t in rows(summary, "triggers")
        if (at := moment(t.get("at"))) is not None
    ]
    entries = [
        ("c1", "nothing to speak of"), ("c3", "rings, 1–2"), ("c4", "2–4"), ("c5", "4–8"), ("c6", "beyond"),
        ("mark", "retraining"), ("mark hollow", "signal held back"),
    ]  # fmt: skip

    def said(name: str, at: float, score: float, threshold: float) -> str:
        return f"{name}, {date(at)}: {'rings' if score >= threshold else 'does not ring'} ({score:.2f})"

    times = sorted({at for _, at in cells})
    return figure(
        title,
        lead,
        both(
            lambda narrow: heat_map(
                order[:MOST_FEATURES], times, cells, marks, narrow, title=title, said=said
            )
        ),
        legend(entries),
        _numbers([newest[name] for name in order]),
    )


def _name(column: Mapping[str, Any]) -> str:
    kind = text(column.get("kind"), "feature")
    return KINDS.get(kind, text(column.get("column")))


def _numbers(columns: list[Mapping[str, Any]]) -> Markup:
    body = [
        (
            _name(c),
            text(c.get("statistic")),
            _figure(c.get("effect")),
            f"{_figure(c.get('lower'))} to {_figure(c.get('upper'))}",
            _figure(c.get("threshold")),
            text(c.get("verdict")),
            clock(since) if (since := moment(c.get("since"))) is not None else "–",
        )
        for c in columns
    ]
    head = (
        "Column",
        "What changed",
        "Change",
        "Size, confidence interval",
        "Matters from",
        "Verdict",
        "Rings since",
    )
    return table("Columns in the newest window", head, body, numeric=(2, 3, 4))


def _figure(value: object) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.3g}"
