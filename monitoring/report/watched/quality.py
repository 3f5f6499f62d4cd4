"""Data quality: columns of the requests that are broken, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, el, nothing, table
from monitoring.report.values import clock, count, moment, number, rows, text
from monitoring.report.watched.looks import Look

WORDS = {
    "nulls": "values are missing",
    "range": "values lie outside the range of training",
    "category": "categories that training never saw",
    "unit": "values are of another magnitude",
    "schema": "the request is of another form",
}


def section(found: list[Look]) -> Markup:
    """What is broken in the newest window."""
    last = found[-1]
    if not last.version:
        return nothing("Data quality: no data")
    judged = rows(last.detection, "quality")
    broken = [q for q in judged if q.get("failed")]
    known = {(text(q.get("column")), text(q.get("check"))) for q in broken}
    # faults of the form of requests are judged beside the columns' values
    others = [
        f
        for f in rows(last.version, "faults")
        if (text(f.get("column")), text(f.get("check"))) not in known
        and f.get("check") in ("schema", "category", "nulls")
    ]
    if not broken and not others:
        columns = len({text(q.get("column")) for q in judged})
        said = (
            f"Nothing is broken in {count(columns, 'column')}." if judged else "The columns were not judged."
        )
        return el("div", el("h3", "Data quality"), el("p", said, class_="lead"), class_="card plain")
    body = [
        (text(q.get("column")), WORDS.get(text(q.get("check")), text(q.get("check"))), *_shares(q), _since(q))
        for q in broken
    ]
    body += [
        (
            text(f.get("column")),
            WORDS.get(text(f.get("check")), text(f.get("check"))),
            "–",
            "–",
            _first(found, f),
        )
        for f in others
    ]
    return table(
        "Data quality: what is broken",
        ("Column", "What is wrong", "Now", "In training", "Since"),
        body,
        numeric=(2, 3),
    )


def _shares(judged: Mapping[str, Any]) -> tuple[str, str]:
    share, expected = number(judged.get("share")), number(judged.get("expected"))
    form = "{:.3g} ×" if judged.get("check") == "unit" else "{:.1%}"
    return tuple("–" if v is None else form.format(v) for v in (share, expected))  # type: ignore[return-value]


def _since(judged: Mapping[str, Any]) -> str:
    at = moment(judged.get("since"))
    return "–" if at is None else clock(at)


def _first(found: list[Look], fault: Mapping[str, Any]) -> str:
    """The first of the last unbroken run of windows with this fault."""
    since = found[-1].at
    for look in reversed(found):
        if dict(fault) not in [dict(f) for f in rows(look.version, "faults")]:
            break
        since = look.at
    return clock(since)
