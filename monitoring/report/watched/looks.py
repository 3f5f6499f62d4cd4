"""Analyses as the page takes them: any field may be missing, and what is missing is shown as not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.values import count, moment, number, rows, text

NAMES = {
    "featureDrift": "Feature drift",
    "predictionDrift": "Prediction drift",
    "labelDrift": "Label drift",
    "dataQuality": "Data quality",
    "performanceDecay": "Measured performance",
    "estimatedDecay": "Estimated performance",
    "skew": "Training/serving skew",
    "freshness": "Freshness",
    "volume": "Volume",
    "slo": "Service objectives",
}
"""The checks in the order in which a person asks."""
TONES = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}


@dataclass(frozen=True, eq=False)
class Look:
    """One analysis.

    Attributes:
        at: end of its window, epoch seconds.
        whole: the document.
        version: what it says of the champion, empty where it knows none.
    """

    at: float
    whole: Mapping[str, Any]
    version: Mapping[str, Any]

    @property
    def checks(self) -> dict[str, tuple[str, str]]:
        """Verdict and reason by check."""
        both = [*rows(self.whole, "checks"), *rows(self.version, "checks")]
        return {
            str(check.get("name")): (
                text(check.get("verdict"), "INCONCLUSIVE"),
                text(check.get("reason"), ""),
            )
            for check in both
        }

    def evidence(self, check: str) -> Mapping[str, Any]:
        """The evidence of a check; empty where there is none."""
        for found in (*rows(self.whole, "checks"), *rows(self.version, "checks")):
            if found.get("name") == check and isinstance(found.get("evidence"), Mapping):
                evidence: Mapping[str, Any] = found["evidence"]
                return evidence
        return {}

    @property
    def detection(self) -> Mapping[str, Any]:
        """How the columns were judged; empty where they were not."""
        found = self.version.get("detection")
        return found if isinstance(found, Mapping) else {}

    def figure(self, metric: str, kind: str) -> Mapping[str, Any] | None:
        """A measure of performance; None where it is not known."""
        for row in rows(self.version, "performance"):
            if (
                row.get("metric") == metric
                and row.get("kind") == kind
                and number(row.get("value")) is not None
            ):
                return row
        return None


def looks(series: Mapping[str, Any]) -> list[Look]:
    """The analyses in order of time."""
    found: list[Look] = []
    for document in rows(series, "analyses"):
        at = moment(document.get("end"))
        if at is not None:
            versions = rows(document, "versions")
            found.append(Look(at, document, versions[0] if versions else {}))
    return sorted(found, key=lambda look: look.at)


def measured(series: Mapping[str, Any]) -> tuple[str, str] | None:
    """The newest measured AUC and a note on it, as the top of the page shows them; None without labels."""
    for look in reversed(looks(series)):
        now, before = look.figure("auc", "measured"), look.figure("auc", "baseline")
        if now is not None:
            return f"{now['value']:.3f}", "" if before is None else f"at its evaluation {before['value']:.3f}"
    return None


def headline(series: Mapping[str, Any]) -> str | None:
    """What the newest analysis comes to, in a sentence; None where there is none."""
    found = looks(series)
    if not found:
        return None
    checks = found[-1].checks
    failed = [NAMES[name].lower() for name in NAMES if checks.get(name, ("",))[0] == "FAIL"]
    unknown = sum(1 for name in NAMES if checks.get(name, ("INCONCLUSIVE",))[0] == "INCONCLUSIVE")
    if failed:
        listed = failed[0] if len(failed) == 1 else f"{', '.join(failed[:-1])} and {failed[-1]}"
        return f"{listed[:1].upper()}{listed[1:]} {'fails' if len(failed) == 1 else 'fail'}."
    if unknown == len(NAMES):
        return "Nothing is known about it yet."
    if unknown:
        return f"Nothing fails; {count(unknown, 'check')} of {len(NAMES)} could not be decided."
    return "All checks pass."
