"""Whether our values are the others': exactly where we say exact, within our bounds where we do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Agreement:
    """Our values beside somebody else's.

    Attributes:
        exact: how many we call exact.
        difference: the largest difference of those; None where there is none.
        sketched: how many we give bounds for.
        outside: how many of theirs lie outside of our bounds.
        width: the widest bounds by method, upper minus lower.
    """

    exact: int
    difference: float | None
    sketched: int
    outside: int
    width: dict[str, float]


def between(ours: Mapping[str, Any], theirs: Mapping[str, float]) -> Agreement:
    """Set values of the same names beside each other; `ours` are [value, lower, upper, exact]."""
    differences: list[float] = []
    sketched = outside = 0
    width: dict[str, float] = {}
    for name in ours.keys() & theirs.keys():
        value, lower, upper, exact = ours[name]
        other = theirs[name]
        if math.isnan(other):
            continue
        if exact:
            differences.append(abs(value - other))
            continue
        sketched += 1
        # theirs is rounded too
        slack = 1e-12 * max(abs(other), 1.0)
        outside += not lower - slack <= other <= upper + slack
        method = name.partition(" ")[2] or "default"
        width[method] = max(width.get(method, 0.0), upper - lower)
    return Agreement(len(differences), max(differences, default=None), sketched, outside, width)
