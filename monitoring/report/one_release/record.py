"""The release's decisions, waits and events as tables, its document, and how to replay it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, badge, el, folded, table
from monitoring.report.values import clock, moment, rows, text

MOST = 300
TONES = {"promote": "good", "roll_back": "bad", "drop": "bad", "abort": "warn"}


def section(contents: Mapping[str, Any]) -> Markup:
    parts = [_decisions(contents), _warnings(contents), _waits(contents)]
    return el("div", *(part for part in parts if part is not None), _document(contents))


def _decisions(contents: Mapping[str, Any]) -> Markup:
    found = rows(contents, "decisions")
    body = [
        (
            _at(row.get("at")),
            badge(text(row.get("action")).replace("_", " "), TONES.get(text(row.get("action")), "plain")),
            text(row.get("check")),
            _weights(row.get("weights")),
            text(row.get("requests")),
            text(row.get("reason")),
        )
        for row in found[:MOST]
    ]
    caption = "Decisions" if len(found) <= MOST else f"The first {MOST} of {len(found):,} decisions"
    head = ("At", "Decision", "Check", "Weights", "Requests", "Reason")
    return table(caption, head, body, numeric=(4,))


def _warnings(contents: Mapping[str, Any]) -> Markup | None:
    body = [
        (_at(row.get("at")), badge(text(row.get("reason")), "warn"), text(row.get("message")))
        for row in rows(contents, "events")
        if row.get("type") == "Warning"
    ]
    if not body:
        return None
    return table("Alerts, repairs and failed acts", ("At", "What", "Detail"), body[:MOST])


def _waits(contents: Mapping[str, Any]) -> Markup | None:
    body = [
        (_at(row.get("from")), _at(row.get("to")), text(row.get("looks")), text(row.get("reason")))
        for row in rows(contents, "holds")
    ]
    if not body:
        return None
    caption = "What it waited for" if len(body) <= MOST else f"The last {MOST} of {len(body):,} waits"
    return table(caption, ("From", "To", "Looks", "Reason at the last"), body[-MOST:], numeric=(2,))


def _document(contents: Mapping[str, Any]) -> Markup:
    document = json.dumps(contents.get("document"), indent=2, ensure_ascii=False)
    replay = el(
        "p",
        "This page holds the release's journal with all its evidence: ",
        el("code", "windlass release replay FILE"),
        " decides everything again and compares.",
        class_="lead",
    )
    return el("div", replay, folded("The Release document", el("pre", document)), class_="card")


def _weights(value: object) -> str:
    if not isinstance(value, Mapping):
        return "–"
    return ", ".join(f"v{version}: {text(weight)} %" for version, weight in value.items())


def _at(value: object) -> str:
    at = moment(value)
    return text(value) if at is None else clock(at)
