"""From evidence to columns: the statistic that stands out most speaks for its column, in drift and in quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.detection.baseline import Measure
from monitoring.detection.incidents import Incidents
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import Check, ColumnJudgement, Kind, QualityJudgement, ReferenceUsed
from monitoring.detection.spans import Evidence
from monitoring.detection.statistics import LOCATION, MAGNITUDE, QUALITY, Statistic
from monitoring.verdict import Verdict

DRIFT: dict[Kind, Check] = {
    "feature": "featureDrift",
    "prediction": "predictionDrift",
    "label": "labelDrift",
}

SMALLEST_DEVIATION = 0.05
"""Of a share: a category that all rows have has none."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One column's statistics among those of the evidence.

    Attributes:
        positions: where they stand; `names` what each is called.
        location: position of the one whose resolution is the column's: of a category, the most frequent one's share.
        learned: whether training had any value of a number: where it had none, nothing can be compared.
        deviation: standard deviation of the location's values: its resolution is stated in it.
    """

    column: str
    kind: Kind
    positions: Sequence[int]
    names: Sequence[str]
    location: int | None
    learned: bool = True
    deviation: float = 1.0

    @property
    def incident(self) -> str:
        """The name of its incident."""
        return f"{DRIFT[self.kind]}/{self.column}"


def drift(
    asked: Asked, evidence: Evidence, incidents: Incidents, policy: DetectionPolicy, reference: ReferenceUsed
) -> ColumnJudgement:
    """Judge one column."""
    name = asked.incident
    values = evidence.evidence[list(asked.positions)]
    known = asked.learned and bool(np.isfinite(values).any())
    k = int(asked.positions[int(np.nanargmax(values))]) if known else int(asked.positions[0])
    strongest = float(evidence.evidence[k]) if known else math.nan
    incidents.note(name, strongest)
    resolution = None
    if known and asked.location is not None and math.isfinite(evidence.resolution[asked.location]):
        resolution = float(evidence.resolution[asked.location]) / asked.deviation
    effect, width = float(evidence.effect[k]), float(evidence.width[k])
    verdict: Verdict = "PASS"
    if known and strongest > 1.0:
        verdict = "FAIL"
    elif not known or resolution is None or resolution > policy.resolution:
        verdict = "INCONCLUSIVE"
    return ColumnJudgement(
        column=asked.column,
        kind=asked.kind,
        statistic=asked.names[list(asked.positions).index(k)],
        span=int(evidence.span[k]),
        rows=int(evidence.rows[k]),
        effect=effect if known else None,
        lower=max(abs(effect) - width, 0.0) if known else None,
        upper=abs(effect) + width if known else None,
        threshold=float(evidence.threshold[k]),
        evidence=strongest if known else None,
        resolution=resolution,
        reference=reference,
        verdict=verdict,
        alarm=incidents.alarm(name),
        new=incidents.new(name),
        since=incidents.since(name),
    )


def quality(
    measure: Measure, columns: Sequence[str], evidence: Evidence, incidents: Incidents
) -> tuple[QualityJudgement, ...]:
    """Judge every quality statistic of every column; those that could not be judged are left out."""
    found = []
    for k, statistic in enumerate(measure.statistics):
        if statistic.kind not in QUALITY:
            continue
        column = columns[statistic.column]
        name = f"dataQuality:{QUALITY[statistic.kind]}/{column}"
        effect, value = float(evidence.effect[k]), float(evidence.evidence[k])
        # fewer missing values than at training are no fault of the data
        worse = statistic.kind == MAGNITUDE or effect > 0
        incidents.note(name, value if worse or math.isnan(value) else 0.0)
        if math.isnan(value):
            continue
        share, expected = _shares(measure, statistic, effect, float(measure.centre[k]))
        found.append(
            QualityJudgement(
                column=column,
                check=QUALITY[statistic.kind],
                span=int(evidence.span[k]),
                share=share,
                expected=expected,
                lower=max(abs(effect) - float(evidence.width[k]), 0.0) if worse else 0.0,
                threshold=float(evidence.threshold[k]),
                failed=incidents.alarm(name),
                new=incidents.new(name),
                since=incidents.since(name),
            )
        )
    return tuple(found)


def asked_of(measure: Measure, columns: Sequence[str]) -> tuple[Asked, ...]:
    """The drift statistics of each feature column, and of the scores."""
    out = []
    for j in sorted({s.column for s in measure.statistics}):
        own = [k for k, s in enumerate(measure.statistics) if s.column == j and s.kind not in QUALITY]
        location, deviation = next((k for k in own if measure.statistics[k].kind == LOCATION), None), 1.0
        if location is None and own:
            location = max(own, key=lambda k: float(measure.centre[k]))
            share = min(max(float(measure.centre[location]), 0.0), 1.0)
            deviation = max(math.sqrt(share * (1 - share)), SMALLEST_DEVIATION)
        names = [measure.statistics[k].name for k in own]
        prediction = j >= len(columns)
        scale = measure.view.score if prediction else measure.view.scales[j]
        if own:
            out.append(
                Asked(
                    "score" if prediction else columns[j],
                    "prediction" if prediction else "feature",
                    own,
                    names,
                    location,
                    scale is not None and (scale.kind == "categorical" or len(scale.knots) > 0),
                    deviation,
                )
            )
    return tuple(out)


def _shares(measure: Measure, statistic: Statistic, effect: float, centre: float) -> tuple[float, float]:
    scale = measure.view.scales[statistic.column]
    if statistic.kind == MAGNITUDE:
        return math.exp(effect), 1.0
    expected = scale.null_share if statistic.kind == "missing" else centre
    return min(max(expected + effect, 0.0), 1.0), expected
