"""One question about a window and its answer, in the same form for every question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from monitoring.verdict import Verdict

CheckName = Literal[
    "featureDrift",
    "predictionDrift",
    "labelDrift",
    "dataQuality",
    "performanceDecay",
    "estimatedDecay",
    "skew",
    "freshness",
    "volume",
    "slo",
]


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Attributes:
        reason: a sentence for people, with the numbers that decided.
        evidence: JSON values, without NaN: what is unknown is null.
    """

    name: CheckName
    verdict: Verdict
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def worst(checks: tuple[Check, ...]) -> Verdict:
    """FAIL if any failed, PASS if all passed, INCONCLUSIVE in between."""
    verdicts = {check.verdict for check in checks}
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if verdicts == {"PASS"} else "INCONCLUSIVE"
