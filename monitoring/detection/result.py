"""What a judgement says of a window: check by check, column by column, with the interval behind each verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from monitoring.verdict import Verdict

Kind = Literal["feature", "prediction", "label"]
Check = Literal["featureDrift", "predictionDrift", "labelDrift", "dataQuality", "performanceDecay"]
QualityCheck = Literal["nulls", "range", "category", "unit"]
ReferenceUsed = Literal["year-ago", "week-ago", "training"]

CHECKS: tuple[Check, ...] = (
    "featureDrift",
    "predictionDrift",
    "labelDrift",
    "dataQuality",
    "performanceDecay",
)


@dataclass(frozen=True)
class ColumnJudgement:
    """One column of a window, by the statistic with the most evidence.

    Attributes:
        statistic: what was compared, e.g. "location given the others", "high tail", "share of category 3".
        span: days whose evidence it is.
        rows: rows with a value in that span.
        effect: the change since the reference, signed; in standard deviations of the column where the statistic is
            about location or spread, as a difference where it is a share.
        lower, upper: interval of the size |effect| that holds for all columns, statistics and spans at once, at the
            level that the budget of false alarms leaves a look; None (and `effect`) where nothing could be judged.
        threshold: size from which the effect matters.
        evidence: (|effect| - threshold) over the half width of the interval: above 1 it rings.
        resolution: smallest shift of location (of a category: of the most frequent one's share, in its standard
            deviations) that this look would have shown; None where nothing could be judged.
        reference: what it was compared with.
        verdict: FAIL where `lower` exceeds `threshold`; INCONCLUSIVE where there was too little data, or the
            resolution is worse than the policy asks; else PASS.
        alarm: an incident is on, since the UTC time `since`; `new` where this look began it.
    """

    column: str
    kind: Kind
    statistic: str
    span: int
    rows: int
    effect: float | None
    lower: float | None
    upper: float | None
    threshold: float
    evidence: float | None
    resolution: float | None
    reference: ReferenceUsed
    verdict: Verdict
    alarm: bool
    new: bool
    since: float | None


@dataclass(frozen=True)
class QualityJudgement:
    """One way in which a column may be broken.

    Attributes:
        share: share of such values; for "unit" the factor by which magnitudes differ from training.
        expected: the same at training.
        lower: lower bound of the size of the excess (unit: of its logarithm).
        threshold: excess that matters.
    """

    column: str
    check: QualityCheck
    span: int
    share: float
    expected: float
    lower: float
    threshold: float
    failed: bool
    new: bool
    since: float | None


@dataclass(frozen=True)
class DecayJudgement:
    """Concept drift by matured labels: whether the scores still rank outcomes as at training.

    Attributes:
        labels, days: matured labels and days consumed since the test was last at rest.
        slope: mean daily calibration slope over these days (1 = as at training), with its interval.
        log_evidence: log of the e-value against "the slope lost at most what does not matter"; it rings from
            `log_threshold` on, see `DetectionPolicy.days_between_false_decays`.
        rate, expected_rate: positives of the newest days, and as their scores expect: label shift shows here and
            not in the slope.
    """

    labels: int
    days: int
    slope: float | None
    lower: float | None
    upper: float | None
    log_evidence: float
    log_threshold: float
    rate: float | None
    expected_rate: float | None
    verdict: Verdict
    alarm: bool
    new: bool
    since: float | None


@dataclass(frozen=True)
class CheckJudgement:
    """One check over all its columns.

    Attributes:
        alarm: an incident is on; `new` where it began at this look: count these, not the windows that it lasts.
        columns: those whose incident is on, the strongest first.
    """

    check: Check
    verdict: Verdict
    reason: str
    alarm: bool
    new: bool
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """One look at the newest window.

    Attributes:
        end: epoch seconds; only whole UTC days before it were judged.
        rows, days: of the newest window that were judged.
        reference: what the columns were compared with.
        guarantee: in words, what the stated number of false alarms rests on.
        false_alarms_per_month: what the policy states, over everything.
        new_alarms: incidents of columns that began at this look: what is counted against the budget.
    """

    end: float
    rows: int
    days: int
    reference: ReferenceUsed
    guarantee: str
    false_alarms_per_month: float
    new_alarms: int
    checks: tuple[CheckJudgement, ...]
    columns: tuple[ColumnJudgement, ...]
    quality: tuple[QualityJudgement, ...]
    decay: DecayJudgement | None

    def check(self, name: Check) -> CheckJudgement:
        """The judgement of one check."""
        return next(c for c in self.checks if c.check == name)


def as_json(detection: Detection) -> dict[str, Any]:
    """The result as JSON values; what is not known is null."""
    document: dict[str, Any] = _plain(asdict(detection))
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
