"""Drift by feature over time as a heat map, with the signals that it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monitoring.report.canvas import Canvas, both, figure
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.values import clock, count, date, moment, number, rows, text

STEPS = (1 / 3, 2 / 3, 1.0, 2.0, 4.0, 8.0)
"""Upper ends of the colour classes, in thresholds; from 1 on a feature has drifted."""
MOST_FEATURES = 26

Cells = dict[tuple[str, float], tuple[float, float]]


def section(summary: Mapping[str, Any], series: Mapping[str, Any]) -> Markup:
    title = "Drift by feature"
    cells = _cells(series)
    if not cells:
        return figure(title, "", None)
    times = sorted({at for _, at in cells})
    worst: dict[str, float] = {}
    for (feature, _), (score, threshold) in cells.items():
        worst[feature] = max(worst.get(feature, 0.0), score / threshold)
    order = sorted(worst, key=lambda name: -worst[name])
    drifted = sum(1 for ratio in worst.values() if ratio >= 1)
    lead = (
        "Distance of each window from what the champion of that time was trained on, "
        f"in {count(len(times), 'window')}. "
        f"{drifted} of {count(len(worst), 'feature')} went above the threshold at least once."
    )
    if len(order) > MOST_FEATURES:
        lead += f" The {MOST_FEATURES} that moved most are shown."
    marks = [
        (at, bool(t.get("accepted")), t)
        for t in rows(summary, "triggers")
        if (at := moment(t.get("at"))) is not None
    ]
    numbers = table(
        "Largest distance of each feature",
        ("Feature", "Largest distance", "Threshold", "At", "Windows above"),
        [_row(name, cells) for name in order],
        numeric=(1, 2, 4),
    )
    entries = [
        ("c1", "below the threshold"), ("c3", "1–2 ×"), ("c4", "2–4 ×"), ("c5", "4–8 ×"), ("c6", "above"),
        ("mark", "retraining"), ("mark hollow", "signal held back"),
    ]  # fmt: skip
    return figure(
        title,
        lead,
        both(lambda narrow: heat_map(order[:MOST_FEATURES], times, cells, marks, narrow)),
        legend(entries),
        numbers,
    )


def _cells(series: Mapping[str, Any]) -> Cells:
    cells: Cells = {}
    for row in rows(series, "drift"):
        at, score, threshold = moment(row.get("at")), number(row.get("score")), number(row.get("threshold"))
        if at is not None and score is not None:
            cells[text(row.get("feature")), at] = (score, threshold if threshold and threshold > 0 else 0.1)
    return cells


def _row(name: str, cells: Cells) -> tuple[object, ...]:
    own = [(score, threshold, at) for (feature, at), (score, threshold) in cells.items() if feature == name]
    score, threshold, at = max(own)
    return name, f"{score:.3f}", f"{threshold:g}", clock(at), sum(1 for s, t, _ in own if s >= t)


def _class(ratio: float) -> str:
    return f"c{sum(1 for step in STEPS if ratio >= step)}"


def _said(feature: str, at: float, score: float, threshold: float) -> str:
    return f"{feature}, {date(at)}: {score:.3f} (threshold {threshold:g})"


def heat_map(
    features: list[str],
    times: list[float],
    cells: Cells,
    marks: list[tuple[float, bool, Mapping[str, Any]]],
    narrow: bool,
    *,
    title: str = "Drift by feature over time",
    said: Callable[[str, float, float, float], str] = _said,
) -> Markup:
    """Draw the map.

    Args:
        features: the rows, in their order.
        times: ends of the windows, epoch seconds, ascending.
        cells: score and threshold by row and window; a window that is not there stays empty.
        marks: time, whether it was accepted, and the signal itself.
        said: the tip of a cell.
    """
    row, letters = (15, 15) if narrow else (17, 28)
    left = 14 + 7.1 * min(letters, max(len(f) for f in features))
    canvas = Canvas(narrow, int(44 + row * len(features) + 28), left=left, right=6, top=34, bottom=28)
    groups = _groups(times, 26 if narrow else 60)
    step = (canvas.x1 - canvas.x0) / len(groups)
    for i, feature in enumerate(features):
        y = canvas.y0 + i * row
        shown = feature if len(feature) <= letters else feature[: letters - 1] + "…"
        canvas.label(canvas.x0 - 8, y + row - 4, shown, anchor="end", tone="ax name")
        for j, group in enumerate(groups):
            found = [(*cells[feature, at], at) for at in group if (feature, at) in cells]
            if not found:
                continue
            score, threshold, at = max(found)
            tip = said(feature, at, score, threshold)
            canvas.add(
                el(
                    "rect",
                    class_=_class(score / threshold),
                    x=canvas.x0 + j * step,
                    y=float(y),
                    width=max(step - 1, 0.8),
                    height=row - 1,
                    data_t=tip,
                )
            )
    _marks(canvas, groups, step, marks)
    _dates(canvas, groups, step)
    return canvas.svg(title, "A heat map: a row a feature, a column a window, darker is further.")


def _groups(times: list[float], most: int) -> list[list[float]]:
    """Neighbouring windows together where there are more than columns; the largest distance is shown."""
    size = -(-len(times) // most)
    return [times[i : i + size] for i in range(0, len(times), size)]


def _marks(
    canvas: Canvas, groups: list[list[float]], step: float, marks: list[tuple[float, bool, Mapping[str, Any]]]
) -> None:
    # refused ones first, so that an accepted one lies on top
    for at, accepted, trigger in sorted(marks, key=lambda m: (m[1], m[0])):
        column = sum(1 for group in groups if group[0] <= at) - 1
        x = canvas.x0 + (min(max(column, 0), len(groups) - 1) + 0.5) * step
        tip = f"{clock(at)}, {text(trigger.get('signal'))}: {text(trigger.get('reason'))}"
        shape = f"M{x - 5:.1f},18L{x + 5:.1f},18L{x:.1f},27Z"
        canvas.add(el("path", class_="mark" if accepted else "mark hollow", d=shape, data_t=tip))


def _dates(canvas: Canvas, groups: list[list[float]], step: float) -> None:
    last, previous = -1e9, ""
    for j, group in enumerate(groups):
        x, month = canvas.x0 + (j + 0.5) * step, date(group[0], "%b")
        if month != previous and x - last > 36:
            canvas.label(x, canvas.height - 8, month if len(groups) > 8 else date(group[0], "%-d %b"))
            last, previous = x, month
