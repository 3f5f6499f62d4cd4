"""Drift, data quality and concept drift of one version: the windows that are due, judged under the budget of alarms.

The rules are `monitoring.detection`'s; here is when they are asked. Its windows follow each other at the policy's
step, so that an analysis that runs every hour does not spend the month's false alarms in a day: between two steps the
last judgement stands. What it remembers is carried from one run to the next, with the judgement that it came with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monitoring.analysis.check import Check, CheckName
from monitoring.analysis.requests import Schema
from monitoring.analysis.traffic import take
from monitoring.collector.reading import StoredWindow
from monitoring.detection.baseline import Baseline
from monitoring.detection.judging import judge
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import as_json
from monitoring.detection.rows import DAY_S, Matured, Rows
from monitoring.detection.state import DetectionState
from monitoring.verdict import Verdict

MOST_TOLD = 3
MOST_LOOKS = 60
"""Looks that are made up for at most after a pause; older ones are passed over."""


@dataclass(frozen=True)
class Memory:
    """What is kept of a version between two analyses.

    Attributes:
        digest: of the baseline that it belongs to; another baseline begins anew.
        looked: end of the last look, epoch seconds; None before the first.
        detection: the judgement of the last look, as JSON values.
    """

    digest: str = ""
    looked: float | None = None
    state: DetectionState = field(default_factory=DetectionState)
    detection: Mapping[str, Any] | None = None


def due(looked: float | None, end: float, policy: DetectionPolicy) -> list[float]:
    """Ends of the looks that are to be made up to `end`, oldest first.

    The first one is made at the last midnight (UTC) before `end`, each next one a step later.
    """
    if looked is None:
        return [float(end // DAY_S * DAY_S)]
    step = policy.step.total_seconds()
    late = int((end - looked) // step)
    return [looked + step * (i + 1) for i in range(late)][-MOST_LOOKS:]


def advance(
    memory: Memory,
    baseline: Baseline,
    history: StoredWindow,
    end: float,
    labels_through: float | None,
    policy: DetectionPolicy,
) -> Memory:
    """Make the looks that are due.

    Args:
        history: the version's live answers, the labels that are known with them.
        labels_through: answers before this time have had time for their labels; None where nobody knows.
    """
    if memory.digest != baseline.digest:
        memory = Memory(baseline.digest)
    width = len(baseline.columns)
    for until in due(memory.looked, end, policy):
        rows = take(history, (history.at >= until - 2 * policy.window.total_seconds()) & (history.at < until))
        features = rows.features if len(rows) else np.empty((0, width))
        matured = None
        if labels_through is not None:
            through = min(labels_through, until)
            known = np.isfinite(history.labels) & (history.at < through)
            matured = Matured(through, history.at[known], history.labels[known], history.scores[known])
        found, state = judge(
            baseline, Rows(until, rows.at, features, rows.scores), memory.state, policy, matured
        )
        memory = Memory(baseline.digest, until, state, as_json(found))
    return memory


def checks(detection: Mapping[str, Any]) -> dict[CheckName, Check]:
    """The judgement's checks, by name."""
    found: dict[CheckName, Check] = {}
    for judged in detection["checks"]:
        name = judged["check"]
        evidence = {
            "end": detection["end"],
            "reference": detection["reference"],
            "columns": list(judged["columns"]),
            "new": judged["new"],
        }
        found[name] = Check(name, judged["verdict"], judged["reason"], evidence)
    return found


def broken(detection: Mapping[str, Any] | None, far: frozenset[str]) -> list[Mapping[str, Any]]:
    """What is broken of the values, and not merely new.

    A season leaves the range that a month of training saw, and a retraining is what helps against that; it must not
    be held back by it. So a range is broken only where values lie far outside, as those of a swapped unit do.

    Args:
        far: columns with values far outside their range, see `monitoring.quality`.
    """
    failed = [] if detection is None else [q for q in detection["quality"] if q["failed"]]
    return [q for q in failed if q["check"] != "range" or q["column"] in far]


def quality(detection: Mapping[str, Any] | None, far: frozenset[str], schema: Schema, nothing: str) -> Check:
    """Data quality over what the values say and what the requests say.

    Args:
        nothing: why the values say nothing, where they do not.
    """
    detected = Check("dataQuality", "INCONCLUSIVE", nothing)
    if detection is not None:
        detected = checks(detection)["dataQuality"]
        failing = broken(detection, far)
        if detected.verdict == "FAIL" and failing:
            told = "; ".join(_fault(q) for q in failing[:MOST_TOLD])
            detected = Check("dataQuality", "FAIL", told, {**detected.evidence, "broken": failing})
        elif detected.verdict == "FAIL":
            told = f"beyond the range seen at training, and not far: {detected.reason}"
            detected = Check("dataQuality", "PASS", told, detected.evidence)
    parts: list[tuple[Verdict, str]] = [(detected.verdict, detected.reason)]
    # a caller who sends matrices names nothing that could be missing
    if schema.rows or schema.verdict == "FAIL":
        parts.append((schema.verdict, schema.reason))
    verdicts = {verdict for verdict, _ in parts}
    verdict: Verdict = "FAIL" if "FAIL" in verdicts else "PASS" if verdicts == {"PASS"} else "INCONCLUSIVE"
    reasons = "; ".join(reason for each, reason in parts if each == verdict)
    return Check("dataQuality", verdict, reasons, detected.evidence)


def _fault(found: Mapping[str, Any]) -> str:
    if found["check"] == "unit":
        return f"{found['column']}: values as if multiplied by {found['share']:.3g}"
    return f"{found['column']}: {found['check']} {found['share']:.1%}, {found['expected']:.1%} at training"
