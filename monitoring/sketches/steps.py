"""Distances between two distribution functions: Kolmogorov-Smirnov's and Wasserstein's.

Both are read off D = F - G, the difference of the shares of values at or below a point. Two exact samples are walked
through once in order. Two samples in the cells of one grid have D exactly at every cell's end, and between two ends F
and G can only rise: F lies between its ends' values and so does G, which bounds |D| there, and with it the largest |D|
and the area below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches.distribution import Cells, Counts, Values

Floats = NDArray[np.float64]
STRETCH = 1 << 15
"""Values of one sample that are merged with the other's at a time, in the core's cache."""
ROUNDING = 2.0**-49
"""By how much a cell's end may be rounded, relative to its distance from 0 and from the centre; shares and their sums
are rounded by less.
"""


@dataclass(frozen=True)
class Bounded:
    """A figure and what it lies between, whatever the values within the cells are."""

    value: float
    lower: float
    upper: float

    @classmethod
    def exactly(cls, value: float) -> Bounded:
        return cls(value, value, value)


@dataclass(frozen=True)
class Steps:
    """Of two distribution functions: the largest distance, and the area between them in the unit of the values."""

    kolmogorov_smirnov: Bounded
    area: Bounded


def exact(reference: Values | Counts, current: Values | Counts) -> Steps:
    """The distances between two exact samples, neither empty."""
    n, m = reference.n, current.n
    largest = area = 0.0
    at, other = 0, 0
    below_reference, below_current = 0, 0
    last: float | None = None
    while at < len(reference.values) or other < len(current.values):
        end, other_end = _stretch(reference.values, current.values, at, other)
        left, right = reference.values[at:end], current.values[other:other_end]
        points = np.concatenate((left, right))
        order = np.argsort(points, kind="stable")  # two ascending runs: this only merges them
        from_left = order < len(left)
        points = points[order]
        passed = np.cumsum(from_left, dtype=np.int64)
        seen = _below(reference, at, end, passed) + below_reference
        seen_current = _below(current, other, other_end, np.arange(1, len(points) + 1) - passed)
        seen_current += below_current
        if last is not None:
            area += abs(below_reference / n - below_current / m) * (float(points[0]) - last)
        difference = seen / n
        difference -= seen_current / m
        np.abs(difference, out=difference)
        widths = np.diff(points)
        # D holds after the last of equal values only; a stretch ends with such a one
        largest = max(largest, float(difference[-1]))
        inside = difference[:-1]
        if len(inside):
            largest = max(largest, float(np.multiply(inside, widths > 0).max()))
            area += _total(inside, widths)
        below_reference = int(seen[-1])
        below_current = int(seen_current[-1])
        last = float(points[-1])
        at, other = end, other_end
    return Steps(Bounded.exactly(largest), Bounded.exactly(area))


def _total(heights: Floats, widths: Floats) -> float:
    # summed pairwise and by this thread alone: numpy's dot product wakes other threads up for it
    return float(np.add.reduce(heights * widths))


def _stretch(left: Floats, right: Floats, at: int, other: int) -> tuple[int, int]:
    # up to a value that is complete on both sides, about STRETCH of either
    ends = [
        float(side[min(start + STRETCH, len(side)) - 1])
        for side, start in ((left, at), (right, other))
        if start < len(side)
    ]
    end = min(ends)
    return int(np.searchsorted(left, end, side="right")), int(np.searchsorted(right, end, side="right"))


def _below(kept: Values | Counts, start: int, end: int, points: NDArray[np.int64]) -> NDArray[np.int64]:
    # how many values the first 0, 1, … points of the stretch stand for
    if isinstance(kept, Values):
        return points
    total = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(kept.counts[start:end])))
    return np.asarray(total[points])


def in_cells(
    reference: Cells, current: Cells, reference_range: tuple[float, float], current_range: tuple[float, float]
) -> Steps:
    """The distances between two samples in the cells of one grid, neither empty.

    Args:
        reference_range, current_range: smallest and largest value of each, which narrow the outermost cells.
    """
    first = min(reference.first, current.first)
    last = max(c.first + len(c.counts) for c in (reference, current)) - 1
    f, g = (_shares(c, first, last) for c in (reference, current))
    low, high = min(reference_range[0], current_range[0]), max(reference_range[1], current_range[1])
    ends = np.clip(reference.grid.ends()[first : last + 2], low, high)
    at_ends = np.abs(f - g)
    # over a cell: F runs from f[:-1] to f[1:], G likewise
    most = np.maximum(np.abs(f[1:] - g[:-1]), np.abs(g[1:] - f[:-1]))
    least = np.maximum(np.maximum(f[:-1] - g[1:], g[:-1] - f[1:]), 0.0)
    largest = float(at_ends.max())
    # a cell that only one of them has values in: |D| is between its ends' values there, and largest at one of them
    shared = (np.diff(f) > 0) & (np.diff(g) > 0)
    # a cell of one value has an end and no inside
    points = reference.grid.cells(np.array(reference.grid.atoms)) - first
    shared[points[(points >= 0) & (points < len(shared))]] = False
    highest = max(largest, float(most[shared].max()) if shared.any() else 0.0)
    widths = np.diff(ends)
    start, stop = f[:-1] - g[:-1], f[1:] - g[1:]
    moved = _total(np.diff(f) + np.diff(g), np.abs(ends[1:]) + abs(reference.grid.centre))
    # the shares are rounded too, all the way from the smallest value to the largest
    rounding = ROUNDING * (moved + float(ends[-1]) - float(ends[0]))
    lower = max(_total(least, widths) - rounding, 0.0)
    upper = _total(most, widths) + rounding
    value = _total(_mean_absolute(start, stop), widths)
    return Steps(Bounded(largest, largest, highest), Bounded(min(max(value, lower), upper), lower, upper))


def _shares(cells: Cells, first: int, last: int) -> Floats:
    # shares at the ends of the cells first … last: the first is 0, the last 1
    counts = np.zeros(last - first + 2, dtype=np.int64)
    start = cells.first - first + 1
    counts[start : start + len(cells.counts)] = cells.counts
    total = np.cumsum(counts)
    shares: Floats = total / total[-1]
    return shares


def _mean_absolute(start: Floats, stop: Floats) -> Floats:
    # the mean of |D| over a cell if D runs straight from start to stop
    total = np.abs(start) + np.abs(stop)
    crossing = start * stop < 0
    safe = np.where(crossing, total, 1.0)
    return np.where(crossing, (start * start + stop * stop) / safe / 2.0, total / 2.0)
