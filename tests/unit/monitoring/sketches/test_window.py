"""A window in files gets the verdict that `monitoring.drift` gives the same rows in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from monitoring import drift
from monitoring.reference import Reference, build
from monitoring.sketches.limits import LIMITS, Limits
from monitoring.sketches.stream import profile
from monitoring.sketches.window import bounds, measure_files, measure_profile, of_reference
from windlass.errors import UsageError

Floats = NDArray[np.float64]
N = 40_000


def columns(rows: int, moved: float, seed: int) -> dict[str, Floats]:
    r = np.random.default_rng(seed)
    gaps = r.lognormal(sigma=1.5, size=rows)
    gaps[r.random(rows) < 0.1] = np.nan
    return {
        "calm": r.normal(size=rows),
        "moved": r.normal(moved, 1.0, size=rows),
        "gaps": gaps,
        "few": r.integers(0, 3, rows).astype(np.float64),
        "carrier": np.floor(r.beta(2, 5, rows) * 16 + moved),
        "score": r.beta(2, 8, rows),
    }


@pytest.fixture(scope="module")
def reference() -> Reference:
    trained = columns(8000, 0.0, 1)
    scores = trained.pop("score")
    return build(trained, categorical={"carrier"}, scores=scores)


def written(window: dict[str, Floats], folder: Path) -> list[Path]:
    """The window in two files, its columns in another order than the model's."""
    names = list(reversed(window))
    paths = [folder / "a.parquet", folder / "b.parquet"]
    for path, rows in zip(paths, (slice(0, 1000), slice(1000, None)), strict=True):
        pq.write_table(pa.table({n: window[n][rows] for n in names}), path)
    return paths


def in_memory(reference: Reference, window: dict[str, Floats]) -> drift.Drift:
    features = np.column_stack([window[f.name] for f in reference.features])
    return drift.measure(reference, features, window["score"])


@pytest.mark.parametrize("moved", [0.0, 1.0], ids=["calm", "drifted"])
@pytest.mark.parametrize("limits", [LIMITS, Limits(values=2000)], ids=["exact", "in cells"])
def test_the_verdict_is_that_of_the_rows(
    reference: Reference, tmp_path: Path, moved: float, limits: Limits
) -> None:
    window = columns(N, moved, 2)
    found = measure_files(reference, written(window, tmp_path), limits=limits)
    expected = in_memory(reference, window)
    assert (found.verdict, found.n, found.share) == (expected.verdict, N, expected.share)
    assert found.prediction_verdict == expected.prediction_verdict == "PASS"
    assert [f.feature for f in found.features] == [f.name for f in reference.features]
    pairs = [*zip(found.features, expected.features, strict=True), (found.prediction, expected.prediction)]
    for ours, theirs in pairs:
        assert ours is not None and theirs is not None
        assert (ours.method, ours.n, ours.n_reference) == (theirs.method, theirs.n, theirs.n_reference)
        assert ours.drifted == theirs.drifted == (moved > 0 and ours.feature in ("moved", "carrier"))
        assert ours.noise == theirs.noise
        assert ours.value == pytest.approx(theirs.value, abs=1e-9 if limits is LIMITS else 2e-3)


def test_the_bounds_hold_the_rows_distances(reference: Reference, tmp_path: Path) -> None:
    window = columns(N, 0.3, 3)
    limits = Limits(values=2000)
    found = profile(written(window, tmp_path), reference=of_reference(reference, limits), limits=limits)
    stated = bounds(reference, found, limits)
    expected = in_memory(reference, window)
    assert expected.prediction is not None
    for feature in (*expected.features, expected.prediction):
        low, high = stated[feature.feature].lower, stated[feature.feature].upper
        assert low is not None and high is not None and feature.value is not None
        assert low - 1e-12 <= feature.value <= high + 1e-12
        assert stated[feature.feature].exact == (feature.feature in ("few", "carrier"))


def test_the_reference_keeps_its_share_of_nulls(reference: Reference) -> None:
    known = of_reference(reference)
    for feature in reference.features:
        assert known[feature.name].null_share == pytest.approx(feature.null_share)
        assert known[feature.name].rows == reference.rows
    assert known["gaps"].null_share > 0.05


def test_parts_that_were_profiled_apart_are_one_window(reference: Reference, tmp_path: Path) -> None:
    from monitoring.sketches.profile import merge

    window = columns(N, 1.0, 2)
    paths, known = written(window, tmp_path), of_reference(reference)
    parts = [profile([path], list(known), known) for path in paths]
    merged = {name: merge(parts[0][name], parts[1][name]) for name in known}
    assert measure_profile(reference, merged) == measure_files(reference, paths)


def test_a_window_without_rows_is_inconclusive(reference: Reference, tmp_path: Path) -> None:
    found = measure_files(reference, written(columns(0, 0.0, 1), tmp_path))
    assert (found.verdict, found.n, found.features) == ("INCONCLUSIVE", 0, ())
    assert found.prediction_verdict == "INCONCLUSIVE"


def test_a_column_with_too_few_values_is_not_judged(reference: Reference, tmp_path: Path) -> None:
    window = columns(1000, 1.0, 4)
    window["moved"][100:] = np.nan
    found = measure_files(reference, written(window, tmp_path))
    feature = next(f for f in found.features if f.feature == "moved")
    assert (feature.value, feature.drifted, feature.n) == (None, False, 100)


def test_a_missing_column_is_named(reference: Reference, tmp_path: Path) -> None:
    window = columns(1000, 1.0, 4)
    del window["gaps"]
    with pytest.raises(UsageError, match="no column 'gaps'"):
        measure_files(reference, written(window, tmp_path))
