"""What arrived: is anything coming at all, and as much as in the same hours of the weeks before?

How many requests come is the callers' business and has a rhythm of weeks; training rows do not tell (they are what
was recorded, not what was asked). So traffic is compared with itself, whole weeks ago, and with what these weeks
varied among themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.analysis import days
from monitoring.analysis.check import Check
from monitoring.collector.reading import StoredWindow
from monitoring.columns import Floats

WEEK_S = 7 * 86400.0
SLACK_S = 86400.0
"""The first row of a week that was seen whole may come so late in it."""


@dataclass(frozen=True)
class TrafficPolicy:
    """When arrivals are out of the ordinary.

    Attributes:
        weeks: earlier weeks that are compared with, at most; `minimum_weeks` at least.
        tolerated: share by which the number of rows may differ from the expected one, whatever its error.
        alpha: level of the two-sided interval.
        pause: how many times the longest pause of the last two weeks may last before nothing is a fault.
        shortest_pause: a pause of so long is never one.
    """

    weeks: int = 8
    minimum_weeks: int = 3
    tolerated: float = 0.3
    alpha: float = 0.01
    pause: float = 2.0
    shortest_pause: timedelta = timedelta(hours=1)


def take(window: StoredWindow, chosen: NDArray[np.bool_]) -> StoredWindow:
    """Some rows of a window."""
    places = np.flatnonzero(chosen)
    return StoredWindow(
        request_ids=tuple(window.request_ids[i] for i in places),
        at=window.at[places],
        scores=window.scores[places],
        labels=window.labels[places],
        label_at=window.label_at[places],
        latency_ms=window.latency_ms[places],
        features=window.features[places],
        versions=window.versions[places],
        sources=window.sources[places],
        inputs=window.inputs,
        columns={name: values[places] for name, values in window.columns.items()},
    )


def joined(parts: Sequence[StoredWindow]) -> StoredWindow:
    """Windows of one version behind each other; a column that one of them lacks is missing in its rows."""

    def together(field: str) -> Any:
        return np.concatenate([getattr(p, field) for p in parts])

    columns: dict[str, Any] = {}
    for name in dict.fromkeys(n for p in parts for n in p.columns):
        texts = any(name in p.columns and p.columns[name].dtype == object for p in parts)
        empty, kind = (None, object) if texts else (np.nan, np.float64)
        columns[name] = np.concatenate(
            [
                p.columns[name].astype(kind) if name in p.columns else np.full(len(p), empty, dtype=kind)
                for p in parts
            ]
        )
    return StoredWindow(
        request_ids=tuple(i for p in parts for i in p.request_ids),
        at=together("at"),
        scores=together("scores"),
        labels=together("labels"),
        label_at=together("label_at"),
        latency_ms=together("latency_ms"),
        features=together("features"),
        versions=together("versions"),
        sources=together("sources"),
        inputs=parts[-1].inputs,
        columns=columns,
    )


def between(window: StoredWindow, since: float, until: float) -> StoredWindow:
    """Rows with `since` < at <= `until`."""
    return take(window, (window.at > since) & (window.at <= until))


def volume(arrivals: Floats, start: float, end: float, policy: TrafficPolicy | None = None) -> Check:
    """Judge the number of rows from `start` to `end` against the same hours of earlier weeks.

    The interval is that of one more observation of the same rhythm: with k earlier counts of mean m and dispersion f
    (their variance in units of m, at least 1, a Poisson process') it is m plus or minus t times sqrt(f m (1 + 1/k))
    with k - 1 degrees of freedom.

    Args:
        arrivals: epoch seconds of every live answer of the model, whichever version gave it.
    """
    policy = policy or TrafficPolicy()
    ordered = np.sort(arrivals)
    now = _count(ordered, start, end)
    found: dict[str, Any] = {"rows": now, "expected": None, "lower": None, "upper": None, "ratio": None}
    # a week whose first hours lie before the first row was not seen whole
    weeks = [
        back
        for back in range(math.ceil((end - start) / WEEK_S), policy.weeks + 1)
        if len(ordered) and start - back * WEEK_S >= ordered[0] - SLACK_S
    ]
    counts = np.array([_count(ordered, start - b * WEEK_S, end - b * WEEK_S) for b in weeks], dtype=float)
    found["weeks"] = len(counts)
    if len(counts) < policy.minimum_weeks:
        reason = (
            f"{now} rows; {len(counts)} earlier weeks of traffic are known, {policy.minimum_weeks} are needed"
        )
        return Check("volume", "INCONCLUSIVE", reason, found)
    mean, k = float(counts.mean()), len(counts)
    if mean == 0:
        reason = f"{now} rows; nothing came in these hours in the {k} weeks before either"
        return Check("volume", "INCONCLUSIVE", reason, found)
    dispersion = max(float(counts.var(ddof=1)) / mean, 1.0)
    reach = days.quantile(1 - policy.alpha / 2, k - 1) * math.sqrt(dispersion * mean * (1 + 1 / k))
    lower, upper = max(mean - reach, 0.0), mean + reach
    found |= {"expected": mean, "lower": lower, "upper": upper, "ratio": now / mean}
    text = f"{now} rows, {mean:.0f} expected ({lower:.0f} to {upper:.0f}, from {k} earlier weeks)"
    unusual = now < lower or now > upper
    if unusual and abs(now / mean - 1) > policy.tolerated:
        return Check("volume", "FAIL", text, found)
    # weeks that differ so much that even nothing would be usual say nothing
    if not unusual and lower <= 0 and abs(now / mean - 1) > policy.tolerated:
        return Check("volume", "INCONCLUSIVE", text, found)
    return Check("volume", "PASS", text, found)


def _count(ordered: Floats, since: float, until: float) -> int:
    low, high = np.searchsorted(ordered, (since, until), side="right")
    return int(high - low)


def freshness(arrivals: Floats, now: float, longest: timedelta, policy: TrafficPolicy | None = None) -> Check:
    """Judge how long ago the newest answer was given.

    Args:
        longest: how old the newest row may be in any case, as the workload's source states it. Shorter pauses are
            judged by the pauses of the two weeks before the newest row, where a week of them is known.
    """
    policy = policy or TrafficPolicy()
    if not len(arrivals):
        return Check(
            "freshness",
            "INCONCLUSIVE",
            "no answer was ever logged",
            {"age_seconds": None, "limit_seconds": None},
        )
    ordered = np.sort(arrivals)
    age = max(now - float(ordered[-1]), 0.0)
    limit = longest.total_seconds()
    recent = ordered[ordered >= ordered[-1] - 2 * WEEK_S]
    usual = None
    if recent[-1] - recent[0] >= WEEK_S:
        usual = float(np.diff(recent).max())
        limit = min(limit, max(policy.pause * usual, policy.shortest_pause.total_seconds()))
    found = {"age_seconds": age, "limit_seconds": limit, "longest_pause_seconds": usual}
    text = f"the newest answer is {_hours(age)} old; {_hours(limit)} is the limit"
    return Check("freshness", "FAIL" if age > limit else "PASS", text, found)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
