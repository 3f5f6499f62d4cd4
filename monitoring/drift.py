"""Drift of a live window against the training reference, by effect size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitoring import drift_statistics
from monitoring.columns import Floats
from monitoring.reference import FeatureReference, Reference
from monitoring.verdict import Verdict


@dataclass(frozen=True)
class DriftPolicy:
    """When a window counts as drifted.

    Attributes:
        threshold: distance from which a feature has drifted (Evidently's default).
        minimum_rows: a feature with fewer values in the window or the reference is not judged.
        drifted_share: share of the judged features that must have drifted for the window to have.
    """

    threshold: float = 0.1
    minimum_rows: int = 300
    drifted_share: float = 0.3


@dataclass(frozen=True)
class FeatureDrift:
    """One column of a window against its reference.

    Attributes:
        method: "wasserstein" (in standard deviations of the reference) or "jensenshannon".
        value: the distance; None where there are too few rows.
        noise: the distance that a window of as many rows may have although nothing drifted.
        drifted: the distance reaches the threshold and stands out from the noise.
        n: values present in the window.
    """

    feature: str
    method: str
    value: float | None
    threshold: float
    noise: float | None
    drifted: bool
    n: int
    n_reference: int


@dataclass(frozen=True)
class Drift:
    """A window against the reference.

    Attributes:
        verdict: FAIL = drifted; INCONCLUSIVE = too few rows.
        features: all columns, in the model's order.
        prediction: the scores.
        prediction_verdict: the same for the scores alone.
    """

    verdict: Verdict
    reason: str
    n: int
    share: float
    features: tuple[FeatureDrift, ...]
    prediction: FeatureDrift | None
    prediction_verdict: Verdict

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that drifted, the largest distance first."""
        return tuple(sorted((f for f in self.features if f.drifted), key=lambda f: -(f.value or 0.0)))


def measure(
    reference: Reference,
    features: Floats,
    scores: Sequence[float] | Floats,
    policy: DriftPolicy | None = None,
) -> Drift:
    """Compare the rows of a window with the reference.

    Args:
        features: rows × inputs, in the reference's order; NaN is missing.
        scores: the model's scores of the same rows.
    """
    policy = policy or DriftPolicy()
    columns = np.asarray(features, dtype=np.float64)
    measured = tuple(
        _feature(f, columns[:, i], policy) for i, f in enumerate(reference.features) if len(columns)
    )
    prediction = None
    if reference.score is not None:
        prediction = _feature(reference.score, np.asarray(scores, dtype=np.float64), policy)
    return conclude(len(columns), measured, prediction, policy)


def conclude(
    rows: int, features: Sequence[FeatureDrift], prediction: FeatureDrift | None, policy: DriftPolicy
) -> Drift:
    """The window's verdict from those of its columns, however they were measured."""
    judged = [f for f in features if f.value is not None]
    drifted = [f for f in judged if f.drifted]
    share = len(drifted) / len(judged) if judged else 0.0
    verdict: Verdict
    if not judged:
        verdict = "INCONCLUSIVE"
        reason = f"{rows} rows; no feature has the {policy.minimum_rows} values needed"
    else:
        verdict = "FAIL" if share >= policy.drifted_share else "PASS"
        worst = sorted(drifted, key=lambda f: -(f.value or 0.0))[:3]
        names = ", ".join(f"{f.feature} {f.value:.2f}" for f in worst)
        reason = f"{len(drifted)} of {len(judged)} features drifted" + (f": {names}" if names else "")
    return Drift(verdict, reason, rows, share, tuple(features), prediction, _alone(prediction))


def _alone(drift: FeatureDrift | None) -> Verdict:
    if drift is None or drift.value is None:
        return "INCONCLUSIVE"
    return "FAIL" if drift.drifted else "PASS"


def _feature(reference: FeatureReference, column: Floats, policy: DriftPolicy) -> FeatureDrift:
    current = np.sort(column[np.isfinite(column)])
    if not enough(reference, len(current), policy):
        return judge(reference, len(current), policy, "", None)
    method = drift_statistics.method(reference.values, current, categorical=reference.categorical)
    value = drift_statistics.distance(method, reference.values, current, reference.norm)
    return judge(reference, len(current), policy, method, value)


def enough(reference: FeatureReference, n: int, policy: DriftPolicy) -> bool:
    """Whether a column with `n` values can be judged."""
    return min(n, len(reference.values)) >= max(policy.minimum_rows, 1)


def judge(
    reference: FeatureReference,
    n: int,
    policy: DriftPolicy,
    method: drift_statistics.Method | Literal[""],
    value: float | None,
) -> FeatureDrift:
    """What a distance of a column with `n` values means; None where it was not measured."""
    n_reference = len(reference.values)
    if value is None or not method:
        return FeatureDrift(reference.name, "", None, policy.threshold, None, False, n, n_reference)
    noise = drift_statistics.noise(method, reference.values, n, reference.norm)
    drifted = value >= policy.threshold and value > noise
    return FeatureDrift(reference.name, method, value, policy.threshold, noise, drifted, n, n_reference)


def as_json(drift: Drift) -> dict[str, Any]:
    """The result as JSON values, features with the largest distance first."""

    def feature(f: FeatureDrift) -> dict[str, Any]:
        return {
            "feature": f.feature,
            "method": f.method or None,
            "value": f.value,
            "threshold": f.threshold,
            "noise": f.noise,
            "drifted": f.drifted,
            "n": f.n,
            "n_reference": f.n_reference,
        }

    return {
        "verdict": drift.verdict,
        "reason": drift.reason,
        "rows": drift.n,
        "share": drift.share,
        "features": [feature(f) for f in sorted(drift.features, key=lambda f: -(f.value or 0.0))],
        "prediction": None if drift.prediction is None else feature(drift.prediction),
        "prediction_verdict": drift.prediction_verdict,
    }
