"""Each check's confidence sequence over time, with what the estimate is held to and the look that decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.canvas import Canvas, both, path
from monitoring.report.markup import Markup, badge, el, folded, nothing, table
from monitoring.report.one_release.amounts import VERDICTS, amount, between, odds
from monitoring.report.scales import Scale, padded
from monitoring.report.values import clock, count, moment, number, rows, text, thinned

MOST_LOOKS = 160
MOST_ROWS = 24
WIDTHS = (500, 330)
DAY = 86400.0


@dataclass(frozen=True)
class Seen:
    """One look at one check, where it had an estimate."""

    at: float
    n: float
    estimate: float
    lower: float | None
    upper: float | None
    bound: float | None
    outcome: str
    row: Mapping[str, Any]


def section(contents: Mapping[str, Any]) -> Markup:
    checks = rows(contents, "checks")
    if not checks:
        return nothing("no look at the evidence")
    several = len({text(c.get("version")) for c in checks if c.get("version") is not None}) > 1
    deciding = contents.get("deciding")
    key = (deciding.get("check"), deciding.get("version")) if isinstance(deciding, Mapping) else None
    span = moment(contents.get("began")), moment(contents.get("ended"))
    cards = [
        _card(check, several, (check.get("name"), check.get("version")) == key, span) for check in checks
    ]
    return el("div", *cards, class_="sequences")


def _card(
    check: Mapping[str, Any], several: bool, decided: bool, span: tuple[float | None, float | None]
) -> Markup:
    version, name = check.get("version"), text(check.get("name"))
    title = f"{name} · version {version}" if several and version is not None else name
    outcome = text(check.get("outcome"))
    looks, total = _seen(check), len(rows(check, "verdicts"))
    tone = _tone(check, outcome)
    parts = [
        el(
            "header",
            el("h3", title),
            badge(outcome.lower(), tone),
            badge("decided", "plain") if decided else Markup(""),
            el("span", text(check.get("kind")), class_="facts"),
        ),
        el("p", text(check.get("measures"), ""), class_="ax"),
    ]
    if looks:
        parts.append(both(lambda narrow: _draw(title, check, looks, decided, span, narrow)))
    if total > len(looks) and check.get("kind") != "integrity":
        parts.append(el("p", f"no estimate at {total - len(looks)} of {count(total, 'look')}", class_="ax"))
    parts.append(el("p", text(check.get("reason"), ""), class_="reason"))
    if looks:
        parts.append(_numbers(title, check, looks))
    return el("article", *parts, class_=f"card {tone}")


def _tone(check: Mapping[str, Any], outcome: str) -> str:
    """A guardrail that has found nothing yet is no warning; a decision that is open is."""
    if outcome == "INCONCLUSIVE" and check.get("kind") != "decision":
        return "plain"
    return VERDICTS.get(outcome, "plain")


def _seen(check: Mapping[str, Any]) -> list[Seen]:
    found = []
    for row in rows(check, "verdicts"):
        at, n, estimate = moment(row.get("at")), number(row.get("n")), number(row.get("estimate"))
        if at is None or n is None or estimate is None:
            continue
        low, high, bound = (number(row.get(key)) for key in ("lower", "upper", "bound"))
        found.append(Seen(at, n, estimate, low, high, bound, text(row.get("outcome")), row))
    return found


def _numbers(title: str, check: Mapping[str, Any], looks: list[Seen]) -> Markup:
    percent, signed = bool(check.get("percent")), bool(check.get("signed"))
    body = [
        (
            clock(k.at),
            f"{k.n:,.0f}",
            amount(k.estimate, percent=percent, signed=signed),
            between(k.row, percent=percent, signed=signed),
            amount(k.bound, percent=percent, signed=signed),
            odds(k.row.get("evidence")),
            k.outcome.lower(),
        )
        for k in thinned(looks, MOST_ROWS)
    ]
    head = ("At", "n", "Estimate", "Interval", "Threshold", "Evidence", "Verdict")
    facts = [el("p", f"Rule: {text(check.get('rule'))}", class_="ax")]
    if check.get("query"):
        facts.append(el("p", "Query: ", el("code", text(check.get("query"))), class_="ax"))
    shown = table(f"Looks at {title}", head, body, numeric=(1, 2, 4))
    return folded("The numbers", el("div", shown, *facts))


def _draw(
    title: str,
    check: Mapping[str, Any],
    looks: list[Seen],
    decided: bool,
    span: tuple[float | None, float | None],
    narrow: bool,
) -> Markup:
    percent, signed = bool(check.get("percent")), bool(check.get("signed"))
    canvas = Canvas(narrow, 180 if narrow else 210, WIDTHS, left=62, right=10, top=12, bottom=28)
    last, shown = looks[-1], thinned(looks, MOST_LOOKS)
    began, ended = span[0] or shown[0].at, span[1] or last.at
    x = canvas.x_scale(min(began, shown[0].at), max(ended, last.at, began + 1))
    low, high = _range(shown)
    y = canvas.y_scale(low, high)
    canvas.y_axis(y, lambda value: _tick(value, percent=percent, signed=signed), 4)
    # labels of a day or more carry the date, and fewer of them fit
    canvas.time_axis(x, (3 if x.high - x.low > DAY / 2 else 4) if narrow else 5)
    _band(canvas, x, y, shown)
    if last.bound is not None:
        place = y.clipped(last.bound)
        canvas.add(el("line", class_="bound", x1=canvas.x0, x2=canvas.x1, y1=place, y2=place))
        # where the line begins, on the side of the threshold where the line is not
        early = shown[: len(shown) // 4 + 1]
        over = sum(y.clipped(k.estimate) <= place for k in early) * 2 >= len(early)
        below = (over and canvas.y1 - place > 16) or place - canvas.y0 < 16
        height = place + 13 if below else place - 5
        canvas.label(canvas.x0 + 4, height, "threshold", anchor="start", tone="ax boundname")
    canvas.add(el("path", class_="line estimate", d=path([(x(k.at), y.clipped(k.estimate)) for k in shown])))
    for k in thinned(shown, 40):
        tip = (
            f"{clock(k.at)}, n {k.n:,.0f}: {amount(k.estimate, percent=percent, signed=signed)} "
            f"({between(k.row, percent=percent, signed=signed)}), {k.outcome.lower()}"
        )
        canvas.add(el("circle", class_="hit", cx=x(k.at), cy=y.clipped(k.estimate), r=7, data_t=tip))
    tone = _tone(check, last.outcome)
    if decided:
        place = x(last.at)
        canvas.add(el("line", class_=f"decided {tone}", x1=place, x2=place, y1=canvas.y0, y2=canvas.y1))
    canvas.add(el("circle", class_=f"outcome {tone}", cx=x(last.at), cy=y.clipped(last.estimate), r=5))
    description = f"Estimate with its confidence sequence over time; the last verdict is {last.outcome}."
    return canvas.svg(f"{title} over time", description)


def _band(canvas: Canvas, x: Scale, y: Scale, shown: list[Seen]) -> None:
    bounded = [k for k in shown if k.lower is not None and k.upper is not None]
    if len(bounded) == 1:  # a bar instead of a band without width
        k = bounded[0]
        top, bottom = y.clipped(k.upper or 0.0), y.clipped(k.lower or 0.0)
        corners = [(x(k.at) - 4, top), (x(k.at) + 4, top), (x(k.at) + 4, bottom), (x(k.at) - 4, bottom)]
        canvas.add(el("path", class_="band", d=path(corners) + "Z"))
    elif bounded:
        upper = [(x(k.at), y.clipped(k.upper or 0.0)) for k in bounded]
        lower = [(x(k.at), y.clipped(k.lower or 0.0)) for k in reversed(bounded)]
        canvas.add(el("path", class_="band", d=path(upper + lower) + "Z"))


def _range(looks: list[Seen]) -> tuple[float, float]:
    """From the estimates, the threshold and the band of the later looks: the first bands are wide as the world."""
    later = looks[len(looks) // 3 :]
    values = [k.estimate for k in later] + [k.bound for k in looks if k.bound is not None]
    for k in later:
        values += [v for v in (k.lower, k.upper) if v is not None]
    return padded(values)


def _tick(value: float, *, percent: bool, signed: bool) -> str:
    # a tick at zero may come as 1e-17
    return amount(0.0 if abs(value) < 1e-11 else value, percent=percent, signed=signed)
