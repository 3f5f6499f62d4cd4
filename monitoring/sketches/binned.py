"""The bins in which Evidently compares two numeric columns, counted from what is kept of them.

A reference of at most 20 different values is compared value by value; any other in bins of equal width over both
samples' range together, as many as Sturges's rule asks for. Counts in cells say how many values lie below a bin's end
up to the count of the one cell that the end lies in.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches.distribution import Cells, Counts, Distribution, counted, distinct
from monitoring.sketches.profile import ColumnProfile
from monitoring.sketches.shares import Sample

Floats = NDArray[np.float64]

FEW_VALUES = 20
"""Evidently's limit: a reference of more different values is compared in bins."""


def samples(reference: ColumnProfile, current: ColumnProfile) -> tuple[Sample, Sample]:
    """The counts of two numeric columns with values in the bins that they are compared in."""
    kept = reference.distribution
    if not isinstance(kept, Cells) and distinct(kept) <= FEW_VALUES:
        return _by_value(counted(kept), current.distribution)
    edges = sturges(reference, current)
    return _in_bins(kept, edges), _in_bins(current.distribution, edges)


def sturges(reference: ColumnProfile, current: ColumnProfile) -> Floats:
    """`numpy.histogram_bin_edges(both, "sturges")` of the values of both columns together, from their ranges."""
    first = min(reference.moments.minimum, current.moments.minimum)
    last = max(reference.moments.maximum, current.moments.maximum)
    width = (last - first) / (math.log2(reference.n + current.n) + 1.0)
    if reference.integer and current.integer and not reference.nulls and not current.nulls and 0 < width < 1:
        width = 1.0  # numpy's rule for whole numbers; pandas holds those with gaps as floats
    if first == last:
        first, last = first - 0.5, last + 0.5
    count = math.ceil((last - first) / width) if width else 1
    return np.linspace(first, last, count + 1)


def _in_bins(kept: Distribution, edges: Floats) -> Sample:
    low, middle, high = below(kept, edges[1:-1])
    n = float(kept.n)
    # the outer ends are the range of both samples: nothing lies below, everything up to the last
    low, middle, high = (np.concatenate(([0.0], side, [n])) for side in (low, middle, high))
    none = np.empty(0)
    exact = np.diff(middle)
    if not isinstance(kept, Cells):
        return Sample(kept.n, exact, exact, exact, none, none, none)
    least, most = np.maximum(low[1:] - high[:-1], 0.0), high[1:] - low[:-1]
    return Sample(kept.n, least, np.clip(np.rint(exact), least, most), most, none, none, none)


def below(kept: Distribution, points: Floats) -> tuple[Floats, Floats, Floats]:
    """How many values are below each point: at least, probably, at most."""
    if not isinstance(kept, Cells):
        at = np.searchsorted(kept.values, points)
        if isinstance(kept, Counts):
            at = np.concatenate(([0], np.cumsum(kept.counts)))[at]
        exact = at.astype(np.float64)
        return exact, exact, exact
    cell = kept.grid.cells(points)
    at = np.clip(cell - kept.first, -1, len(kept.counts)) + 1
    # total[k + 1]: up to and with cell k; a point outside of all cells is in an empty one
    total = np.concatenate(([0, 0], np.cumsum(kept.counts), [kept.n])).astype(np.float64)
    low, high = total[at], total[at + 1]
    ends = kept.grid.ends()
    left, right = ends[cell], ends[cell + 1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        share = np.nan_to_num((points - left) / (right - left), nan=0.5, posinf=1.0, neginf=0.0)
    return low, low + (high - low) * np.clip(share, 0.0, 1.0), high


def _by_value(reference: Counts, current: Distribution) -> tuple[Sample, Sample]:
    if not isinstance(current, Cells):
        other = counted(current)
        values = np.union1d(reference.values, other.values)
        return _at(reference, values), _at(other, values)
    cell = current.grid.cells(reference.values) - current.first
    within = (cell >= 0) & (cell < len(current.counts))
    most = np.where(within, current.counts[np.where(within, cell, 0)], 0).astype(np.float64)
    # values of one cell cannot all of them have its whole count
    shared = np.array([np.count_nonzero(cell == c) for c in cell])
    middle, least = np.floor(most / shared), np.zeros(len(most))
    n = float(current.n)
    found = Sample(
        n=current.n,
        low=least,
        middle=middle,
        high=most,
        group_low=np.array([max(n - most.sum(), 0.0)]),
        group_middle=np.array([n - middle.sum()]),
        group_high=np.array([n]),
    )
    nothing = np.zeros(1, dtype=np.int64)
    return Sample.exactly(reference.n, reference.counts, nothing), found


def _at(kept: Counts, values: Floats) -> Sample:
    counts = np.zeros(len(values), dtype=np.int64)
    counts[np.searchsorted(values, kept.values)] = kept.counts
    return Sample.exactly(kept.n, counts)
