"""The tables: versions, signals, releases, rollbacks and the decisions behind them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from monitoring.report.markup import Markup, badge, el, folded, nothing, table
from monitoring.report.values import clock, moment, number, rows, text

TONES = {
    "champion": "good",
    "promoted": "good",
    "rolled_back": "bad",
    "rejected": "bad",
    "inconclusive": "warn",
}
MOST_DECISIONS = 400
MOST_RULES = 12
LONGEST = 300


def section(summary: Mapping[str, Any], decisions: Iterable[Mapping[str, Any]]) -> Markup:
    return el(
        "div", versions(summary), triggers(summary), releases(summary), rollbacks(summary), log(decisions)
    )


def versions(summary: Mapping[str, Any]) -> Markup:
    body = [
        (
            f"v{text(r.get('version'))}",
            _day(r.get("trained_from")),
            _day(r.get("trained_to")),
            _number(r.get("offline_auc"), ".3f"),
            _state(r.get("state")),
        )
        for r in rows(summary, "versions")
    ]
    return table(
        "Versions", ("Version", "Trained from", "Trained to", "Offline AUC", "State"), body, numeric=(3,)
    )


def triggers(summary: Mapping[str, Any]) -> Markup:
    body = [
        (
            _at(r.get("at")),
            text(r.get("signal")),
            badge("accepted", "good") if r.get("accepted") else badge("held back", "plain"),
            text(r.get("reason")),
        )
        for r in rows(summary, "triggers")
    ]
    return table("Signals and triggers", ("At", "Signal", "Decision", "Reason"), body)


def releases(summary: Mapping[str, Any]) -> Markup:
    body = [
        (
            f"v{text(r.get('version'))}",
            text(r.get("strategy")),
            _state(r.get("outcome")),
            _number(r.get("requests_to_verdict"), ",.0f"),
            text(r.get("sabotage")),
            text(r.get("reason")),
        )
        for r in rows(summary, "releases")
    ]
    head = ("Version", "Strategy", "Outcome", "Requests to verdict", "Sabotage", "Reason")
    return table("Releases", head, body, numeric=(3,))


def rollbacks(summary: Mapping[str, Any]) -> Markup:
    body = [
        (
            f"v{text(r.get('version'))}",
            _number(r.get("seconds"), ".2f"),
            _number(r.get("failed_requests"), ",.0f"),
        )
        for r in rows(summary, "rollbacks")
    ]
    return table("Rollbacks", ("Version", "Seconds", "Failed requests"), body, numeric=(1, 2))


def log(decisions: Iterable[Mapping[str, Any]]) -> Markup:
    """Decisions by rule, and the newest of them; their keys are taken as they come."""
    known = [d for d in decisions if isinstance(d, Mapping)]
    if not known:
        return nothing("Decisions: no data")
    by_rule = Counter((_what(d), text(d.get("rule"))) for d in known)
    counted = table(
        "Decisions by rule",
        ("Decision", "Rule", "Times"),
        [(what, rule, n) for (what, rule), n in by_rule.most_common(60)],
        numeric=(2,),
    )
    newest = known[-MOST_DECISIONS:]
    body = [(_at(d.get("at")), _what(d), text(d.get("rule")), _inputs(d)) for d in newest]
    title = (
        f"The last {len(newest)} of {len(known):,} decisions" if len(newest) < len(known) else "All decisions"
    )
    full = folded(title, table("Decisions", ("At", "Decision", "Rule", "Inputs"), body))
    if len(by_rule) > MOST_RULES:
        counted = folded(f"{len(known):,} decisions by rule", counted)
    return el("div", el("h3", "Decisions"), counted, full, class_="card")


def _what(decision: Mapping[str, Any]) -> str:
    return text(next((decision[k] for k in ("decision", "decided", "what", "kind") if k in decision), None))


def _inputs(decision: Mapping[str, Any]) -> Markup:
    rest = {
        k: v for k, v in decision.items() if k not in ("at", "rule", "decision", "decided", "what", "kind")
    }
    shown = json.dumps(rest.get("inputs", rest), default=str, ensure_ascii=False)
    return el("code", shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…")


def _state(value: object) -> Markup:
    name = text(value)
    return badge(name.replace("_", " "), TONES.get(name, "plain"))


def _number(value: object, form: str) -> str:
    known = number(value)
    return "–" if known is None else format(known, form)


def _day(value: object) -> str:
    at = moment(value)
    return text(value) if at is None else clock(at).rsplit(" ", 1)[0]


def _at(value: object) -> str:
    at = moment(value)
    return text(value) if at is None else clock(at)
