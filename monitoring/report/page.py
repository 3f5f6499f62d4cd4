"""Putting the page together: one file that asks for nothing when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from monitoring.report import auc, drift, latency, lineage, overview, records, releases, traffic, watched
from monitoring.report.markup import Markup, el
from monitoring.report.values import text
from windlass.atomic import write_text

# The browser itself keeps the promise: whatever slipped in could load nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

NOTHING = Markup("")


def render(
    summary: Mapping[str, Any], decisions: Iterable[Mapping[str, Any]], series: Mapping[str, Any], out: Path
) -> None:
    """Write the report to `out`, all or nothing.

    Args:
        summary: the demo's `summary.json`.
        decisions: the lines of `decisions.jsonl`.
        series: `drift`, `weights`, `confidence`, `latency` and `lineage`; a missing part is shown as "no data".
            `analyses`, documents of monitoring.analysis, and `analysis_status` add what they found.
    """
    write_text(out, page(summary, decisions, series))


def page(
    summary: Mapping[str, Any], decisions: Iterable[Mapping[str, Any]], series: Mapping[str, Any]
) -> str:
    """The whole page as text."""
    analysed = watched.parts(summary, series)
    main = el(
        "main",
        *(part(title, name, content) for title, name, content in analysed),
        part("Did it pay?", "performance", auc.section(summary)),
        # the analyses' own map says more, and with confidence
        NOTHING if analysed else part("What moved", "drift", drift.section(summary, series)),
        part("Who answered", "traffic", traffic.section(summary, series)),
        part(
            "Every release on its evidence", "releases", _sequences_note(), releases.section(summary, series)
        ),
        part("How fast", "latency", latency.section(summary, series)),
        part("Where the champion comes from", "lineage", lineage.section(series)),
        part("The record", "record", records.section(summary, decisions)),
    )
    title = f"{text(summary.get('workload'), 'model')} · windlass report"
    top = overview.section(summary, watched.headline(series), watched.measured(series))
    return document(title, top, main)


def document(title: str, top: Markup, main: Markup, data: Markup = NOTHING) -> str:
    """A page as text: its head, what stands at the top, its main part, and data that is not shown."""
    head = el(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup('<link rel="icon" href="data:,">'),
        el("title", title),
        el("style", _file("style.css")),
    )
    body = el("body", top, main, _footer(), data, el("div", id="tip", hidden="hidden"))
    script = el("script", _file("script.js"))
    return f'<!doctype html>\n<html lang="en">{head}{body.removesuffix("</body>")}{script}</body></html>\n'


def part(title: str, name: str, *content: Markup) -> Markup:
    return el("section", el("h2", title), *content, id=name, class_="part")


def _sequences_note() -> Markup:
    return el(
        "p",
        "Each band is a confidence sequence: it holds at every look, however often one looks. A check passes or fails "
        "once the band has left the bound behind, and holds the release until then.",
        class_="lead",
    )


def _footer() -> Markup:
    return el("footer", el("p", "Made by windlass. This page is one file and loads nothing."))


def _file(name: str) -> Markup:
    return Markup(resources.files("monitoring.report").joinpath(name).read_text(encoding="utf-8"))
