"""Putting the page of one release together: the answer first, then the evidence, then the record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.report.markup import Markup, badge, el
from monitoring.report.one_release import record, rewards, sequences, timeline
from monitoring.report.one_release.amounts import OUTCOMES, VERDICTS, amount, odds, outcome
from monitoring.report.one_release.embedded import embed
from monitoring.report.page import document, part
from monitoring.report.values import clock, moment, number, rows, text
from windlass.atomic import write_text


def render(contents: Mapping[str, Any], out: Path) -> None:
    """Write the page to `out`, all or nothing.

    Args:
        contents: what `serving.release.people.dossier.dossier` gives; a missing part is shown as "no data".
    """
    write_text(out, page(contents))


def page(contents: Mapping[str, Any]) -> str:
    """The whole page as text."""
    found = rewards.section(contents)
    main = el(
        "main",
        part(
            "What decided" if contents.get("outcome") else "Where it stands", "decision", _deciding(contents)
        ),
        part("Who answered", "traffic", timeline.section(contents)),
        part("The evidence over time", "checks", _sequences_note(), sequences.section(contents)),
        part("What it earned", "rewards", found) if found is not None else Markup(""),
        part("The record", "record", record.section(contents)),
    )
    title = f"{text(contents.get('release'), 'release')} · {text(contents.get('model'), 'model')} · windlass"
    return document(title, _top(contents), main, embed(rows(contents, "journal")))


def _top(contents: Mapping[str, Any]) -> Markup:
    headline = text(contents.get("headline"), "A release")
    headline = headline.partition(": ")[2] or headline
    name = f"{text(contents.get('model'))} / {text(contents.get('release'))}"
    return el(
        "header",
        el(
            "div",
            el("p", el("b", "windlass"), " release · ", name, class_="brand"),
            el("h1", headline[:1].upper() + headline[1:] + "."),
            el("p", _why(contents), class_="story"),
            el("dl", *_figures(contents), class_="figures"),
            class_="inner",
        ),
        class_="hero",
    )


def _why(contents: Mapping[str, Any]) -> str:
    reason = contents.get("reason")
    if reason is None:
        return "Nothing has been decided yet."
    return f"{'Because' if contents.get('outcome') else 'It waits'}: {reason}."


def _figures(contents: Mapping[str, Any]) -> list[Markup]:
    requests = contents.get("requests")
    known = (
        {k: n for k, v in requests.items() if (n := number(v)) is not None}
        if isinstance(requests, Mapping)
        else {}
    )
    champion = text(contents.get("champion"))
    ours = sum(n for version, n in known.items() if version != champion)
    deciding = contents.get("deciding")
    by = deciding if isinstance(deciding, Mapping) else {}
    began, ended = moment(contents.get("began")), moment(contents.get("ended"))
    when = "" if began is None or ended is None else f"{clock(began)} to {clock(ended)}"
    return [
        _figure("Outcome", outcome(contents.get("outcome")), text(contents.get("strategy"), "")),
        _figure("Decided by", text(by.get("check")), text(by.get("kind"), "")),
        _figure(
            "Candidate's requests",
            f"{ours:,.0f}" if known else "–",
            f"champion {known.get(champion, 0):,.0f}",
        ),
        _figure("Lasted", text(contents.get("lasted")), when),
        _figure("Looks", text(contents.get("looks")), "that changed something"),
    ]


def _figure(name: str, value: str, note: str) -> Markup:
    return el("div", el("dt", name), el("dd", value), el("dd", note, class_="note"))


def _deciding(contents: Mapping[str, Any]) -> Markup:
    shown = contents.get("deciding")
    tone = OUTCOMES.get(text(contents.get("outcome")), "plain")
    head = el(
        "header",
        el("h3", text(contents.get("release"))),
        badge(outcome(contents.get("outcome")), tone),
    )
    reason = el("p", text(contents.get("reason"), "nothing yet"), class_="reason")
    if not isinstance(shown, Mapping):
        return el(
            "article", head, reason, el("p", "No single check decided.", class_="ax"), class_=f"card {tone}"
        )
    return el("article", head, reason, _facts(contents, shown), class_=f"card {tone}")


def _facts(contents: Mapping[str, Any], shown: Mapping[str, Any]) -> Markup:
    check = next((c for c in rows(contents, "checks") if c.get("name") == shown.get("check")), {})
    percent, signed = bool(check.get("percent")), bool(check.get("signed"))
    interval = shown.get("interval")
    low, high = interval if isinstance(interval, list | tuple) and len(interval) == 2 else (None, None)
    between = "not bounded yet"
    if number(low) is not None and number(high) is not None:
        between = " to ".join(amount(v, percent=percent, signed=signed) for v in (low, high))
    needed = number(shown.get("evidence_needed"))
    evidence = odds(shown.get("evidence"))
    if needed is not None and shown.get("evidence") is not None:
        evidence += f" ({needed:,.0f} to 1 decides)"
    verdict = text(shown.get("outcome"))
    facts: list[tuple[str, object]] = [
        ("Check", f"{text(shown.get('check'))}, a {text(shown.get('kind'))}"),
        ("Verdict", badge(verdict.lower(), VERDICTS.get(verdict, "plain"))),
        ("Version", text(shown.get("version"), "the whole release")),
        (
            "Metric",
            f"{text(shown.get('metric'))} from {text(shown.get('source'))}" if shown.get("metric") else "–",
        ),
        ("Measures", text(shown.get("measures"))),
        ("Observations", text(shown.get("n"))),
        ("Estimate", amount(shown.get("estimate"), percent=percent, signed=signed)),
        ("Interval", between),
        ("Threshold", amount(shown.get("threshold"), percent=percent, signed=signed)),
        ("Evidence", evidence),
        ("Rule", text(shown.get("rule"))),
        ("Query", el("code", text(shown.get("query"))) if shown.get("query") else "–"),
    ]
    lines = [
        el("div", el("span", name, class_="fact"), el("span", value)) for name, value in facts if value != "–"
    ]
    return el("div", *lines, class_="deciding")


def _sequences_note() -> Markup:
    return el(
        "p",
        "Each band is a confidence sequence: it holds at every look, however often one looks. A comparison's band "
        "combines both versions' own and is wider than the test of the difference that decides.",
        class_="lead",
    )
