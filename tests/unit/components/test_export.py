"""The artifact that is served must say what the trained model says, on every float32 there is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components import estimator, export, training
from windlass.errors import WindlassError

CATEGORIES = (0, 0, 3, 0, 0)
PARAMETERS = {
    "hist_gradient_boosting": {
        "max_iter": 25,
        "learning_rate": 0.2,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 5,
    },
    "xgboost": {"n_estimators": 25, "learning_rate": 0.3, "max_depth": 4},
    "linear": {"C": 0.7},
}


def rows(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    inputs[:, 1] = np.round(inputs[:, 1] * 4) / 4  # many ties: thresholds fall between few distinct values
    inputs[:, 2] = rng.integers(0, 3, count)
    inputs[:, 3] = rng.lognormal(3, 3, count).astype(np.float32)
    margin = inputs[:, 0] + (inputs[:, 2] == 1) - 0.5 * inputs[:, 1]
    labels = (rng.random(count) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    inputs[rng.random(inputs.shape) < 0.15] = np.nan
    return inputs, labels


@pytest.fixture(scope="module", params=sorted(PARAMETERS))
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[estimator.Fitted, Path]:
    inputs, labels = rows(1500, 1)
    model = estimator.fit(
        request.param, PARAMETERS[request.param], inputs, labels, categories=CATEGORIES, seed=3, threads=1
    )
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    onnx.save(export.export(model, 5), path)
    return model, path


def thresholds(path: Path) -> list[tuple[int, float]]:
    (node,) = [n for n in onnx.load(path).graph.node if n.op_type == "TreeEnsembleRegressor"]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return [
        (feature, value)
        for feature, value, mode in zip(
            attributes["nodes_featureids"], attributes["nodes_values"], attributes["nodes_modes"], strict=True
        )
        if mode != b"LEAF"
    ]


def test_unseen_rows_with_missing_values_score_alike(exported: tuple[estimator.Fitted, Path]) -> None:
    model, path = exported
    inputs, _ = rows(4000, 2)
    scores = export.score(export.load(path), inputs)
    assert np.max(np.abs(scores - estimator.predict(model, inputs))) < 2e-6
    assert scores.shape == (4000,)


def test_all_missing_and_unknown_categories_score_alike(exported: tuple[estimator.Fitted, Path]) -> None:
    model, path = exported
    inputs = np.full((2, 5), np.nan, dtype=np.float32)
    inputs[1] = [0.5, 0.25, 7, 10, 0]
    assert export.score(export.load(path), inputs) == pytest.approx(
        estimator.predict(model, inputs), abs=2e-6
    )


def test_values_at_and_beside_every_threshold_take_the_same_branch(
    exported: tuple[estimator.Fitted, Path],
) -> None:
    model, path = exported
    if model.family == "linear":
        pytest.skip("a linear model has no thresholds")
    base, _ = rows(1, 4)
    edges = []
    for feature, value in thresholds(path):
        for near in (
            value,
            np.nextafter(np.float32(value), np.float32(9e9)),
            np.nextafter(np.float32(value), np.float32(-9e9)),
        ):
            row = base[0].copy()
            row[feature] = near
            edges.append(row)
    inputs = np.asarray(edges, dtype=np.float32)
    assert len(inputs) > 300
    assert np.max(np.abs(export.score(export.load(path), inputs) - estimator.predict(model, inputs))) < 2e-6


@settings(max_examples=80, deadline=None)
@given(
    row=st.lists(
        st.one_of(st.just(math.nan), st.floats(width=32, allow_infinity=False, allow_nan=False)),
        min_size=5,
        max_size=5,
    )
)
def test_any_float32_row_scores_alike(exported: tuple[estimator.Fitted, Path], row: list[float]) -> None:
    model, path = exported
    bound = 5e-6
    if model.family == "linear":
        row = [v if math.isnan(v) else max(-1e4, min(1e4, v)) for v in row]
        # large terms of which nothing is left but their rounding
        bound += 1e-7 * max((abs(v) for v in row if not math.isnan(v)), default=0.0)
    inputs = np.asarray([row], dtype=np.float32)
    with np.errstate(over="ignore"):
        assert export.score(export.load(path), inputs) == pytest.approx(
            estimator.predict(model, inputs), abs=bound
        )


@given(st.floats(allow_nan=False, min_value=-1e38, max_value=1e38))
def test_a_threshold_rounds_down_to_the_nearest_float32(threshold: float) -> None:
    below = export.float32_below(threshold)
    assert below <= threshold
    assert float(np.nextafter(np.float32(below), np.float32(np.inf))) > threshold


def test_the_report_measures_the_written_file(exported: tuple[estimator.Fitted, Path]) -> None:
    model, path = exported
    report = export.check_parity(model, path, rows(500, 5)[0])
    assert report.rows == 500
    assert report.size_bytes == path.stat().st_size
    assert report.single_row_ms > 0
    assert report.max_difference < 2e-6


def test_the_librarys_own_file_is_the_last_form(exported: tuple[estimator.Fitted, Path]) -> None:
    """Verify that it is measured beside the artifact, and agrees with the model in memory to the last bit."""
    model, path = exported
    kept = path.parent / training._keep_native(model, path.parent)
    served = {"hist_gradient_boosting": "skops", "xgboost": "xgboost"}
    native = kept if model.family in served else None
    forms = export.check_parity(model, path, rows(500, 5)[0], native).forms
    assert [f.format for f in forms] == ["onnx", *([served[model.family]] if native else [])]
    assert [(f.file, f.size_bytes) for f in forms[1:]] == (
        [(kept.name, kept.stat().st_size)] if native else []
    )
    assert all(f.parity is not None and f.parity.max_difference == 0.0 for f in forms[1:])
    assert all(f.single_row_us for f in forms)


def test_an_artifact_of_another_model_is_refused(exported: tuple[estimator.Fitted, Path]) -> None:
    _, path = exported
    inputs, labels = rows(1500, 1)
    other = estimator.fit(
        "linear", {"C": 0.001}, inputs, 1 - labels, categories=CATEGORIES, seed=3, threads=1
    )
    with pytest.raises(WindlassError, match=r"differs from the library by .* in probability on 1500 rows"):
        export.check_parity(other, path, inputs)


def test_training_twice_gives_the_same_artifact(exported: tuple[estimator.Fitted, Path]) -> None:
    model, path = exported
    inputs, labels = rows(1500, 1)
    again = estimator.fit(
        model.family, model.parameters, inputs, labels, categories=CATEGORIES, seed=3, threads=1
    )
    assert export.export(again, 5).SerializeToString(deterministic=True) == onnx.load(path).SerializeToString(
        deterministic=True
    )
