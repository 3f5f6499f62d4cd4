"""The verdict strip: each check with its newest verdict, why, and what it was in the windows before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup, badge, el
from monitoring.report.values import clock, count, moment, thinned
from monitoring.report.watched.looks import NAMES, TONES, Look

MOST = 40


def section(found: list[Look], status: Mapping[str, Any]) -> Markup:
    last = found[-1]
    shown = thinned(found, MOST)
    return el(
        "div",
        el("p", _lead(found, status), class_="lead"),
        el("div", *(_check(name, last, shown) for name in NAMES), class_="strip"),
    )


def _lead(found: list[Look], status: Mapping[str, Any]) -> str:
    made = count(len(found), "analysis", "analyses")
    sentence = f"{made}; the newest is of the window that ends at {clock(found[-1].at)} UTC"
    version = found[-1].version.get("version")
    sentence += "." if version is None else f", version {version}."
    error, attempt = status.get("error"), moment(status.get("attempt"))
    if error is not None:
        when = "" if attempt is None else f" at {clock(attempt)}"
        sentence += f" The last attempt{when} failed, so what stands here is old: {error}"
    return sentence


def _check(name: str, last: Look, shown: list[Look]) -> Markup:
    verdict, reason = last.checks.get(name, ("INCONCLUSIVE", "not judged in this window"))
    tone = TONES.get(verdict, "warn")
    history = [
        el("i", class_=TONES.get(was, "warn"), data_t=f"{NAMES[name]}, {clock(look.at)}: {was}")
        for look in shown
        for was in (look.checks.get(name, ("INCONCLUSIVE", ""))[0],)
    ]
    words = ", ".join(
        f"{n} {w}" for w in TONES if (n := sum(1 for k in shown if k.checks.get(name, ("",))[0] == w))
    )
    return el(
        "section",
        el("header", el("h3", NAMES[name]), badge(verdict, tone)),
        el("p", reason, class_="reason"),
        el(
            "p",
            *history,
            class_="history",
            role="img",
            aria_label=f"{NAMES[name]} over time: {words or 'not judged'}",
        ),
        class_=f"card {tone}",
    )
