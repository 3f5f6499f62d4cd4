"""Live against frozen and control, month by month: did retraining pay, and was it recency or more data?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.canvas import Canvas, both, figure, path
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.scales import padded
from monitoring.report.values import date, moment, number, rows

LINES = (
    ("auc_live", "live", "live champion"),
    ("auc_control", "control", "control"),
    ("auc_frozen", "frozen", "frozen"),
)


@dataclass(frozen=True)
class Gain:
    """Mean AUC over the later half of the months, weighted by rows."""

    live: float
    frozen: float
    control: float | None
    since: str
    until: str


def gain(summary: Mapping[str, Any]) -> Gain | None:
    """Compare over the last six months at most, over the later half of fewer; None where a side is missing."""
    months = [m for m in rows(summary, "months") if number(m.get("auc_live")) and number(m.get("auc_frozen"))]
    months = months[-min(6, (len(months) + 1) // 2) :] if months else []
    if not months:
        return None

    def mean(field: str) -> float | None:
        known = [(number(m.get(field)), number(m.get("rows")) or 1.0) for m in months]
        if any(value is None for value, _ in known):
            return None
        return sum(v * w for v, w in known if v is not None) / sum(w for _, w in known)

    live, frozen = mean("auc_live"), mean("auc_frozen")
    if live is None or frozen is None:
        return None
    return Gain(live, frozen, mean("auc_control"), _month(months[0], "%B"), _month(months[-1], "%B %Y"))


def section(summary: Mapping[str, Any]) -> Markup:
    months = [m for m in rows(summary, "months") if moment(m.get("month")) is not None]
    known = [v for m in months for field, _, _ in LINES if (v := number(m.get(field))) is not None]
    title = "AUC by month"
    if not known:
        return figure(title, "", None)
    numbers = table(
        "AUC and late rate by month",
        ("Month", "Labelled rows", "Positive rate", "Live", "Frozen", "Control"),
        [
            (
                _month(m, "%b %Y"),
                m.get("rows"),
                _percent(number(m.get("late_rate"))),
                *(_three(number(m.get(f))) for f in ("auc_live", "auc_frozen", "auc_control")),
            )
            for m in months
        ],
        numeric=range(1, 6),
    )
    entries = [
        (tone, name) for field, tone, name in LINES if any(number(m.get(field)) is not None for m in months)
    ]
    entries.append(("rate", "rate of positives"))
    return figure(
        title, _lead(summary), both(lambda narrow: _draw(months, known, narrow)), legend(entries), numbers
    )


def _lead(summary: Mapping[str, Any]) -> str:
    found = gain(summary)
    if found is None:
        return "The live champion beside the first model left as it was."
    span = found.until if found.since == found.until.split()[0] else f"{found.since} to {found.until}"
    sentence = f"{span}: live {found.live:.3f}, frozen first model {found.frozen:.3f}"
    sentence += f" ({found.live - found.frozen:+.3f})."
    if found.control is not None:
        recency = found.control - found.frozen
        sentence += (
            f" The control is retrained on a recent window as small as the first one: {found.control:.3f}. "
            f"So {recency:+.3f} comes from recency and {found.live - found.control:+.3f} from more data."
        )
    return sentence


def _draw(months: list[Mapping[str, Any]], known: list[float], narrow: bool) -> Markup:
    canvas = Canvas(narrow, 280 if narrow else 330, right=16 if narrow else 70, bottom=74)
    x = canvas.x_scale(0, max(len(months) - 1, 1))
    y = canvas.y_scale(*padded(known, 0.12))
    canvas.y_axis(y, lambda v: f"{v:.2f}")
    _rates(canvas, months, x)
    every = 1 if not canvas.narrow else 2
    for i, month in enumerate(months):
        if i % every == 0:
            canvas.label(x(i), canvas.height - 6, _month(month, "%b"))
    ends: list[tuple[float, str, str]] = []
    for field, tone, name in reversed(LINES):
        points = [
            (x(i), y(v), f"{_month(m, '%B %Y')}: {v:.3f}")
            for i, m in enumerate(months)
            if (v := number(m.get(field))) is not None
        ]
        if not points:
            continue
        canvas.add(el("path", class_=f"line {tone}", d=path([(px, py) for px, py, _ in points])))
        for px, py, at in points:
            tip = f"{at}, {name}"
            canvas.add(el("circle", class_=f"dot {tone}", cx=px, cy=py, r=3.5, data_t=tip))
        ends.append((points[-1][1], tone, name.split()[0]))
    if not canvas.narrow:
        _name_lines(canvas, ends)
    return canvas.svg("AUC by month", "Lines of the live champion, the frozen first model and the control.")


def _name_lines(canvas: Canvas, ends: list[tuple[float, str, str]]) -> None:
    lowest = canvas.y0
    for place, tone, name in sorted(ends):
        lowest = max(lowest, place + 4)
        canvas.label(canvas.x1 + 10, lowest, name, anchor="start", tone=f"name {tone}")
        lowest += 15


def _rates(canvas: Canvas, months: list[Mapping[str, Any]], x: Any) -> None:
    # a strip of bars under the lines: AUC does not depend on the rate, but the work to be done does
    rates = [number(m.get("late_rate")) for m in months]
    highest = max((r for r in rates if r is not None), default=0.0)
    if highest <= 0:
        return
    base = canvas.height - 22.0
    for i, (month, rate) in enumerate(zip(months, rates, strict=True)):
        if rate is None:
            continue
        height = 28 * rate / highest
        tip = f"{_month(month, '%B %Y')}: {rate:.1%} positive"
        half = min(14.0, (canvas.x1 - canvas.x0) / max(len(months), 1) / 3)
        canvas.add(
            el(
                "rect",
                class_="rate",
                x=x(i) - half,
                y=base - height,
                width=2 * half,
                height=height,
                rx=2,
                data_t=tip,
            )
        )


def _month(row: Mapping[str, Any], form: str) -> str:
    at = moment(row.get("month"))
    return date(at, form) if at is not None else "–"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
