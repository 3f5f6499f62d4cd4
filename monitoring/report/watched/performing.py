"""How good the model is: measured where labels have come in, estimated before, against its evaluation."""

from __future__ import annotations

from monitoring.report.canvas import Canvas, both, figure, path
from monitoring.report.markup import Markup, el, folded, legend, table
from monitoring.report.scales import padded
from monitoring.report.values import clock, number
from monitoring.report.watched.looks import Look

METRICS = {"auc": "AUC", "brier": "Brier score", "log_loss": "Log loss", "accuracy": "Accuracy"}
LESS_IS_BETTER = ("brier", "log_loss")
KINDS = (("measured", "live"), ("estimated", "control"), ("baseline", "frozen"))

Point = tuple[float, float, float | None, float | None]


def section(found: list[Look]) -> Markup:
    """A plot of each metric that is known."""
    lines = {metric: _lines(found, metric) for metric in METRICS}
    known = [metric for metric, points in lines.items() if any(points.values())]
    if not known:
        return figure("Performance", "", None)
    plots = [_metric(metric, lines[metric], i == 0) for i, metric in enumerate(known)]
    if len(plots) == 1:
        return plots[0]
    names = ", ".join(METRICS[metric] for metric in known[1:])
    return el("div", plots[0], folded(names, el("div", *plots[1:])), class_="folding")


def _lines(found: list[Look], metric: str) -> dict[str, list[Point]]:
    points: dict[str, list[Point]] = {kind: [] for kind, _ in KINDS}
    for look in found:
        for kind in points:
            row = look.figure(metric, kind)
            value = None if row is None else number(row.get("value"))
            if row is not None and value is not None:
                points[kind].append((look.at, value, number(row.get("lower")), number(row.get("upper"))))
    return points


def _metric(metric: str, lines: dict[str, list[Point]], first: bool) -> Markup:
    name = METRICS[metric]
    lead = "Less is better. " if metric in LESS_IS_BETTER else "More is better. "
    if first:
        lead += (
            "Measured on matured labels, with its 95 % interval; estimated from calibrated scores before labels come; "
            "dashed is the evaluation on which the version was released. "
        )
    measured, baseline = lines["measured"], lines["baseline"]
    if measured and baseline:
        lead += f"Measured last: {measured[-1][1]:.3f}, at its evaluation {baseline[-1][1]:.3f}."
    elif not measured:
        lead += "Nothing is measured yet: no labels have matured."
    entries = [
        (tone, "at its evaluation" if kind == "baseline" else kind) for kind, tone in KINDS if lines[kind]
    ]
    body = [
        (clock(at), *(_cell(lines[kind], at) for kind, _ in KINDS))
        for at in sorted({p[0] for points in lines.values() for p in points})
    ]
    numbers = table(
        f"{name} by window",
        ("Window's end", "Measured", "Estimated", "At evaluation"),
        body,
        numeric=(1, 2, 3),
    )
    return figure(name, lead, both(lambda narrow: _draw(name, lines, narrow)), legend(entries), numbers)


def _cell(points: list[Point], at: float) -> str:
    for when, value, lower, upper in points:
        if when == at:
            interval = "" if lower is None or upper is None else f" ({lower:.3f} to {upper:.3f})"
            return f"{value:.3f}{interval}"
    return "–"


def _draw(name: str, lines: dict[str, list[Point]], narrow: bool) -> Markup:
    canvas = Canvas(narrow, 220 if narrow else 240, left=52, bottom=30)
    everything = [p for points in lines.values() for p in points]
    times = [p[0] for p in everything]
    x = canvas.x_scale(min(times), max(times) if max(times) > min(times) else min(times) + 1)
    values = [
        v for kind, points in lines.items() for p in points for v in (p[1:] if kind != "baseline" else p[1:2])
    ]
    y = canvas.y_scale(*padded([v for v in values if v is not None], 0.1))
    canvas.y_axis(y)
    canvas.time_axis(x, 4 if narrow else 8)
    for kind, tone in reversed(KINDS):
        points = lines[kind]
        if not points:
            continue
        bounded = [
            (x(at), y.clipped(lo), y.clipped(up))
            for at, _, lo, up in points
            if lo is not None and up is not None
        ]
        if kind == "measured" and len(bounded) > 1:
            band = [(px, up) for px, _, up in bounded] + [(px, lo) for px, lo, _ in reversed(bounded)]
            canvas.add(el("path", class_="band", d=path(band) + "Z"))
        elif kind == "measured":
            for px, lo, up in bounded:
                canvas.add(el("path", class_="whisker", d=path([(px, lo), (px, up)])))
        line = [(x(at), y(value)) for at, value, _, _ in points]
        if len(line) == 1 and kind == "baseline":
            line = [(canvas.x0, line[0][1]), (canvas.x1, line[0][1])]
        dashed = " dashed" if kind == "baseline" else " solid"
        canvas.add(el("path", class_=f"line {tone}{dashed}", d=path(line)))
        if kind != "baseline":
            for at, value, _, _ in points:
                tip = f"{clock(at)}, {kind}: {_cell(points, at)}"
                canvas.add(el("circle", class_=f"dot {tone}", cx=x(at), cy=y(value), r=3.2, data_t=tip))
    return canvas.svg(f"{name} over time", "Measured, estimated and at the evaluation, by window.")
