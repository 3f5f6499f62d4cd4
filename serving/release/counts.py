"""Evidence reduced to what one check asks of it: counts of an arm, and whether they can be true at all.

Nonsense (negative counts, more errors than requests, NaN) is named here and becomes an ERROR of the check it
concerns: a broken metrics source must never look like a healthy candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.release.evidence import DISTANCE_STEPS, ArmEvidence, Pairs
from serving.release.release import Check


@dataclass(frozen=True)
class Counts:
    """`events` of `n` observations were what the check counts: an error, a slow answer, a differing row."""

    n: int = 0
    events: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.n - other.n, self.events - other.events)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n + other.n, self.events + other.events)


@dataclass(frozen=True)
class ArmCounts:
    candidate: Counts
    champion: Counts

    def __sub__(self, other: ArmCounts) -> ArmCounts:
        return ArmCounts(self.candidate - other.candidate, self.champion - other.champion)

    def __add__(self, other: ArmCounts) -> ArmCounts:
        return ArmCounts(self.candidate + other.candidate, self.champion + other.champion)


#: Before anything was seen.
NOTHING = ArmCounts(Counts(), Counts())


def of_arm(check: Check, arm: ArmEvidence, threshold: float | None) -> Counts:
    """What `check` counts of one arm; `threshold` is the bound of a latency in milliseconds."""
    if check.metric == "errorRate":
        return Counts(arm.requests, arm.errors)
    if check.metric == "featureSkew":
        return Counts(arm.skew_checked, arm.skew_mismatched)
    if arm.latencies is None or threshold is None:
        return Counts()
    return Counts(arm.latencies.n, arm.latencies.above(threshold))


def fault_of(arm: str, counts: Counts) -> str | None:
    """Why these counts cannot be true; None where they can."""
    if counts.n < 0 or counts.events < 0 or counts.events > counts.n:
        return f"the {arm}'s counts make no sense: {counts.events} events of {counts.n}"
    return None


def backwards(before: ArmCounts, now: ArmCounts) -> str | None:
    """Why counts that only grow cannot have become these; None where they can."""
    new = now - before
    for arm, counts in (("candidate", new.candidate), ("champion", new.champion)):
        if counts.n < 0 or counts.events < 0:
            return f"the {arm}'s counts make no sense: they went backwards by {-min(counts.n, counts.events)}"
    return None


def difference_fault(values: tuple[float, ...]) -> str | None:
    """Why these differences of squared errors cannot be true; None where they can."""
    for value in values:
        if not -1 <= value <= 1:
            return f"a difference of squared errors of {value} is outside [-1, 1]"
    return None


def pairs_fault(pairs: Pairs) -> str | None:
    """Why these counts of pairs cannot be true; None where they can."""
    if pairs.n < 0 or not 0 <= pairs.differing <= pairs.n:
        return f"{pairs.differing} differing pairs of {pairs.n} make no sense"
    if any(not 0 <= step <= DISTANCE_STEPS or count < 0 for step, count in pairs.distances.items()):
        return "distances of scores outside [0, 1] make no sense"
    return None
