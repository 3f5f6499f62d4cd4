"""Exact counts since a moment out of counters that begin anew with every process: pure, and small enough to be kept.

A counter tells what its process counted since *its* start. What happened since the release's start is the sum of what
was added from scrape to scrape, series by series. Four things are not as simple as they look:

* Whether a process began anew is asked of a whole target, not of a series: after a restart 3 errors may have become 5
  while 10,000 answers became 800, and the 5 are new. The total of a target's counters falls exactly then. A single
  series that falls while the total does not is no counter at all, and said to be one that cannot be true.
* A series that appears later than the others counts from zero: the first error is one error.
* A target that appears later counts from zero too, since it is a new process, but only where Prometheus was listening
  before; after a Prometheus that was down, what its first scrape says may be years old, and is where counting begins.
* A series that ends keeps what it counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.release.prometheus.client import NonsenseError, Series

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Counted:
    """What one metric counted so far.

    Attributes:
        totals: labels that are told apart -> count since the start.
        last: target -> time of its last scrape that was counted.
        values: target -> labels of a series of it, within the target -> its last value.
        heard: whether Prometheus is known to have listened at the moment that is counted from.
    """

    totals: Mapping[Labels, int] = field(default_factory=dict)
    last: Mapping[Labels, float] = field(default_factory=dict)
    values: Mapping[Labels, Mapping[Labels, int]] = field(default_factory=dict)
    heard: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "totals": [[dict(labels), count] for labels, count in self.totals.items()],
            "targets": [
                [dict(target), at, [[dict(labels), value] for labels, value in self.values[target].items()]]
                for target, at in self.last.items()
            ],
            "heard": self.heard,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Counted:
        return cls(
            totals={_labels(labels): int(count) for labels, count in plain["totals"]},
            last={_labels(target): float(at) for target, at, _ in plain["targets"]},
            values={
                _labels(target): {_labels(labels): int(value) for labels, value in values}
                for target, _, values in plain["targets"]
            },
            heard=bool(plain["heard"]),
        )


def count(
    before: Counted, series: Iterable[Series], own: frozenset[str], since: float
) -> tuple[Counted, str | None]:
    """Add what `series` say; what was counted already is not counted again.

    Args:
        own: labels that the metric has of its own; the others are the target's.
        since: seconds since the epoch; what is older is where counting begins.

    Returns:
        What is counted now, and the first sample that cannot be true in words, which is left out.

    Raises:
        NonsenseError: a sample is no count at all; nothing is added.
    """
    scrapes = by_scrape(series, own)
    heard = before.heard or any(at <= since for target in scrapes.values() for at in target)
    totals, last = dict(before.totals), dict(before.last)
    values = {target: dict(found) for target, found in before.values.items()}
    fault: str | None = None
    for target, by_time in scrapes.items():
        for at in sorted(by_time):
            if at <= last.get(target, float("-inf")):
                continue
            now = by_time[at]
            known = values.get(target)
            begins = at <= since or (known is None and not heard)
            restarted = known is not None and _fell(known, now)
            kept = {} if known is None or restarted else known
            for labels, value in now.items():
                added = value - kept.get(labels, 0)
                if added < 0:
                    fault = fault or (
                        f"{_shown(target, labels)} went from {kept[labels]} to {value} although its process did not "
                        "begin anew"
                    )
                elif not begins:
                    totals[labels] = totals.get(labels, 0) + added
                else:
                    totals.setdefault(labels, 0)
            values[target] = {**kept, **now}
            last[target] = at
    return Counted(totals, last, values, heard), fault


def _fell(known: Mapping[Labels, int], now: Mapping[Labels, int]) -> bool:
    """Whether the total of the series that were there before is less; one that is gone was perhaps taken away."""
    both = known.keys() & now.keys()
    return sum(now[labels] for labels in both) < sum(known[labels] for labels in both)


def by_scrape(series: Iterable[Series], own: frozenset[str]) -> dict[Labels, dict[float, dict[Labels, int]]]:
    """Target -> time of a scrape -> labels within the target -> value.

    Raises:
        NonsenseError: a sample is no count at all.
    """
    found: dict[Labels, dict[float, dict[Labels, int]]] = {}
    for one in series:
        target = _labels({k: v for k, v in one.labels.items() if k not in own and k != "__name__"})
        labels = _labels({k: v for k, v in one.labels.items() if k in own})
        for at, value in one.samples:
            if not (0 <= value < float("inf") and value == int(value)):
                raise NonsenseError(f"{_shown(target, labels)} is {value}, which is no count")
            found.setdefault(target, {}).setdefault(at, {})[labels] = int(value)
    return found


def _labels(plain: Mapping[str, str]) -> Labels:
    return tuple(sorted((str(key), str(value)) for key, value in plain.items()))


def _shown(target: Labels, labels: Labels) -> str:
    return json.dumps(dict(labels + target), sort_keys=True)
