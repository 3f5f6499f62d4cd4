"""Signals and what became of them, over time: one lane a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.canvas import Canvas, both, figure
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.values import clock, count, moment, rows, text

NAMES = {
    "featureDrift": "feature drift",
    "predictionDrift": "prediction drift",
    "performanceDecay": "decay",
    "dataQuality": "data quality",
    "newData": "new data",
    "schedule": "schedule",
    "manual": "a person",
}
MOST = 200

Mark = tuple[float, str, bool, str]


def section(summary: Mapping[str, Any]) -> Markup:
    title = "Signals and triggers"
    marks: list[Mark] = sorted(
        (at, text(t.get("signal")), bool(t.get("accepted")), text(t.get("reason"), ""))
        for t in rows(summary, "triggers")
        if (at := moment(t.get("at"))) is not None
    )
    if not marks:
        none = "No signal was ever sent: nothing asked for a retraining."
        return el("div", el("h3", title), el("p", none, class_="lead"), class_="card plain")
    accepted = sum(1 for m in marks if m[2])
    started = count(accepted, "retraining")
    lead = f"{count(len(marks), 'decision')} about signals, {started} started; the rest was held back."
    body = [
        (clock(at), NAMES.get(kind, kind), "started" if yes else "held back", reason)
        for at, kind, yes, reason in reversed(marks[-MOST:])
    ]
    kinds = [k for k in NAMES if any(m[1] == k for m in marks)]
    kinds += sorted({m[1] for m in marks} - set(NAMES))
    return figure(
        title,
        lead,
        both(lambda narrow: _draw(marks[-MOST:], kinds, narrow)),
        legend([("mark", "retraining started"), ("mark hollow", "held back")]),
        table("Decisions, newest first", ("At", "Signal", "Decision", "Reason"), body),
    )


def _draw(marks: list[Mark], kinds: list[str], narrow: bool) -> Markup:
    lane = 30
    canvas = Canvas(
        narrow, 16 + lane * len(kinds) + 34, left=102 if narrow else 118, right=20, top=10, bottom=32
    )
    start, end = marks[0][0], marks[-1][0]
    x = canvas.x_scale(start, end if end > start else start + 1)
    for i, kind in enumerate(kinds):
        y = canvas.y0 + lane * (i + 0.5)
        canvas.add(el("line", class_="grid", x1=canvas.x0, x2=canvas.x1, y1=y, y2=y))
        canvas.label(canvas.x0 - 12, y + 4, NAMES.get(kind, kind), anchor="end")
    # held back first, so that a start lies on top
    for at, kind, yes, reason in sorted(marks, key=lambda m: (m[2], m[0])):
        px, y = x(at), canvas.y0 + lane * (kinds.index(kind) + 0.5)
        tip = f"{clock(at)}, {NAMES.get(kind, kind)}: {'started' if yes else 'held back'}. {reason}"
        shape = f"M{px - 6:.1f},{y - 6:.1f}L{px + 6:.1f},{y - 6:.1f}L{px:.1f},{y + 6:.1f}Z"
        canvas.add(el("path", class_="mark" if yes else "mark hollow", d=shape, data_t=tip))
    canvas.time_axis(x, 3 if narrow else 8)
    return canvas.svg("Signals over time", "A lane a kind of signal; filled marks started a retraining.")
