"""What was measured of a live release, cumulative since it started: the engine's only view of the world.

Sums and counts only, so that a look costs the same after a million requests as after ten, and the journal can hold all
of it. A source that is silent and one that answers nonsense are different things from a source that says nothing
happened, and are said so here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments


@dataclass(frozen=True)
class ArmEvidence:
    """One version's share of what happened.

    Attributes:
        requests: requests that callers waited for (in shadow: copies that were sent, or answered by the champion).
        errors: those of them that failed on our side.
        latencies: their durations in milliseconds; None where nobody measured.
        skew_checked: logged feature vectors that were recomputed point-in-time, mirrored requests included.
        skew_mismatched: those of them that differed.
        skew_by_input: inputs that differed most often -> in how many vectors; empty where nobody tells.
        units: what the split is judged by where that is not `requests`: units of an experiment that were assigned, by
            first exposure; requests of one span of time, where versions' counts do not reach equally far.
        outcomes: check -> sums over the finished observations (requests, or matured units) of this version.
        periods: check -> the same sums by period of exposure, oldest first, for the novelty check.
        contexts: check -> value of the bandit's context header -> sums over the finished requests.
        silent: metric -> why too little is known of this version to be relied on; other metrics of its source may be.
        down: since when and why none of its servers answers; empty where one does, or nobody looks.
    """

    requests: int = 0
    errors: int = 0
    latencies: Histogram | None = None
    skew_checked: int = 0
    skew_mismatched: int = 0
    skew_by_input: Mapping[str, int] = field(default_factory=dict)
    units: int | None = None
    outcomes: Mapping[str, Moments] = field(default_factory=dict)
    periods: Mapping[str, tuple[Moments, ...]] = field(default_factory=dict)
    contexts: Mapping[str, Mapping[str, Moments]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    down: str = ""


@dataclass(frozen=True)
class Smoke:
    """What came of the smoke requests to a version that gets no traffic yet.

    Attributes:
        passed, failed: requests; failing warm-ups count as one of the failed.
        detail: the first failure in words, or why nothing could be sent.
        warmed: warm-up requests that were answered as they should be.
    """

    passed: int = 0
    failed: int = 0
    detail: str = ""
    warmed: int = 0

    @property
    def tried(self) -> bool:
        """Whether what was to be sent was sent: without a body there is nothing to send yet."""
        return not self.detail or self.passed + self.failed > 0


#: Distances of scores are kept in this many steps from 0 to 1, so that what is kept does not grow with the requests.
DISTANCE_STEPS = 1000


@dataclass(frozen=True)
class Pairs:
    """Requests that two versions answered, compared.

    Attributes:
        n: pairs.
        differing: those on which the two decide differently.
        distances: distance of the two scores in thousandths, rounded -> pairs.
    """

    n: int = 0
    differing: int = 0
    distances: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything seen up to `at`.

    Attributes:
        arms: by version; a version without an entry was not measured.
        paired: metric -> one value for each request that both versions answered: "brier", the difference of squared
            errors candidate - champion where the label is known.
        pairs: what the two versions said of the same requests; None where nobody compares.
        silent: source -> why it said nothing at this look (it is down, late, or knows no such series).
        faults: metric -> why what was said cannot be true (NaN, negative counts).
        reached: source -> up to when it is complete, of sources that lie behind `at`.
        smoke: None where none was run.
    """

    at: datetime
    arms: Mapping[str, ArmEvidence] = field(default_factory=dict)
    paired: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pairs: Pairs | None = None
    silent: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    reached: Mapping[str, datetime] = field(default_factory=dict)
    smoke: Smoke | None = None
