"""A window in files against a version's reference: what `monitoring.drift.measure` says, for rows that do not fit.

The reference is a sample that fits in memory and is exact. A window up to `Limits.values` rows is exact as well and has
the same distances to the last digits; of a larger one the distances are those of its cells, which `bounds` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitoring import drift, drift_statistics
from monitoring.drift import Drift, DriftPolicy, FeatureDrift
from monitoring.reference import FeatureReference, Reference
from monitoring.sketches.distances import Distance, compare
from monitoring.sketches.grid import Grid
from monitoring.sketches.limits import LIMITS, Limits
from monitoring.sketches.profile import ColumnProfile, Profile, of_labels, of_values
from monitoring.sketches.stream import profile


def measure_files(
    reference: Reference,
    paths: Sequence[Path],
    policy: DriftPolicy | None = None,
    *,
    limits: Limits = LIMITS,
    threads: int | None = None,
) -> Drift:
    """Compare the rows of parquet files with the reference.

    Args:
        paths: files with a column for each model input and, if the reference has scores, one for them; categories
            as their positions, null or NaN = missing, as in the reference's own sample.

    Raises:
        UsageError: there is no file, or a column is missing or of a type without statistics.
    """
    known = of_reference(reference, limits)
    return measure_profile(
        reference, profile(paths, list(known), known, limits=limits, threads=threads), policy, limits=limits
    )


def measure_profile(
    reference: Reference, window: Profile, policy: DriftPolicy | None = None, *, limits: Limits = LIMITS
) -> Drift:
    """The same for a window that was profiled against `of_reference`, in parts or at once."""
    policy = policy or DriftPolicy()
    known = of_reference(reference, limits)
    rows = next((window[f.name].rows for f in reference.features), 0)
    measured = [_feature(f, known[f.name], window[f.name], policy) for f in reference.features if rows]
    score = reference.score
    prediction = None if score is None else _feature(score, known[score.name], window[score.name], policy)
    return drift.conclude(rows, measured, prediction, policy)


def bounds(reference: Reference, window: Profile, limits: Limits = LIMITS) -> dict[str, Distance]:
    """What each column's distance lies between; None where a side has no value."""
    known = of_reference(reference, limits)
    return {f.name: _distance(f, known[f.name], window[f.name]) for f in _columns(reference)}


def of_reference(reference: Reference, limits: Limits = LIMITS) -> Profile:
    """The reference's columns as profiles, the scores under their name: what a window is profiled against."""
    return {f.name: _profile(f, reference.rows, limits) for f in _columns(reference)}


def _columns(reference: Reference) -> tuple[FeatureReference, ...]:
    return (*reference.features, *(() if reference.score is None else (reference.score,)))


def _profile(feature: FeatureReference, rows: int, limits: Limits) -> ColumnProfile:
    missing = max(rows - len(feature.values), 0)
    if feature.categorical:
        labels, counts = np.unique(feature.values, return_counts=True)
        return of_labels(
            feature.name,
            dict(zip(labels.tolist(), counts.tolist(), strict=True)),
            nulls=missing,
            limits=limits,
        )
    values = np.concatenate((feature.values, np.full(missing, np.nan)))
    return of_values(feature.name, values, grid=Grid.of(feature.values), limits=limits)


def _feature(
    feature: FeatureReference, known: ColumnProfile, window: ColumnProfile, policy: DriftPolicy
) -> FeatureDrift:
    if not drift.enough(feature, window.n, policy):
        return drift.judge(feature, window.n, policy, "", None)
    found = _distance(feature, known, window)
    method: drift_statistics.Method = "jensenshannon" if found.method == "jensenshannon" else "wasserstein"
    return drift.judge(feature, window.n, policy, method, found.value)


def _distance(feature: FeatureReference, known: ColumnProfile, window: ColumnProfile) -> Distance:
    return compare(known, window, norm=feature.norm)
