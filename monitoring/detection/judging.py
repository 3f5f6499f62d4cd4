"""`judge`: one look at the newest days, decided purely.

At a look every statistic of every column is judged over each span of the policy. An alarm needs |effect| to exceed
what matters by `critical` deviations, where `critical` is the quantile of Student's t at the statistic's share of the
look's budget: the sum of all shares is the expected number of false alarms at the look, however the statistics
depend on each other. A change must last: one or two days of a span do not ring. One incident is one alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats
from monitoring.detection import columns_judged, decay_judged, spans
from monitoring.detection.baseline import Baseline, Measure
from monitoring.detection.columns_judged import Asked
from monitoring.detection.incidents import Incidents
from monitoring.detection.outcomes import LABEL_STATISTICS, SPENDING, WEIGHTS, label_days
from monitoring.detection.policy import DAY, DetectionPolicy
from monitoring.detection.result import (
    CheckJudgement,
    ColumnJudgement,
    DecayJudgement,
    Detection,
    QualityJudgement,
    ReferenceUsed,
)
from monitoring.detection.rows import DAY_S, Matured, Rows, days_of
from monitoring.detection.spans import Evidence, Question
from monitoring.detection.state import DayRecord, DetectionState
from monitoring.detection.statistics import DayTable, by_day, is_brief, is_even
from monitoring.detection.summary import drift_check, quality_check
from windlass.errors import UsageError, WindlassError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Days:
    """The days that this look knows, and the view that they are measured by; labels are judged up to `labels_end`."""

    measure: Measure
    records: tuple[DayRecord, ...]
    labels: tuple[DayRecord, ...]
    end: int
    labels_end: int


def judge(
    baseline: Baseline,
    rows: Rows,
    state: DetectionState | None = None,
    policy: DetectionPolicy | None = None,
    matured: Matured | None = None,
) -> tuple[Detection, DetectionState]:
    """Judge the newest window; give the returned state to the next look.

    Args:
        rows: predictions up to `rows.end`; whole UTC days that the state does not know yet are added to it. The same
            rows again change nothing, and a lost state is made up for by giving four windows of rows.
        state: of the look before; None at the beginning. One of another baseline is dropped.
        matured: predictions with known labels, of any days; those consumed before are passed over.

    Raises:
        WindlassError: the rows do not have the baseline's columns.
        UsageError: the policy insists on a reference that the baseline has not.
    """
    policy = policy or DetectionPolicy()
    state = state or DetectionState()
    if rows.features.ndim != 2 or rows.features.shape[1] != len(baseline.columns):
        raise WindlassError(
            f"the window's rows have shape {rows.features.shape}, the baseline has {len(baseline.columns)} columns; "
            "judge the rows of a version by the baseline of that version"
        )
    if state.baseline not in ("", baseline.digest):
        state = DetectionState()
    end = int(rows.end // DAY_S)
    measure, reference = _reference(baseline, policy, end, state)
    known = _days(baseline, measure, rows, matured, state, policy, end)
    incidents = Incidents(state.incidents, state.quiet, end)
    columns, quality = _predictions(baseline, known, policy, incidents, reference)
    label = _label(baseline, known, policy, incidents, reference)
    decay, decay_state = decay_judged.judge(baseline.ranking, matured, state.decay, incidents, policy)
    window = [r for r in known.records if r.day >= end - policy.window // DAY]
    detection = Detection(
        end=rows.end,
        rows=int(sum(r.counts[0] for r in window)),
        days=len(window),
        reference=reference,
        guarantee=baseline.guarantee,
        false_alarms_per_month=policy.false_alarms_per_month,
        new_alarms=incidents.new_columns,
        checks=_checks(columns, label, quality, decay),
        columns=(*columns, *([label] if label is not None else [])),
        quality=quality,
        decay=decay,
    )
    after = DetectionState(
        baseline=baseline.digest,
        view=measure.name,
        days=known.records,
        label_days=known.labels,
        incidents=incidents.on,
        quiet=incidents.quiet,
        decay=decay_state,
    )
    return detection, after


def _checks(
    columns: Sequence[ColumnJudgement],
    label: ColumnJudgement | None,
    quality: Sequence[QualityJudgement],
    decay: DecayJudgement | None,
) -> tuple[CheckJudgement, ...]:
    return (
        drift_check("featureDrift", [c for c in columns if c.kind == "feature"]),
        drift_check("predictionDrift", [c for c in columns if c.kind == "prediction"]),
        drift_check("labelDrift", [] if label is None else [label]),
        quality_check(quality),
        decay_judged.check(decay),
    )


def _reference(
    baseline: Baseline, policy: DetectionPolicy, end: int, state: DetectionState
) -> tuple[Measure, ReferenceUsed]:
    covered = baseline.covers(end - policy.window // DAY // 2)
    if policy.reference == "year-ago" and not covered:
        raise UsageError(
            "the policy asks for the year-ago reference, and the baseline has no days of this season; "
            'train on a year, or let the policy choose with "auto"'
        )
    if policy.reference in ("auto", "year-ago") and covered and baseline.seasonal is not None:
        return baseline.seasonal, "year-ago"
    remembered = sum(1 for d in state.days if state.view == baseline.training.name and d.day < end)
    if policy.reference == "week-ago" or (policy.reference == "auto" and remembered >= max(policy.spans)):
        return baseline.training, "week-ago"
    return baseline.training, "training"


def _days(
    baseline: Baseline,
    measure: Measure,
    rows: Rows,
    matured: Matured | None,
    state: DetectionState,
    policy: DetectionPolicy,
    end: int,
) -> _Days:
    kept = state.days if state.view == measure.name else ()
    last = max((r.day for r in kept), default=-1)
    chosen = _new(rows.at, last, end, policy)
    records = _recent(
        kept,
        by_day(measure.view, measure.statistics, rows.at[chosen], rows.features[chosen], rows.scores[chosen]),
        end,
        policy,
    )
    labels, through = state.label_days, end
    if matured is not None and baseline.ranking is not None:
        through = int(matured.through // DAY_S)
        last = max((r.day for r in labels), default=-1)
        chosen = (
            _new(matured.at, last, through, policy)
            & np.isfinite(matured.labels)
            & np.isfinite(matured.scores)
        )
        table = label_days(
            baseline.ranking, matured.at[chosen], matured.labels[chosen], matured.scores[chosen]
        )
        labels = _recent(labels, table, through, policy)
    return _Days(measure, records, labels, end, through)


def _new(at: Floats, last: int, end: int, policy: DetectionPolicy) -> Mask:
    """Rows of days that are over, not known yet and not too old to matter."""
    days = days_of(at)
    mask: Mask = (days > last) & (days < end) & (days >= end - _memory(policy))
    return mask


def _recent(
    kept: Sequence[DayRecord], table: DayTable, end: int, policy: DetectionPolicy
) -> tuple[DayRecord, ...]:
    added = [
        DayRecord(int(day), tuple(counts), tuple(sums))
        for day, counts, sums in zip(table.days, table.counts.tolist(), table.sums.tolist(), strict=True)
    ]
    return tuple(r for r in (*kept, *added) if r.day >= end - _memory(policy))


def _memory(policy: DetectionPolicy) -> int:
    return 2 * max(policy.spans)


def _predictions(
    baseline: Baseline, known: _Days, policy: DetectionPolicy, incidents: Incidents, reference: ReferenceUsed
) -> tuple[tuple[ColumnJudgement, ...], tuple[QualityJudgement, ...]]:
    measure = known.measure
    # every column is given the same part of the budget; the scores and the label are columns as well
    each = policy.per_look / (len(baseline.columns) + 2)
    question = Question(
        weights=np.array([s.weight for s in measure.statistics], dtype=np.int64),
        centre=measure.centre,
        noise=measure.noise,
        spending=np.array([s.spending * each for s in measure.statistics]),
        threshold=np.array([spans.smallest(s.unit, policy) for s in measure.statistics]),
        freedom=np.where(
            [is_even(s) for s in measure.statistics], measure.noise.normal_freedom, measure.noise.freedom
        ),
        brief=np.array([is_brief(s, measure.view) for s in measure.statistics]),
    )
    learned, seen = _weighed(known.records, known.end, question, policy, reference)
    columns = tuple(
        _drift(asked, learned, seen, incidents, policy, reference)
        for asked in columns_judged.asked_of(measure, baseline.columns)
    )
    # what has been broken for weeks is broken: it is never the weeks before that say what is whole
    return columns, columns_judged.quality(measure, baseline.columns, learned, incidents)


def _label(
    baseline: Baseline, known: _Days, policy: DetectionPolicy, incidents: Incidents, reference: ReferenceUsed
) -> ColumnJudgement | None:
    if baseline.labels is None:
        return None
    each = policy.per_look / (len(baseline.columns) + 2)
    question = Question(
        weights=WEIGHTS,
        centre=np.zeros(len(LABEL_STATISTICS)),
        noise=baseline.labels,
        spending=np.array(SPENDING) * each,
        threshold=np.full(len(LABEL_STATISTICS), policy.smallest_effect),
        freedom=np.full(len(LABEL_STATISTICS), baseline.labels.normal_freedom),
        brief=np.zeros(len(LABEL_STATISTICS), dtype=np.bool_),
    )
    # up to when they should have come, and not up to the last one: labels that stopped say nothing of today
    learned, seen = _weighed(known.labels, known.labels_end, question, policy, reference)
    asked = Asked("label", "label", range(len(LABEL_STATISTICS)), LABEL_STATISTICS, 0)
    return _drift(asked, learned, seen, incidents, policy, reference)


def _weighed(
    records: Sequence[DayRecord],
    end: int,
    question: Question,
    policy: DetectionPolicy,
    reference: ReferenceUsed,
) -> tuple[Evidence, Evidence]:
    """Evidence against what was learned, and against the reference in use."""
    learned = spans.weigh(records, end, question, policy, week_ago=False)
    if reference != "week-ago":
        return learned, learned
    return learned, spans.weigh(records, end, question, policy, week_ago=True)


def _drift(
    asked: Asked,
    learned: Evidence,
    seen: Evidence,
    incidents: Incidents,
    policy: DetectionPolicy,
    reference: ReferenceUsed,
) -> ColumnJudgement:
    # a change that stays is soon what the weeks before look like, which is no end of it: nobody learned it
    goes_on = asked.incident in incidents.before
    if goes_on and learned.strongest(asked.positions) > seen.strongest(asked.positions):
        return columns_judged.drift(asked, learned, incidents, policy, "training")
    return columns_judged.drift(asked, seen, incidents, policy, reference)
