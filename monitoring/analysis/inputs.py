"""Everything that an analysis goes by, read beforehand: `analyse` itself touches neither disk nor clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from monitoring.analysis.drifting import Memory
from monitoring.analysis.evaluation import Evaluation
from monitoring.analysis.requests import SchemaPolicy
from monitoring.analysis.slices import SlicePolicy
from monitoring.analysis.slo import OBJECTIVES, Counted, Name, Objective, Resources
from monitoring.analysis.traffic import TrafficPolicy
from monitoring.collector.reading import StoredWindow
from monitoring.columns import Floats
from monitoring.detection.baseline import Baseline
from monitoring.detection.policy import DetectionPolicy
from monitoring.drift import Drift
from monitoring.performance import DecayPolicy
from windlass.contract import Workload


@dataclass(frozen=True)
class AnalysisPolicy:
    """What is looked at and when it counts.

    Attributes:
        span: length of the window.
        history: how far back a version's rows are read: labels may be weeks late.
        coverage: share of the matured rows that need a label before their performance is judged.
        threshold: score from which an answer is a yes.
        skew_share: largest share of served vectors that may differ from their recomputation.
        skew_rows: vectors that are recomputed, at most; `skew_minimum` are needed.
        most_rows: of a version with more rows every k-th is judged, so that memory does not grow; counts are of all.
        detection: how drift is judged; its step is how often a look is made, whichever hour the job runs.
    """

    span: timedelta = timedelta(days=7)
    history: timedelta = timedelta(days=63)
    coverage: float = 0.5
    threshold: float = 0.5
    detection: DetectionPolicy = field(default_factory=DetectionPolicy)
    decay: DecayPolicy = field(default_factory=DecayPolicy)
    slices: SlicePolicy = field(default_factory=SlicePolicy)
    traffic: TrafficPolicy = field(default_factory=TrafficPolicy)
    schema: SchemaPolicy = field(default_factory=SchemaPolicy)
    objectives: tuple[Objective, ...] = OBJECTIVES
    skew_share: float = 0.01
    skew_rows: int = 500
    skew_minimum: int = 100
    most_rows: int = 500_000


@dataclass(frozen=True)
class SkewSample:
    """Served vectors that were recomputed, and how many differ; `reason` where none could be."""

    checked: int
    mismatched: int
    by_input: Mapping[str, int]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class VersionInputs:
    """What is known of one version.

    Attributes:
        window: the live answers of the analysed window.
        history: all live answers kept, the window's included, with the labels that are known.
        rows: how many the window really has; `window` and `history` have each `every`-th.
        distances: Evidently's, over all rows of the window; None without a reference or rows.
        evaluation: rows that the version was judged on; None where the bundle has none.
        baseline: what drift is judged against; None where there is none, and `nothing` says why.
        far: inputs with values in the window that lie far outside the range of training.
        memory: what the analysis before this one gave.
        skew: None where nobody recomputed.
    """

    version: str
    window: StoredWindow
    history: StoredWindow
    rows: int
    every: int = 1
    distances: Drift | None = None
    evaluation: Evaluation | None = None
    baseline: Baseline | None = None
    nothing: str = ""
    far: frozenset[str] = frozenset()
    memory: Memory = field(default_factory=Memory)
    skew: SkewSample | None = None


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is known of one model at the end of a window.

    Attributes:
        start, end: the window, epoch seconds; a row belongs to it with `start` < at <= `end`.
        now: when it is analysed: labels known then are known here.
        arrivals: when every live answer was given, whichever version gave it, over the weeks before.
        versions: those that are judged, the one with most of the newest traffic first: the champion.
        counted: requests by objective, of the serving side's own metrics; the log stands in where there are none.
    """

    workload: Workload
    start: float
    end: float
    now: float
    arrivals: Floats
    versions: tuple[VersionInputs, ...]
    counted: Mapping[Name, Counted]
    resources: Resources | None = None
