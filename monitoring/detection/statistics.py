"""The statistics of a column: sums over the rows of a day, which add up to those of any span of days.

Each is the mean of a quantity whose expectation at training is known, so its deviation is an effect with a unit:
where the column stands given the others, whether it follows them with slope one, how far it spreads within a day,
what its tails hold, and (for quality) what is missing, unknown, out of range or in another unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.columns import Floats
from monitoring.detection import view as views
from monitoring.detection.result import QualityCheck
from monitoring.detection.rows import Days, days_of
from monitoring.detection.scales import SMALLEST_MAGNITUDE, ColumnScale
from monitoring.detection.view import View

Unit = Literal["sd", "share", "quality share", "slope", "spread", "log"]
MAGNITUDES = 10.0
"""Logarithms of magnitudes further than this from the reference's mean count as this."""

FOLLOWS = 0.5
"""A column of which the others explain less than this share has no slope to speak of."""
CHUNK_ROWS = 4096

#: Statistic -> its unit, and its share of what its column may spend on false alarms.
LOCATION, ALONE, SLOPE = "location given the others", "location", "slope on the others"
WITHIN = "spread within a day"
LOW, HIGH, ATOM, SHARE = "low tail", "high tail", "most frequent value", "share of category"
NULLS, RANGE, UNKNOWN, MAGNITUDE = "missing", "out of range", "unknown category", "magnitude"
KINDS: dict[str, tuple[Unit, float]] = {
    LOCATION: ("sd", 0.25),
    ALONE: ("sd", 0.05),
    SLOPE: ("slope", 0.06),
    WITHIN: ("spread", 0.30),
    LOW: ("share", 0.04),
    HIGH: ("share", 0.06),
    ATOM: ("share", 0.04),
    RANGE: ("quality share", 0.04),
    MAGNITUDE: ("log", 0.12),
    NULLS: ("quality share", 0.04),
    UNKNOWN: ("quality share", 0.04),
    SHARE: ("share", 0.90),
}
QUALITY: dict[str, QualityCheck] = {
    NULLS: "nulls",
    RANGE: "range",
    UNKNOWN: "category",
    MAGNITUDE: "unit",
}


@dataclass(frozen=True)
class Statistic:
    """One statistic of one column.

    Attributes:
        column: position among the features; their number is the position of the scores.
        weight: which count its sum is divided by: 0 = all rows, 1 + column = those with a value, and from there on,
            column by column, those with a value that is not zero.
        spending: share of its column's budget.
    """

    column: int
    name: str
    kind: str
    unit: Unit
    weight: int
    spending: float
    category: int = -1


@dataclass(frozen=True, eq=False)
class DayTable:
    """Sums by day.

    Attributes:
        days: UTC days, ascending.
        counts: days × (2 + 2 features): rows, rows with a value of each feature and of the scores, and rows with a
            value of each feature that is not zero.
        sums: days × statistics.
        squares: the same of squares, for the noise of drawing rows.
    """

    days: Days
    counts: Floats
    sums: Floats
    squares: Floats


def statistics_of(view: View) -> tuple[Statistic, ...]:
    """The statistics of a view, column by column."""
    found: list[Statistic] = []
    columns = (*view.design.numeric, len(view.scales))
    predicted = dict(zip(columns, view.predicted_variance.tolist(), strict=False))

    def add(column: int, kind: str, *, all_rows: bool = False, category: int = -1, part: float = 1.0) -> None:
        unit, spending = KINDS[kind]
        name = kind if category < 0 else f"{kind} {category}"
        weight = 0 if all_rows else 1 + column
        if kind == MAGNITUDE:
            weight = 2 + len(view.scales) + column
        found.append(Statistic(column, name, kind, unit, weight, spending * part, category))

    for i, scale in enumerate(view.scales):
        if scale.kind == "numeric":
            for kind in _numeric(scale, predicted[i]):
                add(i, kind)
        else:
            for k in range(len(scale.shares)):
                add(i, SHARE, category=k, part=1 / len(scale.shares))
            add(i, UNKNOWN)
        add(i, NULLS, all_rows=True)
    if view.score is not None:
        for kind in _numeric(view.score, predicted[len(view.scales)]):
            if kind not in (RANGE, MAGNITUDE):
                add(len(view.scales), kind)
    return tuple(found)


def _numeric(scale: ColumnScale, predicted: float) -> list[str]:
    kinds = [LOCATION, ALONE, WITHIN, LOW, HIGH, RANGE]
    if predicted >= FOLLOWS:
        kinds.append(SLOPE)
    if np.isfinite(scale.atom):
        kinds.append(ATOM)
    if np.isfinite(scale.log_mean):
        kinds.append(MAGNITUDE)
    return kinds


def is_even(statistic: Statistic) -> bool:
    """Whether its noise is taken for normal: quality and the spread hardly ever ring for nothing, and must be sharp."""
    return statistic.kind in QUALITY or statistic.kind == WITHIN


def is_brief(statistic: Statistic, view: View) -> bool:
    """Whether one day of it is a fault: no storm makes new categories, other units, or gaps where there are none."""
    if statistic.kind == NULLS:
        return statistic.column not in view.design.missing
    return statistic.kind in QUALITY


def by_day(
    view: View, statistics: Sequence[Statistic], at: Floats, features: Floats, scores: Floats
) -> DayTable:
    """Sum the statistics of rows by UTC day; a few days at a time, so that memory does not grow with the rows."""
    rows_of = days_of(at)
    order = np.argsort(rows_of, kind="stable")
    days, starts = np.unique(rows_of[order], return_index=True)
    width, columns = len(statistics), 2 * features.shape[1] + 2
    if not len(days):
        return DayTable(days, np.empty((0, columns)), np.empty((0, width)), np.empty((0, width)))
    parts = []
    ends = np.append(starts[1:], len(order))
    first = 0
    while first < len(days):
        last = max(int(np.searchsorted(ends, starts[first] + CHUNK_ROWS, side="right")), first + 1)
        chosen = order[starts[first] : ends[last - 1]]
        offsets = starts[first:last] - starts[first]
        parts.append(_chunk(view, statistics, at[chosen], features[chosen], scores[chosen], offsets))
        first = last
    counts, sums, squares = (np.concatenate(p) for p in zip(*parts, strict=True))
    return DayTable(days, counts, sums, squares)


def _chunk(
    view: View, statistics: Sequence[Statistic], at: Floats, features: Floats, scores: Floats, starts: Days
) -> tuple[Floats, Floats, Floats]:
    """Counts, sums and sums of squares of rows ordered by day; `starts` is where each day begins."""
    seen = views.measure(view, at, features, scores)
    rows = _values(view, statistics, seen, _around_days(seen.normal, starts), features, scores)
    present = np.isfinite(np.column_stack((features, scores)))
    sized = np.abs(features) > SMALLEST_MAGNITUDE  # False for NaN
    counted = np.column_stack((np.ones(len(at)), present, sized))
    return (
        np.add.reduceat(counted, starts, axis=0),
        np.add.reduceat(rows, starts, axis=0),
        np.add.reduceat(np.square(rows), starts, axis=0),
    )


def _around_days(normal: Floats, starts: Days) -> Floats:
    """How far each normal score lies from the mean of its day; 0 where there is none."""
    present = np.isfinite(normal)
    filled = np.where(present, normal, 0.0)
    rows = np.maximum(np.add.reduceat(present.astype(np.float64), starts, axis=0), 1.0)
    means = np.add.reduceat(filled, starts, axis=0) / rows
    lengths = np.diff(np.append(starts, len(normal)))
    around: Floats = np.where(present, np.abs(filled - np.repeat(means, lengths, axis=0)), 0.0)
    return around


def _values(
    view: View,
    statistics: Sequence[Statistic],
    seen: views.Measured,
    around: Floats,
    features: Floats,
    scores: Floats,
) -> Floats:
    """Rows × statistics, in the order of `statistics_of`; a row without a value contributes 0."""
    numeric = {column: k for k, column in enumerate(view.design.numeric)}
    if view.score is not None:
        numeric[len(view.scales)] = len(view.design.numeric)
    missing = {column: k for k, column in enumerate(view.design.missing)}
    normal = np.nan_to_num(seen.normal)
    residual = seen.residual
    slopes = residual * (normal - residual) / view.predicted_variance
    out = np.empty((len(features), len(statistics)))
    for k, statistic in enumerate(statistics):
        j = statistic.column
        scale = view.scales[j] if j < len(view.scales) else view.score
        assert scale is not None  # noqa: S101 - a statistic of the scores has their scale
        column = features[:, j] if j < len(view.scales) else scores
        match statistic.kind:
            case "location given the others":
                out[:, k] = residual[:, numeric[j]]
            case "location":
                out[:, k] = normal[:, numeric[j]]
            case "slope on the others":
                out[:, k] = slopes[:, numeric[j]]
            case "spread within a day":
                out[:, k] = around[:, numeric[j]]
            case "low tail":
                out[:, k] = column < scale.tail_low
            case "high tail":
                out[:, k] = column > scale.tail_high
            case "most frequent value":
                out[:, k] = column == scale.atom
            case "out of range":
                out[:, k] = (column < scale.low) | (column > scale.high)
            case "magnitude":
                out[:, k] = _magnitude(column, scale)
            case "share of category":
                out[:, k] = column == statistic.category
            case "unknown category":
                out[:, k] = (column < 0) | (column >= len(scale.shares))
            case _:
                gone = ~np.isfinite(column)
                out[:, k] = seen.missing[:, missing[j]] if j in missing else gone
    return out


def _magnitude(column: Floats, scale: ColumnScale) -> Floats:
    size = np.abs(column)
    there = size > SMALLEST_MAGNITUDE  # False for NaN
    logs = np.log(np.where(there, size, 1.0)) - scale.log_mean
    return np.where(there, np.clip(logs, -MAGNITUDES, MAGNITUDES), 0.0)
