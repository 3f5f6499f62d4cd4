"""Who answered: traffic weights over time, stacked by version, and the releases that moved them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.canvas import Canvas, both, figure, path, steps
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.values import clock, count, moment, number, rows, text, thinned

MOST_CHANGES = 600
THINNEST = 2.0
"""Pixels that a canary of an hour gets in a year, so that it is seen at all."""


@dataclass(frozen=True)
class Weights:
    """The shares of traffic from `at` on, in percent."""

    at: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Span:
    """When a release took traffic."""

    version: str
    start: float
    end: float
    outcome: str


def weights(series: Mapping[str, Any]) -> list[Weights]:
    """The weights in order of time."""
    found: list[Weights] = []
    for row in rows(series, "weights"):
        at, shares = moment(row.get("at")), row.get("weights")
        if at is None or not isinstance(shares, Mapping):
            continue
        known = {str(v): share for v, raw in shares.items() if (share := number(raw)) is not None}
        found.append(Weights(at, known))
    return sorted(found, key=lambda w: w.at)


def spans(summary: Mapping[str, Any], changes: list[Weights]) -> list[Span]:
    """When each release began and ended, read from the weights: from the first share to the next 0 or 100."""
    found: list[Span] = []
    for release in rows(summary, "releases"):
        version = text(release.get("version"))
        start = next((w.at for w in changes if w.shares.get(version, 0) > 0), None)
        if start is None:
            continue
        later = [w.at for w in changes if w.at > start and w.shares.get(version, 0) in (0, 100)]
        found.append(Span(version, start, later[0] if later else start, text(release.get("outcome"))))
    return found


def section(summary: Mapping[str, Any], series: Mapping[str, Any]) -> Markup:
    title = "Traffic by version"
    changes = weights(series)
    if not changes:
        return figure(title, "", None)
    versions = list(dict.fromkeys(v for w in changes for v, share in w.shares.items() if share > 0))
    end = max(changes[-1].at, *(at for at in _times(summary, series)), changes[0].at + 1)
    lead = (
        f"{count(len(versions), 'version')} took traffic, in {count(len(changes) - 1, 'change')} of weights without a "
        "restart. A candidate gets a small share first and the rest only once its checks pass."
    )
    numbers = table(
        "Changes of traffic weights",
        ("At", "Weights in percent"),
        [
            (clock(w.at), ", ".join(f"v{v}: {s:g}" for v, s in w.shares.items()))
            for w in thinned(changes, 200)
        ],
    )
    released = spans(summary, changes)
    tones = _tones(versions, released)
    entries = [(tones[v], f"v{v}") for v in versions[:12]]
    return figure(
        title,
        lead,
        both(lambda narrow: _draw(thinned(changes, MOST_CHANGES), versions, tones, released, end, narrow)),
        legend(entries),
        numbers,
    )


def _tones(versions: list[str], released: list[Span]) -> dict[str, str]:
    """Champions in quiet colours of their own, candidates that failed in the colour of their outcome."""
    failed = {
        s.version: "bad" if s.outcome == "rolled_back" else "warn"
        for s in released
        if s.outcome != "promoted"
    }
    kept = [v for v in versions if v not in failed]
    return {**{v: f"v{i % 8}" for i, v in enumerate(kept)}, **failed}


def _times(summary: Mapping[str, Any], series: Mapping[str, Any]) -> list[float]:
    drift = [moment(row.get("at")) for row in rows(series, "drift")]
    days = [moment(row.get("day")) for row in rows(_latency(series), "by_day")]
    return [at for at in drift + days if at is not None]


def _latency(series: Mapping[str, Any]) -> object:
    return series.get("latency")


def _draw(
    changes: list[Weights],
    versions: list[str],
    tones: Mapping[str, str],
    released: list[Span],
    end: float,
    narrow: bool,
) -> Markup:
    canvas = Canvas(narrow, 270 if narrow else 300, left=42, bottom=64)
    x = canvas.x_scale(changes[0].at, end)
    y = canvas.y_scale(0, 100)
    floor = [0.0] * len(changes)
    for version in versions:
        top = [low + w.shares.get(version, 0.0) for low, w in zip(floor, changes, strict=True)]
        for first, last in _runs([t > f for t, f in zip(top, floor, strict=True)]):
            run = slice(first, last + 1)
            until = changes[last + 1].at if last + 1 < len(changes) else end
            columns = [x(w.at) for w in changes[run]]
            edge = max(x(until), columns[0] + THINNEST)
            upper = steps([(px, y.clipped(t)) for px, t in zip(columns, top[run], strict=True)], edge)
            lower = steps([(px, y.clipped(f)) for px, f in zip(columns, floor[run], strict=True)], edge)
            tip = f"v{version}: {clock(changes[first].at)} to {clock(until)}"
            shape = path(upper + lower[::-1]) + "Z"
            canvas.add(el("path", class_=f"area {tones[version]}", d=shape, data_t=tip))
            _name(canvas, version, [*columns, edge])
        floor = top
    for tick in (0, 50, 100):
        canvas.label(canvas.x0 - 8, y(tick) + 4, f"{tick} %", anchor="end")
    canvas.time_axis(x)
    _releases(canvas, x, released)
    return canvas.svg(
        "Traffic weights over time", "Stacked shares of traffic of each version, with the releases below."
    )


def _name(canvas: Canvas, version: str, columns: list[float]) -> None:
    """The version's name in the widest stretch between two changes, where there is room for it."""
    left, right = max(itertools.pairwise(columns), key=lambda pair: pair[1] - pair[0])
    if right - left > 26:
        canvas.label((left + right) / 2, (canvas.y0 + canvas.y1) / 2, f"v{version}", tone="inside")


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """First and last index of each unbroken run of True."""
    runs: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and i and flags[i - 1]:
            runs[-1] = (runs[-1][0], i)
        elif flag:
            runs.append((i, i))
    return runs


def _releases(canvas: Canvas, x: Any, released: list[Span]) -> None:
    last = -1e9
    y = canvas.height - 18.0
    for span in sorted(released, key=lambda s: s.start):
        place = x.clipped(span.start)
        tone = {"promoted": "good", "rolled_back": "bad"}.get(span.outcome, "warn")
        tip = f"v{span.version} {span.outcome.replace('_', ' ')}: {clock(span.start)} to {clock(span.end)}"
        canvas.add(el("circle", class_=f"outcome {tone}", cx=place, cy=y, r=7, data_t=tip))
        canvas.add(el("path", class_="sign", d=_sign(tone, place, y)))
        if place - last > 30:
            canvas.label(place, y + 17, f"v{span.version}")
            last = place


def _sign(tone: str, x: float, y: float) -> str:
    if tone == "good":
        return f"M{x - 3:.1f},{y:.1f}l2.2,2.4l4,-4.6"
    if tone == "bad":
        return f"M{x - 2.5:.1f},{y - 2.5:.1f}l5,5m0,-5l-5,5"
    return f"M{x - 3:.1f},{y:.1f}h6"
