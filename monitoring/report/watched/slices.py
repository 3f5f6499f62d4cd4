"""Where it got worse: slices of the requests, ranked by what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, el, folded, nothing, table
from monitoring.report.values import count, number, rows, text
from monitoring.report.watched.looks import Look


def section(found: list[Look]) -> Markup:
    """The slices of the newest window."""
    report = found[-1].version.get("slices")
    if not isinstance(report, Mapping):
        return nothing("Slices that got worse: no data")
    worse, highest = rows(report, "worse"), rows(report, "highest")
    tested = number(report.get("tested"))
    lead = f"{text(report.get('reason'), '')}."
    if tested and worse:
        lead = (
            f"{count(int(tested), 'slice')} of the requests were asked, with a correction for so many questions. "
            "Ranked by the loss that a slice adds to the whole, at least."
        )
    parts: list[Markup] = [el("h3", "Slices that got worse"), el("p", lead, class_="lead")]
    if worse:
        parts.append(_worse(worse))
    if highest:
        parts.append(folded("The slices with the highest loss, got worse or not", _highest(highest)))
    return el("div", *parts, class_="card plain")


def _worse(worse: list[Mapping[str, Any]]) -> Markup:
    top = max((number(s.get("loss")) or 0.0 for s in worse), default=0.0) or 1.0
    body = [
        (
            text(s.get("name")),
            _bar(number(s.get("reference_loss")), number(s.get("loss")), top),
            _three(s.get("reference_loss")),
            _three(s.get("loss")),
            f"{_three(s.get('beyond_rest'))} (at least {_three(s.get('lower'))})",
            text(s.get("rows")),
        )
        for s in worse
    ]
    head = ("Slice", "Loss at evaluation and now", "At evaluation", "Now", "Beyond the rest", "Rows")
    return table("Worst first", head, body, numeric=(2, 3, 4, 5))


def _bar(before: float | None, now: float | None, top: float) -> Markup:
    if before is None or now is None:
        return el("span", "–")
    low, high = 120 * min(before, now) / top, 120 * max(before, now) / top
    return el(
        "svg",
        el("title", f"{before:.3f} at its evaluation, {now:.3f} now"),
        el("rect", class_="rate", x=0, y=3.0, width=float(low), height=10, rx=2),
        el(
            "rect",
            class_="c5" if now > before else "c2",
            x=float(low),
            y=3.0,
            width=max(high - low, 1.0),
            height=10,
            rx=2,
        ),
        viewBox="0 0 124 16",
        class_="inline",
        role="img",
    )


def _highest(highest: list[Mapping[str, Any]]) -> Markup:
    body = [(text(s.get("slice")), _three(s.get("loss")), text(s.get("rows"))) for s in highest]
    return table("Highest loss", ("Slice", "Loss", "Rows"), body, numeric=(1, 2))


def _three(value: object) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.3f}"
