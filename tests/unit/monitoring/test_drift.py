"""Drift by effect size: held to Evidently and scipy, quiet where nothing moved, loud where something did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring import drift, drift_statistics
from monitoring.reference import build
from windlass.errors import WindlassError

Floats = NDArray[np.float64]


def samples(seed: int = 0) -> dict[str, tuple[Floats, Floats, bool]]:
    """Reference and window of columns of many sorts; True marks a categorical one."""
    r = np.random.default_rng(seed)
    gaps = r.normal(size=900)
    gaps[::7] = np.nan
    return {
        "normal": (r.normal(size=3000), r.normal(0.4, 1.3, size=900), False),
        "same": (r.normal(size=3000), r.normal(size=900), False),
        "heavy": (r.lognormal(sigma=1.5, size=3000), r.lognormal(0.2, 1.5, size=900), False),
        "counts": (r.poisson(4, 3000).astype(float), r.poisson(6, 900).astype(float), False),
        "few_values": (r.integers(0, 3, 3000).astype(float), r.integers(0, 4, 900).astype(float), False),
        "constant": (np.zeros(3000), np.zeros(900), False),
        "nearly_constant": (np.full(3000, 7.0) + r.normal(size=3000) * 1e-9, np.full(900, 7.5), False),
        "missing": (r.normal(size=3000), gaps, False),
        "category": (r.integers(0, 16, 3000).astype(float), r.integers(2, 18, 900).astype(float), True),
    }  # fmt: skip


def test_every_distance_is_evidentlys_own(tmp_path: Path) -> None:
    from monitoring.evidently_reports import report

    columns = samples()
    reference = build(
        {name: c[0] for name, c in columns.items()},
        categorical={name for name, c in columns.items() if c[2]},
        scores=np.random.default_rng(1).beta(2, 8, 3000),
    )
    features = np.column_stack([c[1] for c in columns.values()])
    scores = np.random.default_rng(2).beta(3, 8, 900)
    ours = drift.measure(reference, features, scores)
    theirs = report(reference, features, scores, html=tmp_path / "drift.html")
    values = {f.feature: f.value for f in ours.features}
    assert ours.prediction is not None
    values["score"] = ours.prediction.value
    assert theirs.values.keys() == values.keys()
    for name, value in values.items():
        assert value == pytest.approx(theirs.values[name], abs=1e-9), name
    assert "<html" in (tmp_path / "drift.html").read_text().lower()


@pytest.mark.parametrize("name", samples())
def test_the_statistics_are_scipys(name: str) -> None:
    from scipy import stats
    from scipy.spatial import distance

    reference, current, _ = samples(seed=5)[name]
    current = np.sort(current[np.isfinite(current)])
    reference = np.sort(reference)
    norm = max(float(np.std(reference)), drift_statistics.SMALLEST_NORM)
    assert drift_statistics.normed_wasserstein(reference, current) == pytest.approx(
        stats.wasserstein_distance(reference, current) / norm, rel=1e-9, abs=1e-12
    )
    keys = np.union1d(reference, current)
    p, q = ((sample[:, None] == keys).mean(axis=0) for sample in (reference, current))
    assert drift_statistics.jensen_shannon(reference, current) == pytest.approx(
        float(np.nan_to_num(distance.jensenshannon(p, q))), abs=1e-7
    )


@pytest.mark.parametrize("n", [300, 3000])
def test_a_window_of_the_reference_itself_exceeds_its_noise_in_about_one_of_a_hundred(n: int) -> None:
    r = np.random.default_rng(n)
    for draw in (
        lambda k: r.normal(size=k),
        lambda k: r.lognormal(size=k),
        lambda k: r.integers(0, 12, k) * 1.0,
    ):
        reference = np.sort(draw(6000))
        categorical = len(np.unique(reference)) == 12
        method = drift_statistics.method(reference, reference, categorical=categorical)
        bound = drift_statistics.noise(method, reference, n)
        exceeded = [
            drift_statistics.distance(method, reference, np.sort(draw(n))) > bound for _ in range(300)
        ]
        assert np.mean(exceeded) <= 0.035


def test_a_small_window_is_inconclusive_and_not_calm() -> None:
    reference = build({"a": np.random.default_rng(0).normal(size=3000)}, scores=np.zeros(3000))
    small = drift.measure(reference, np.full((20, 1), 9.0), np.zeros(20))
    assert (small.verdict, small.prediction_verdict) == ("INCONCLUSIVE", "INCONCLUSIVE")
    assert small.features[0].value is None and not small.features[0].drifted
    assert "20 rows" in small.reason
    empty = drift.measure(reference, np.empty((0, 1)), np.empty(0))
    assert empty.verdict == "INCONCLUSIVE"


def test_a_distance_within_the_noise_of_a_small_window_is_no_drift() -> None:
    r = np.random.default_rng(3)
    reference = build({"a": r.normal(size=3000)})
    policy = drift.DriftPolicy(threshold=0.05, minimum_rows=50)
    found = [drift.measure(reference, r.normal(size=(80, 1)), np.zeros(80), policy) for _ in range(40)]
    above = [f.features[0] for f in found if (f.features[0].value or 0) >= 0.05]
    assert len(above) > 20, "the windows are small enough for their distance to pass the threshold by chance"
    assert sum(f.drifted for f in above) <= 2


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [
        pytest.param(0, "PASS", id="nothing"),
        pytest.param(2, "PASS", id="two-of-ten"),
        pytest.param(3, "FAIL", id="three-of-ten"),
        pytest.param(10, "FAIL", id="all"),
    ],
)
def test_the_share_of_drifted_features_decides(moved: int, verdict: str) -> None:
    r = np.random.default_rng(4)
    reference = build({f"x{i}": r.normal(size=4000) for i in range(10)})
    window = r.normal(size=(1500, 10))
    window[:, :moved] += 0.5
    found = drift.measure(reference, window, np.zeros(1500))
    assert found.verdict == verdict
    assert {f.feature for f in found.drifted} == {f"x{i}" for i in range(moved)}
    assert [f.value for f in found.drifted] == sorted((f.value for f in found.drifted), reverse=True)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        pytest.param(np.empty((0, 0)), "no column has values", id="no-rows"),
        pytest.param(
            np.ones((200, 2)), "the window has 2 inputs and the reference 1", id="another-models-rows"
        ),
        pytest.param(np.full((200, 1), 1e300), "makes no report", id="values-that-it-cannot-draw"),
    ],
)
def test_a_window_that_evidently_cannot_report_is_said(features: Floats, said: str) -> None:
    from monitoring.evidently_reports import report

    trained = build({"a": np.random.default_rng(1).normal(size=500)})
    with np.errstate(all="ignore"), pytest.raises(WindlassError, match=said):
        report(trained, features, np.empty(len(features)))
