"""How long answers took: the median and the slow tail by day, and the distribution of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.canvas import Canvas, both, figure, path
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.values import count, date, moment, number, rows, text, thinned

Day = tuple[float, float | None, float | None]
Bucket = tuple[float | None, float]


def section(summary: Mapping[str, Any], series: Mapping[str, Any]) -> Markup:
    latency = series.get("latency")
    days = _days(latency)
    buckets = _buckets(latency)
    return Markup(_by_day(days) + _histogram(buckets, summary))


def _days(latency: object) -> list[Day]:
    found = [
        (moment(r.get("day")), number(r.get("p50")), number(r.get("p99"))) for r in rows(latency, "by_day")
    ]
    return sorted(
        (at, p50, p99) for at, p50, p99 in found if at is not None and (p50 is not None or p99 is not None)
    )


def _buckets(latency: object) -> list[Bucket]:
    found = [(number(r.get("le")), number(r.get("count"))) for r in rows(latency, "histogram")]
    return sorted(((le, n) for le, n in found if n is not None), key=lambda b: (b[0] is None, b[0]))


def _by_day(days: list[Day]) -> Markup:
    title = "Latency by day"
    known = [v for _, p50, p99 in days for v in (p50, p99) if v is not None and v > 0]
    if not known:
        return figure(title, "", None)
    worst = max((d for d in days if d[2] is not None), key=lambda d: d[2] or 0.0, default=None)
    lead = "Milliseconds from the proxy to the answer, on a logarithmic scale."
    if worst is not None and worst[2] is not None:
        lead += f" The slowest day was {date(worst[0])} with a p99 of {worst[2]:.3g} ms."
    numbers = table(
        "Latency by day in ms",
        ("Day", "p50", "p99"),
        [(date(at), _ms(p50), _ms(p99)) for at, p50, p99 in thinned(days, 120)],
        numeric=(1, 2),
    )
    entries = [("live", "p50"), ("p99", "p99")]
    return figure(title, lead, both(lambda narrow: _draw_days(days, known, narrow)), legend(entries), numbers)


def _draw_days(days: list[Day], known: list[float], narrow: bool) -> Markup:
    canvas = Canvas(narrow, 220 if narrow else 240)
    x = canvas.x_scale(days[0][0], max(days[-1][0], days[0][0] + 1))
    y = canvas.y_scale(min(known) * 0.8, max(known) * 1.25, logarithmic=True)
    canvas.y_axis(y, lambda v: f"{v:g}")
    canvas.time_axis(x)
    shown = _worst(days, 120 if narrow else 366)
    for column, tone, name in ((2, "p99", "p99"), (1, "live", "p50")):
        points = [(x(d[0]), y.clipped(v)) for d in shown if (v := d[column]) is not None]
        if points:
            canvas.add(el("path", class_=f"line thin {tone}", d=path(points)))
        for d in _worst(shown, 60):
            if (v := d[column]) is not None:
                tip = f"{date(d[0])}, {name}: {v:.3g} ms"
                canvas.add(el("circle", class_="hit", cx=x(d[0]), cy=y.clipped(v), r=7, data_t=tip))
    return canvas.svg("Latency by day", "Lines of the median and the 99th percentile in milliseconds.")


def _worst(days: list[Day], most: int) -> list[Day]:
    """Neighbouring days together where there are more than that; the slowest of them stays, a spike is not lost."""
    size = -(-len(days) // most)
    groups = (days[i : i + size] for i in range(0, len(days), size))
    return [max(group, key=lambda d: (d[2] or 0.0, d[1] or 0.0)) for group in groups]


def _histogram(buckets: list[Bucket], summary: Mapping[str, Any]) -> Markup:
    title = "Distribution of latency"
    total = sum(n for _, n in buckets)
    if total <= 0:
        return figure(title, "", None)
    overall = summary.get("latency_ms")
    p50, p99 = (
        (number(overall.get(k)) for k in ("p50", "p99")) if isinstance(overall, Mapping) else (None, None)
    )
    lead = f"All {count(int(total), 'request')}."
    if p50 is not None and p99 is not None:
        lead += f" Half of them took at most {p50:.3g} ms, 99 of 100 at most {p99:.3g} ms."
    body = [(_name(le), int(n), f"{n / total:.2%}") for le, n in buckets]
    numbers = table("Requests by latency", ("Up to, ms", "Requests", "Share"), body, numeric=(1, 2))
    return figure(
        title, lead, both(lambda narrow: _draw_histogram(buckets, total, narrow)), Markup(""), numbers
    )


def _draw_histogram(buckets: list[Bucket], total: float, narrow: bool) -> Markup:
    canvas = Canvas(narrow, 200, top=22)
    y = canvas.y_scale(0, max(n for _, n in buckets) / total)
    canvas.y_axis(y, lambda v: f"{v:.0%}", 4)
    step = (canvas.x1 - canvas.x0) / len(buckets)
    every = -(-len(buckets) * 34 // int(canvas.x1 - canvas.x0))
    for i, (le, n) in enumerate(buckets):
        top = y(n / total)
        left = canvas.x0 + i * step
        tip = f"{n / total:.2%} ({n:,.0f}) up to {_name(le)} ms"
        bar = {"x": left + step * 0.08, "y": top, "width": step * 0.84, "height": max(canvas.y1 - top, 0.0)}
        canvas.add(el("rect", class_="bar", rx=2, data_t=tip, **bar))
        if i % max(every, 1) == 0:
            canvas.label(left + step / 2, canvas.y1 + 18, _name(le))
    return canvas.svg(
        "Distribution of latency", "Bars of the share of requests up to each latency in milliseconds."
    )


def _name(le: float | None) -> str:
    return "more" if le is None else f"{le:g}"


def _ms(value: float | None) -> str:
    return text(None) if value is None else f"{value:.3g}"
