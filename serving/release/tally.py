"""Evidence reduced to what the checks ask of it: counts by check and arm, and the paired differences.

Nonsense (negative counts, more errors than requests, NaN) is named here and becomes an ERROR of the check it
concerns: a broken metrics source must never look like a healthy candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.release.evidence import ArmEvidence, Evidence
from serving.release.release import Check, Release


@dataclass(frozen=True)
class Counts:
    """`events` of `n` observations were what the check counts: an error, a slow answer, a differing row."""

    n: int = 0
    events: int = 0


@dataclass(frozen=True)
class ArmCounts:
    candidate: Counts
    champion: Counts


#: Before anything was seen.
NOTHING = ArmCounts(Counts(), Counts())


@dataclass(frozen=True)
class Tally:
    """One look.

    Attributes:
        requests: what the candidate and the champion answered to callers.
        errors: of those, what failed.
        counts: by the name of a guardrail.
        pairs: by the name of a decision.
        faults: by the name of a check, why its evidence cannot be used.
    """

    requests: ArmCounts = NOTHING
    counts: Mapping[str, ArmCounts] = field(default_factory=dict)
    pairs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


def tally(release: Release, champion: str, evidence: Evidence) -> Tally:
    """Reduce `evidence` to the counts of each check of `release`."""
    nothing = ArmEvidence()
    candidate_arm = evidence.arms.get(release.candidate, nothing)
    champion_arm = evidence.arms.get(champion, nothing)
    counts: dict[str, ArmCounts] = {}
    pairs: dict[str, tuple[float, ...]] = {}
    faults: dict[str, str] = {}
    for check in release.checks:
        if check.kind == "decision":
            pairs[check.name] = values = tuple(evidence.paired.get(check.metric, ()))
            fault = _pair_fault(values)
        else:
            both = ArmCounts(_count(check, candidate_arm), _count(check, champion_arm))
            counts[check.name] = both
            fault = (
                _fault("candidate", both.candidate)
                or _fault("champion", both.champion)
                or _latency_fault(check, candidate_arm, champion_arm)
            )
        if fault is not None:
            faults[check.name] = fault
    requests = ArmCounts(
        Counts(candidate_arm.requests, candidate_arm.errors),
        Counts(champion_arm.requests, champion_arm.errors),
    )
    return Tally(requests, counts, pairs, faults)


def _count(check: Check, arm: ArmEvidence) -> Counts:
    if check.metric == "errorRate":
        return Counts(arm.requests, arm.errors)
    if check.metric == "featureSkew":
        return Counts(arm.skew_checked, arm.skew_mismatched)
    bound = check.bound if check.bound is not None else math.inf
    return Counts(len(arm.latencies_ms), sum(latency > bound for latency in arm.latencies_ms))


def _fault(arm: str, counts: Counts) -> str | None:
    if counts.n < 0 or counts.events < 0 or counts.events > counts.n:
        return f"the {arm}'s counts make no sense: {counts.events} events of {counts.n}"
    return None


def _latency_fault(check: Check, *arms: ArmEvidence) -> str | None:
    if check.metric != "latencyP99":
        return None
    for arm in arms:
        for latency in arm.latencies_ms:
            if not 0 <= latency < math.inf:
                return f"a latency of {latency} ms makes no sense"
    return None


def _pair_fault(values: tuple[float, ...]) -> str | None:
    for value in values:
        if not -1 <= value <= 1:
            return f"a difference of squared errors of {value} is outside [-1, 1]"
    return None
