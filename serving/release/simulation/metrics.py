"""A metrics source that mostly says what happened, and sometimes fails in the ways that sources do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from serving.release.evidence import ArmEvidence, Evidence
from serving.release.release import Release
from serving.release.simulation.faults import Fault
from serving.release.statistics.histogram import Histogram


class Source:
    """Remembers what it said, so that it can say it again, too late or out of order."""

    def __init__(self, release: Release, missing: str | None = None) -> None:
        self._release = release
        self._missing = missing
        self._true: list[Evidence] = []
        self._said: Evidence | None = None

    def read(self, true: Evidence, fault: Fault | None) -> tuple[Evidence, bool]:
        """The evidence of this look, and whether it is what happened up to now."""
        if self._missing is not None:
            true = _without(
                true, self._missing, f"there is no series for {self._missing}; is its name right?"
            )
        self._true.append(true)
        if fault is None:
            self._said = true
            return true, self._missing is None
        found = _FAULTS[fault.kind](self, true, fault)
        self._said = found
        return found, False

    def _late(self, true: Evidence, fault: Fault) -> Evidence:
        lag = 1 + fault.number % 4
        return self._true[max(0, len(self._true) - 1 - lag)]

    def _again(self, true: Evidence, fault: Fault) -> Evidence:
        return self._said or true

    def _misspelled(self, true: Evidence, fault: Fault) -> Evidence:
        sources = sorted({check.source for check in self._release.checks})
        source = sources[fault.number % len(sources)]
        return _without(true, source, f"the query for {source} matches no series")

    def _silent(self, true: Evidence, fault: Fault) -> Evidence:
        sources = {check.source for check in self._release.checks}
        return Evidence(
            true.at, silent=dict.fromkeys(sorted(sources), "no answer within 5 s"), smoke=true.smoke
        )

    def _partial(self, true: Evidence, fault: Fault) -> Evidence:
        versions = sorted(true.arms) or [""]
        gone = versions[fault.number % len(versions)]
        return replace(true, arms={v: arm for v, arm in true.arms.items() if v != gone})


def _without(true: Evidence, source: str, reason: str) -> Evidence:
    """Without all that comes from `source`."""
    arms: Mapping[str, ArmEvidence] = true.arms
    paired, pairs = dict(true.paired), true.pairs
    if source in ("envoy", "prometheus"):
        arms = {v: replace(arm, requests=0, errors=0, latencies=None) for v, arm in arms.items()}
        arms = {} if source == "envoy" else arms
    elif source == "predictions":
        arms = {v: replace(arm, skew_checked=0, skew_mismatched=0) for v, arm in arms.items()}
        pairs = None
    else:
        arms = {v: replace(arm, outcomes={}) for v, arm in arms.items()}
        paired.pop("brier", None)
    return replace(true, arms=arms, paired=paired, pairs=pairs, silent={source: reason})


def _nan(source: Source, true: Evidence, fault: Fault) -> Evidence:
    paired = {name: (*values[:-1], math.nan) for name, values in true.paired.items()}
    arms = {
        version: replace(
            arm, outcomes={name: replace(moments, y=math.nan) for name, moments in arm.outcomes.items()}
        )
        for version, arm in true.arms.items()
    }
    rates = {
        check.metric: "NaN"
        for check in source._release.checks
        if check.metric in ("errorRate", "latencyP99", "disagreement", "scoreDistance")
    }
    return replace(true, arms=arms, paired=paired, faults=rates)


def _negative(source: Source, true: Evidence, fault: Fault) -> Evidence:
    return replace(true, arms={v: replace(arm, errors=-1) for v, arm in true.arms.items()})


def _reset(source: Source, true: Evidence, fault: Fault) -> Evidence:
    """The counters began anew a while ago."""
    arms = {
        version: replace(arm, requests=arm.requests // 3, errors=arm.errors // 3, latencies=None)
        for version, arm in true.arms.items()
    }
    return replace(true, arms=arms)


def _nonsense(source: Source, true: Evidence, fault: Fault) -> Evidence:
    """More errors than requests, and a histogram that does not know the bound."""
    odd = Histogram((1.0, 7.0), (1, 2, 3))
    return replace(
        true,
        arms={
            v: replace(arm, errors=arm.requests + 1, latencies=None if arm.latencies is None else odd)
            for v, arm in true.arms.items()
        },
    )


_FAULTS: Mapping[str, Callable[[Source, Evidence, Fault], Evidence]] = {
    "nan": _nan,
    "negative": _negative,
    "reset": _reset,
    "late": Source._late,
    "partialMetrics": Source._partial,
    "duplicatedMetrics": Source._again,
    "reorderedMetrics": Source._late,
    "misspelled": Source._misspelled,
    "silent": Source._silent,
    "nonsense": _nonsense,
}
