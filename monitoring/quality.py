"""Data quality of a live window against the training reference: missing and impossible values.

Drift says that the world moved; this says that the data is broken, which a retraining would only learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Floats
from monitoring.reference import FeatureReference, Reference
from monitoring.verdict import Verdict


@dataclass(frozen=True)
class QualityPolicy:
    """When a window's data counts as broken.

    Attributes:
        null_margin: share of missing values tolerated on top of the reference's.
        range_slack: how far beyond the reference's range a value may lie, in widths of that range: seasons
            leave the range, a swapped unit leaves it by far.
        out_of_range_share: largest share of values beyond that.
        z: how many standard errors an excess must stand out by.
    """

    null_margin: float = 0.10
    range_slack: float = 1.0
    out_of_range_share: float = 0.02
    z: float = 3.0
    minimum_rows: int = 100


@dataclass(frozen=True)
class FeatureQuality:
    """One column of a window; `far` where too many values lie far outside the reference's range."""

    feature: str
    null_share: float
    reference_null_share: float
    out_of_range_share: float
    failed: bool
    reason: str
    far: bool = False


@dataclass(frozen=True)
class Quality:
    """A window against the reference; FAIL if any column failed."""

    verdict: Verdict
    reason: str
    n: int
    features: tuple[FeatureQuality, ...]


def measure(reference: Reference, features: Floats, policy: QualityPolicy | None = None) -> Quality:
    """Check the rows of a window (rows × inputs, in the reference's order; NaN is missing)."""
    policy = policy or QualityPolicy()
    columns = np.asarray(features, dtype=np.float64)
    n = len(columns)
    if n < policy.minimum_rows:
        return Quality("INCONCLUSIVE", f"{n} rows; at least {policy.minimum_rows} are needed", n, ())
    checked = tuple(
        _feature(f, columns[:, i], reference.rows, policy) for i, f in enumerate(reference.features)
    )
    failed = [f for f in checked if f.failed]
    if failed:
        return Quality("FAIL", "; ".join(f"{f.feature}: {f.reason}" for f in failed), n, checked)
    return Quality("PASS", f"{len(checked)} features as at training", n, checked)


def _feature(reference: FeatureReference, column: Floats, rows: int, policy: QualityPolicy) -> FeatureQuality:
    n = len(column)
    nulls = float(np.isnan(column).mean())
    span = reference.maximum - reference.minimum
    slack = policy.range_slack * (span if span > 0 else max(abs(reference.maximum), 1.0))
    with np.errstate(invalid="ignore"):
        outside = (column < reference.minimum - slack) | (column > reference.maximum + slack)
    beyond = 0.0 if math.isnan(span) else float(outside.mean())
    reasons: list[str] = []
    # plus-one keeps the error above 0 where no null was ever seen
    pooled = (nulls * n + reference.null_share * rows + 1) / (n + rows + 2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / max(rows, 1)))
    if nulls - reference.null_share > policy.null_margin + policy.z * error:
        reasons.append(f"{nulls:.1%} missing, {reference.null_share:.1%} at training")
    far = beyond - policy.z * math.sqrt(beyond * (1 - beyond) / n) > policy.out_of_range_share
    if far:
        reasons.append(f"{beyond:.1%} far outside {reference.minimum:g} to {reference.maximum:g}")
    return FeatureQuality(
        reference.name, nulls, reference.null_share, beyond, bool(reasons), ", ".join(reasons), far
    )
