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
from monitoring.analysis.traffic import between
from monitoring.collector.reading import StoredWindow
from monitoring.detection.baseline import Baseline
from monitoring.detection.judging import judge
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import as_json
from monitoring.detection.rows import DAY_S, Matured, Rows
from monitoring.detection.state import DetectionState
from monitoring.verdict import Verdict

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
        rows = between(history, until - 2 * policy.window.total_seconds(), until)
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


def quality(detected: Check | None, schema: Schema, nothing: str) -> Check:
    """Data quality over what the values say and what the requests say.

    Args:
        nothing: why the values say nothing, where they do not.
    """
    detected = detected or Check("dataQuality", "INCONCLUSIVE", nothing)
    parts: list[tuple[Verdict, str]] = [(detected.verdict, detected.reason)]
    # a caller who sends matrices names nothing that could be missing
    if schema.rows or schema.verdict == "FAIL":
        parts.append((schema.verdict, schema.reason))
    verdicts = {verdict for verdict, _ in parts}
    verdict: Verdict = "FAIL" if "FAIL" in verdicts else "PASS" if verdicts == {"PASS"} else "INCONCLUSIVE"
    told = "; ".join(reason for each, reason in parts if each == verdict)
    return Check("dataQuality", verdict, told, detected.evidence)
