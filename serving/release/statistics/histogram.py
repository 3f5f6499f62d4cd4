"""Latencies as counts by bucket: the form in which the access log is kept and in which Prometheus gives them.

A release looks every second and may have seen millions of requests, so nothing here grows with them. What is asked
of a histogram is answered exactly or not at all: how many answers were slower than a bound is known only where the
bound is an edge, so a check's bound is made one (`with_edges`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

#: Upper bounds in milliseconds, 48 to a factor of ten (4.9 % apart), from 0.1 ms to 100 s, of four digits each.
#: Journals refer to them by their place: they must never change.
EDGES: tuple[float, ...] = (
    *(
        float(f"{10 ** (step / 48):.3f}e{decade}")  # the same digits in every decade, on every machine
        for decade in range(-1, 5)
        for step in range(48)
    ),
    100_000.0,
)


@dataclass(frozen=True)
class Histogram:
    """Counts of latencies by bucket; sums and differences are those of the counts.

    Attributes:
        edges: upper bounds in milliseconds, increasing; a latency equal to one counts as below it.
        counts: one more than edges; the last bucket is open.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges need {len(self.edges) + 1} counts, not {len(self.counts)}"
            )

    @classmethod
    def empty(cls, edges: tuple[float, ...] = EDGES) -> Histogram:
        return cls(edges, (0,) * (len(edges) + 1))

    @classmethod
    def of(cls, values: Iterable[float], edges: tuple[float, ...] = EDGES) -> Histogram:
        """The histogram of latencies in milliseconds.

        Raises:
            ValueError: one is negative or not finite.
        """
        return cls.empty(edges).plus(values)

    @classmethod
    def of_cumulative(cls, cumulative: Mapping[float, float]) -> Histogram:
        """From upper bound in milliseconds -> answers at or below it, as Prometheus counts; `inf` is the total.

        Raises:
            ValueError: no `inf`, or counts that are not whole, are negative, or fall as the bound grows.
        """
        bounds = sorted(cumulative)
        if not bounds or bounds[-1] != math.inf:
            raise ValueError(f"buckets {bounds} have no +Inf: the total is unknown")
        totals: list[int] = []
        for bound in bounds:
            total = cumulative[bound]
            if not (0 <= total < math.inf and total == int(total) and (not totals or total >= totals[-1])):
                raise ValueError(f"bucket {bound:g} ms: a cumulative count of {total} makes no sense")
            totals.append(int(total))
        counts = (totals[0], *(above - below for below, above in pairwise(totals)))
        return cls(tuple(bounds[:-1]), counts)

    def plus(self, values: Iterable[float]) -> Histogram:
        """With more latencies in milliseconds; raises ValueError as `of` does."""
        counts = list(self.counts)
        for value in values:
            if not 0 <= value < math.inf:
                raise ValueError(f"a latency of {value} ms makes no sense")
            counts[bisect_left(self.edges, value)] += 1
        return Histogram(self.edges, tuple(counts))

    @property
    def n(self) -> int:
        return sum(self.counts)

    def above(self, bound_ms: float) -> int:
        """How many were slower than `bound_ms`.

        Raises:
            ValueError: it is no edge, so that it is not known.
        """
        place = bisect_left(self.edges, bound_ms)
        if place == len(self.edges) or self.edges[place] != bound_ms:
            raise ValueError(
                f"{bound_ms:g} ms is no edge of the histogram: make it one (with_edges), or ask for one (edge_for)"
            )
        return sum(self.counts[place + 1 :])

    def edge_for(self, bound_ms: float) -> float:
        """The least edge at or above `bound_ms`: what a check can be held to where the buckets are not ours.

        `inf` beyond the last.
        """
        place = bisect_left(self.edges, bound_ms)
        return self.edges[place] if place < len(self.edges) else math.inf

    def quantile(self, q: float) -> float | None:
        """The least edge with at least a share `q` of the latencies at or below it; `inf` where they are beyond
        the last edge, None of an empty histogram.

        Raises:
            ValueError: q outside (0, 1].
        """
        if not 0 < q <= 1:
            raise ValueError(f"quantile {q} is outside (0, 1]")
        n = self.n
        # 0.07 * 100 is 7.000000000000001
        return self.at_rank(max(1, math.ceil(q * n - 1e-9)))[1] if n else None

    def at_rank(self, rank: int) -> tuple[float, float]:
        """Lower and upper edge of the bucket of the `rank`-th smallest latency (from 1); 0 and `inf` at the ends.

        Raises:
            ValueError: there is no such latency.
        """
        if rank < 1:
            raise ValueError(f"there is no latency of rank {rank}")
        seen = 0
        for place, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                lower = self.edges[place - 1] if place else 0.0
                return lower, self.edges[place] if place < len(self.edges) else math.inf
        raise ValueError(f"there is no latency of rank {rank}: the histogram has {seen}")

    def __add__(self, other: Histogram) -> Histogram:
        return self._with(other, 1)

    def __sub__(self, other: Histogram) -> Histogram:
        """What came since `other`; ValueError where that is negative (a counter that began anew)."""
        found = self._with(other, -1)
        if min(found.counts) < 0:
            raise ValueError(f"the histogram went backwards, from {other.n} to {self.n} latencies")
        return found

    def _with(self, other: Histogram, sign: int) -> Histogram:
        if self.edges != other.edges:
            raise ValueError("the histograms have different edges")
        return Histogram(
            self.edges, tuple(a + sign * b for a, b in zip(self.counts, other.counts, strict=True))
        )

    def to_json(self) -> dict[str, Any]:
        """Only the buckets that hold something: {"bounds": [edges beside the standard ones], "counts": {place: n}};
        of edges that are not the standard ones {"edges": [...], "counts": ...}."""
        counts = {str(place): count for place, count in enumerate(self.counts) if count}
        extra = [edge for edge in self.edges if edge not in _STANDARD]
        if len(self.edges) - len(extra) == len(EDGES):
            return {"bounds": extra, "counts": counts}
        return {"edges": list(self.edges), "counts": counts}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Histogram:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        edges = _increasing(document["edges"]) if "edges" in document else with_edges(*document["bounds"])
        counts = [0] * (len(edges) + 1)
        for place, count in document["counts"].items():
            if not 0 <= int(place) < len(counts) or int(count) < 0:
                raise ValueError(f"bucket {place} with {count} latencies: there are {len(counts)} buckets")
            counts[int(place)] = int(count)
        return cls(edges, tuple(counts))


_STANDARD = frozenset(EDGES)


@lru_cache(maxsize=256)
def with_edges(*bounds_ms: float) -> tuple[float, ...]:
    """The standard edges and these, for checks whose bounds must be known exactly.

    Raises:
        ValueError: a bound is not a positive number.
    """
    for bound in bounds_ms:
        if not 0 < bound < math.inf:
            raise ValueError(f"a bound of {bound} ms cannot be an edge: give a positive number")
    return tuple(sorted(_STANDARD.union(map(float, bounds_ms))))


def _increasing(edges: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(edge) for edge in edges)
    if any(not low < high for low, high in pairwise(found)):
        raise ValueError("the edges of a histogram must increase")
    return found
