"""One window of one model, judged from every side: the pure part of the job.

What is not known is INCONCLUSIVE in its own check and never PASS; it does not spoil the other checks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from monitoring import drift
from monitoring.analysis import drifting, performing, requests, slo, traffic
from monitoring.analysis.check import Check
from monitoring.analysis.drifting import Memory
from monitoring.analysis.inputs import AnalysisPolicy, Inputs, SkewSample, VersionInputs
from monitoring.analysis.performing import Figure
from monitoring.analysis.slices import SliceReport
from monitoring.drift import Drift
from monitoring.verdict import Verdict

FORMAT = 1
Z = 3.0
BY_LABELS = ("labelDrift", "performanceDecay")


@dataclass(frozen=True, eq=False)
class VersionAnalysis:
    """What is said of one version.

    Attributes:
        detection: the drift judgement in force, as JSON values; None where there is none.
        memory: what the next analysis must be given.
        distances: Evidently's, over all rows of the window.
        faults: (column, check) that fail: check is "schema", "nulls", "range" or "category".
    """

    version: str
    rows: int
    checks: tuple[Check, ...]
    detection: Mapping[str, Any] | None
    memory: Memory
    distances: Drift | None
    faults: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    label_coverage: float | None
    label_age: float | None
    slices: SliceReport
    skew: SkewSample | None

    def check(self, name: str) -> Check:
        return next(c for c in self.checks if c.name == name)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is said of one model's window, the champion first among `versions`."""

    workload: str
    start: float
    end: float
    checks: tuple[Check, ...]
    versions: tuple[VersionAnalysis, ...] = field(default_factory=tuple)

    @property
    def champion(self) -> VersionAnalysis | None:
        """The version that gives most of the newest answers."""
        return self.versions[0] if self.versions else None


def analyse(inputs: Inputs, policy: AnalysisPolicy | None = None) -> Analysis:
    """Judge everything that is known."""
    policy = policy or AnalysisPolicy()
    longest = inputs.workload.source.freshness
    budgets = tuple(slo.budget(o, _counted(inputs, o)) for o in policy.objectives)
    checks = (
        traffic.freshness(inputs.arrivals, inputs.end, longest, policy.traffic),
        traffic.volume(inputs.arrivals, inputs.start, inputs.end, policy.traffic),
        slo.judge(budgets, inputs.resources),
    )
    versions = tuple(_version(inputs, known, policy) for known in inputs.versions)
    return Analysis(inputs.workload.name, inputs.start, inputs.end, checks, versions)


def _counted(inputs: Inputs, objective: slo.Objective) -> slo.Counted | None:
    counted = inputs.counted.get(objective.name)
    if counted is not None or not inputs.versions:
        return counted
    at = np.concatenate([v.history.at for v in inputs.versions])
    latency = np.concatenate([v.history.latency_ms for v in inputs.versions])
    weight = np.concatenate([np.full(len(v.history), float(v.every)) for v in inputs.versions])
    return slo.of_log(at, latency, inputs.end, objective, weight=weight)


def _version(inputs: Inputs, known: VersionInputs, policy: AnalysisPolicy) -> VersionAnalysis:
    workload, window = inputs.workload, known.window
    performing_ = performing.judge(workload, known, inputs.end, inputs.now, policy)
    memory, nothing = known.memory, known.nothing
    detection: Mapping[str, Any] | None = None
    if known.baseline is not None and not nothing:
        memory = drifting.advance(
            memory, known.baseline, known.history, inputs.end, performing_.maturity.through, policy.detection
        )
        detection = memory.detection
    detected = {} if detection is None else drifting.checks(detection)
    schema = requests.judge(
        requests.count(window.columns, workload.request_fields, workload.entities), policy.schema
    )
    coverage = performing_.maturity.coverage
    if coverage is None or coverage < policy.coverage:
        # labels that stopped coming: what the last ones said is no news of this window
        unknown = f"labels that have had their time: {performing.seen(performing_.maturity, policy)}"
        detected = {name: _unsure(c, unknown) if name in BY_LABELS else c for name, c in detected.items()}
    decay = detected.get("performanceDecay")
    measured = performing_.measured
    if decay is not None:
        decay = _decay(decay, measured, detection["decay"] if detection else None)
    checks = (
        *(
            detected.get(name) or Check(name, "INCONCLUSIVE", nothing)
            for name in ("featureDrift", "predictionDrift", "labelDrift")
        ),
        drifting.quality(detection, known.far, schema, nothing),
        decay or measured,
        performing_.estimated,
        _skew(known.skew, policy),
    )
    broken = drifting.broken(detection, known.far)
    # a swapped unit is a range that moved
    faults = [(q["column"], "range" if q["check"] == "unit" else q["check"]) for q in broken]
    faults += [(f.column, f.check) for f in schema.faults]
    return VersionAnalysis(
        version=known.version,
        rows=known.rows,
        checks=checks,
        detection=detection,
        memory=memory,
        distances=known.distances,
        faults=tuple(dict.fromkeys(faults)),
        figures=performing_.figures,
        label_coverage=coverage,
        label_age=performing_.maturity.age,
        slices=performing_.slices,
        skew=known.skew,
    )


def _decay(sequential: Check, measured: Check, evidence: Mapping[str, Any] | None) -> Check:
    """The alarm is the sequential test's, whose false ones are counted; that it is silent is not enough for a PASS."""
    verdict = sequential.verdict
    if verdict == "PASS" and (measured.verdict == "FAIL" or not measured.evidence["tests"]):
        # one labelled day may be all that it has seen, and the newest rows say otherwise or are too few
        verdict = "INCONCLUSIVE"
    reasons = dict.fromkeys((sequential.reason, measured.reason))
    return Check(
        "performanceDecay", verdict, "; ".join(reasons), {**measured.evidence, "sequential": evidence}
    )


def _unsure(check: Check, reason: str) -> Check:
    # an incident that is on stays on: silence does not end it either
    return check if check.verdict == "FAIL" else replace(check, verdict="INCONCLUSIVE", reason=reason)


def _skew(sample: SkewSample | None, policy: AnalysisPolicy) -> Check:
    if sample is None or sample.checked < policy.skew_minimum:
        checked = 0 if sample is None else sample.checked
        reason = f"{checked} served vectors were recomputed, {policy.skew_minimum} are needed"
        if sample is not None and sample.reason:
            reason += f": {sample.reason}"
        return Check("skew", "INCONCLUSIVE", reason, {} if sample is None else asdict(sample))
    share = sample.mismatched / sample.checked
    bound = policy.skew_share
    # plus-one: no mismatch seen is not a share of 0
    likely = (sample.mismatched + 1) / (sample.checked + 2)
    error = math.sqrt(likely * (1 - likely) / sample.checked)
    verdict: Verdict = "PASS" if share <= bound else "FAIL" if share - Z * error > bound else "INCONCLUSIVE"
    most = ", ".join(f"{name} {n}" for name, n in list(sample.by_input.items())[:3])
    reason = f"{sample.mismatched} of {sample.checked} served vectors differ from their recomputation"
    return Check("skew", verdict, reason + (f" ({most})" if most else ""), asdict(sample))


def document(analysis: Analysis, *, now: datetime) -> dict[str, Any]:
    """The analysis as JSON values; what is unknown is null.

    Args:
        now: when it was made; labels known then count.
    """
    found: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "workload": analysis.workload,
            "from": _text(analysis.start),
            "to": _text(analysis.end),
            "end": analysis.end,
            "at": now.astimezone(UTC).isoformat(),
            "champion": analysis.champion.version if analysis.champion else None,
            "checks": [asdict(c) for c in analysis.checks],
            "versions": [_version_document(v) for v in analysis.versions],
        }
    )
    return found


def _version_document(found: VersionAnalysis) -> dict[str, Any]:
    return {
        "version": found.version,
        "rows": found.rows,
        "checks": [asdict(c) for c in found.checks],
        "detection": found.detection,
        "distances": None if found.distances is None else drift.as_json(found.distances),
        "faults": [{"column": column, "check": check} for column, check in found.faults],
        "performance": [asdict(f) for f in found.figures],
        "label_coverage": found.label_coverage,
        "label_age_seconds": found.label_age,
        "slices": found.slices.document(),
        "skew": None if found.skew is None else asdict(found.skew),
    }


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _plain(value: Any) -> Any:
    """NaN has no place in JSON: a measure that is not defined is null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
