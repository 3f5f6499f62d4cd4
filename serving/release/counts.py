"""Evidence reduced to what one check asks of it: counts of an arm, and whether they can be true at all.

Nonsense (negative counts, more errors than requests, NaN) is named here and becomes an ERROR of the check it
concerns: a broken metrics source must never look like a healthy candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.release.evidence import ArmEvidence
from serving.release.metrics import METRICS
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


def pair_fault(metric: str, values: tuple[float, ...]) -> str | None:
    """Why these paired values cannot be true; None where they can."""
    low = -1 if METRICS[metric].unit == "value" else 0
    for value in values:
        if not low <= value <= 1:
            what = "a difference of squared errors" if low else f"a {metric}"
            return f"{what} of {value} is outside [{low}, 1]"
    return None
