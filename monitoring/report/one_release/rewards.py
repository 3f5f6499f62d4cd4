"""What the versions earned: final numbers of an experiment, periods, and what each version would have earned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.canvas import Canvas, both, figure
from monitoring.report.markup import Markup, badge, el, table
from monitoring.report.one_release.amounts import VERDICTS, amount, between, odds, texts
from monitoring.report.one_release.timeline import tones_of
from monitoring.report.scales import padded
from monitoring.report.values import clock, moment, number, rows, text

METHOD = "DR"
"""The estimate that is drawn: unbiased like IPS, and seldom as wide."""


def section(contents: Mapping[str, Any]) -> Markup | None:
    """None where no reward was measured."""
    parts = [
        part for part in (_effects(contents), _periods(contents), _earnings(contents)) if part is not None
    ]
    return el("div", *parts) if parts else None


def _effects(contents: Mapping[str, Any]) -> Markup | None:
    body = []
    for row in rows(contents, "effects"):
        version, champion = text(row.get("version")), text(row.get("champion"))
        binary = row.get("value_type") == "binary"
        outcome = text(row.get("outcome"))
        body.append(
            (
                f"{text(row.get('check'))} ({text(row.get('kind'))})",
                _arm(row, champion, binary),
                _arm(row, version, binary),
                amount(row.get("lift"), percent=True, signed=True),
                between(row, percent=True, signed=True),
                odds(row.get("evidence")),
                text(row.get("p_value")),
                text(row.get("alpha")),
                badge(outcome.lower(), VERDICTS.get(outcome, "plain")),
            )
        )
    if not body:
        return None
    head = ("Metric", "Champion", "Candidate", "Lift", "Interval", "e-value", "p-value", "Alpha", "Verdict")
    note = el(
        "p",
        "The interval is a confidence sequence and the p-value the smallest 2/e so far: both hold at every look, "
        "however often one looked. The e-value says how much likelier the data are with the effect than without it.",
        class_="lead",
    )
    return el("div", note, table("Rewards at the end", head, body, numeric=(3, 6, 7)))


def _arm(row: Mapping[str, Any], version: str, binary: bool) -> str:
    means, counts = row.get("means"), row.get("n")
    mean = means.get(version) if isinstance(means, Mapping) else None
    n = number(counts.get(version)) if isinstance(counts, Mapping) else None
    return f"v{version}: {amount(mean, percent=binary)} of {'–' if n is None else f'{n:,.0f}'}"


# --- periods


def _periods(contents: Mapping[str, Any]) -> Markup | None:
    known = [row for row in rows(contents, "periods") if isinstance(row.get("means"), Mapping)]
    versions = list(tones_of(contents))
    found = [row for row in known if any(number(row["means"].get(v)) is not None for v in versions)]
    if len(found) < 2:
        return None
    novelty = next((c for c in rows(contents, "checks") if c.get("name") == "novelty"), None)
    lead = "Mean reward of the units first seen in each period: an effect that is only new fades from left to right."
    if novelty is not None:
        lead += f" The novelty check says: {text(novelty.get('reason'))}."
    body = [
        (
            clock(at),
            *(
                f"{amount(row['means'].get(v), percent=True)} of {int(number(_n(row, v)) or 0):,}"
                for v in versions
                if v in row["means"]
            ),
        )
        for row in found
        if (at := moment(row.get("from"))) is not None
    ]
    shown = [v for v in versions if any(v in row["means"] for row in found)]
    numbers = table("Reward by period", ("From", *(f"Version {v}" for v in shown)), body)
    return figure(
        "Rewards by period of first exposure",
        lead,
        both(lambda narrow: _draw_periods(found, shown, tones_of(contents), narrow)),
        None,
        numbers,
    )


def _n(row: Mapping[str, Any], version: str) -> object:
    counts = row.get("n")
    return counts.get(version) if isinstance(counts, Mapping) else None


def _draw_periods(
    found: list[Mapping[str, Any]], versions: list[str], tones: Mapping[str, str], narrow: bool
) -> Markup:
    canvas = Canvas(narrow, 190 if narrow else 210, left=56, bottom=30)
    values = [
        v for row in found for v in (number(row["means"].get(name)) for name in versions) if v is not None
    ]
    x = canvas.x_scale(-0.5, len(found) - 0.5)
    y = canvas.y_scale(*padded(values, 0.15))
    canvas.y_axis(y, lambda value: amount(value, percent=True), 4)
    every = max(1, -(-len(found) // (3 if narrow else 8)))
    for index, row in enumerate(found):
        at = moment(row.get("from"))
        if at is not None and index % every == 0:
            canvas.label(
                x(index), canvas.y1 + 19, clock(at).rsplit(" ", 2)[0] + " " + clock(at).rsplit(" ", 1)[1]
            )
        for version in versions:
            value = number(row["means"].get(version))
            if value is None:
                continue
            tip = f"version {version}: {amount(value, percent=True)} of {text(_n(row, version))} units"
            canvas.add(
                el("circle", class_=f"dot {tones[version]}", cx=x(index), cy=y(value), r=6, data_t=tip)
            )
    for place, version in enumerate(versions):
        canvas.add(el("circle", class_=f"dot {tones[version]}", cx=canvas.x0 + 8 + 100 * place, cy=8.0, r=5))
        canvas.label(canvas.x0 + 18 + 100 * place, 12, f"version {version}", anchor="start")
    return canvas.svg("Rewards by period", "Mean reward of each version by period of first exposure.")


# --- off-policy


def _earnings(contents: Mapping[str, Any]) -> Markup | None:
    found = rows(contents, "earnings")
    if not found:
        return None
    binary = any(row.get("value_type") == "binary" for row in rows(contents, "effects"))
    body = [
        (
            _target(row),
            text(row.get("method")),
            amount(row.get("value"), percent=binary),
            between(row, percent=binary),
            f"{number(row.get('effective')) or 0:,.0f}",
            amount(row.get("support"), percent=True),
            "; ".join(texts(row.get("warnings"))) or "–",
        )
        for row in found
    ]
    head = (
        "All traffic to",
        "Estimate",
        "Mean reward",
        "95 % interval",
        "Worth requests",
        "Support",
        "Warnings",
    )
    drawn = [row for row in found if row.get("method") == METHOD and number(row.get("value")) is not None]
    lead = (
        "Mean reward of a request had one version, or an equal split, had all the traffic: estimated from the shares "
        "that each request was served with, by three methods (the doubly robust one is drawn)."
    )
    plot = both(lambda narrow: _draw_earnings(drawn, binary, narrow)) if drawn else None
    numbers = table("Off-policy estimates", head, body, numeric=(2, 4, 5))
    return figure("What each version would have earned", lead, plot, None, numbers)


def _target(row: Mapping[str, Any]) -> str:
    name = text(row.get("target"))
    return name if name == "equal split" else f"version {name}"


def _draw_earnings(found: list[Mapping[str, Any]], binary: bool, narrow: bool) -> Markup:
    canvas = Canvas(narrow, 44 + 34 * len(found), left=96, right=24, top=8, bottom=30)
    values = [
        v for row in found for v in (number(row.get(k)) for k in ("lower", "upper", "value")) if v is not None
    ]
    x = canvas.x_scale(*padded(values))
    for tick in x.ticks(4 if narrow else 8):
        canvas.add(el("line", class_="grid", x1=x(tick), x2=x(tick), y1=canvas.y0, y2=canvas.y1))
        canvas.label(x(tick), canvas.y1 + 19, amount(tick, percent=binary))
    for index, row in enumerate(found):
        place = canvas.y0 + 17 + 34 * index
        value = number(row.get("value")) or 0.0
        low, high = number(row.get("lower")), number(row.get("upper"))
        tip = f"{_target(row)}: {amount(value, percent=binary)} ({between(row, percent=binary)})"
        if low is not None and high is not None:
            canvas.add(el("line", class_="whisker", x1=x(low), x2=x(high), y1=place, y2=place))
        canvas.add(el("circle", class_="dot live", cx=x(value), cy=place, r=6, data_t=tip))
        canvas.label(canvas.x0 - 10, place + 4, _target(row), anchor="end")
    return canvas.svg("What each version would have earned", "Doubly robust estimates with 95 % intervals.")
