"""Every engine says what its library says, for one row and for several, with values missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.runtime import bundle
from serving.runtime.engines.engine import ModelError
from serving.runtime.engines.opening import open_engine
from windlass.errors import UsageError

Rows = NDArray[np.float32]
MakeBundle = Callable[..., Path]


@dataclass(frozen=True)
class Made:
    """Files of a model, the fields of its bundle, and the library's own prediction."""

    files: dict[str, bytes]
    form: str
    fields: dict[str, Any]
    predict: Callable[[Rows], Any]


KINDS = {
    "binary": {"output": "probability", "classes": ["0", "1"]},
    "classes": {"output": "probabilities", "classes": ["0", "1", "2"]},
    "number": {"output": "prediction"},
}


def target(kind: str, labels: NDArray[np.int64]) -> NDArray[Any]:
    return labels > 0 if kind == "binary" else labels.astype(float) * 100 if kind == "number" else labels


def of_xgboost(kind: str, rows: Rows, labels: NDArray[np.int64], tmp_path: Path) -> Made:
    import xgboost

    objective = {"binary": "binary:logistic", "classes": "multi:softprob", "number": "reg:squarederror"}[kind]
    parameters = {"objective": objective, "nthread": 1} | ({"num_class": 3} if kind == "classes" else {})
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, target(kind, labels)), 5)
    files = {"model.ubj": bytes(booster.save_raw("ubj"))}
    return Made(files, "xgboost", KINDS[kind], lambda r: booster.predict(xgboost.DMatrix(r)))


def of_lightgbm(kind: str, rows: Rows, labels: NDArray[np.int64], tmp_path: Path) -> Made:
    import lightgbm

    objective = {"binary": "binary", "classes": "multiclass", "number": "regression"}[kind]
    parameters = {"objective": objective, "num_threads": 1, "verbose": -1}
    parameters |= {"num_class": 3} if kind == "classes" else {}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, target(kind, labels)), 5)
    return Made({"model.txt": booster.model_to_string().encode()}, "lightgbm", KINDS[kind], booster.predict)


def boosted(kind: str, rows: Rows, labels: NDArray[np.int64]) -> Any:
    from sklearn import ensemble

    make = (
        ensemble.HistGradientBoostingRegressor
        if kind == "number"
        else ensemble.HistGradientBoostingClassifier
    )
    return make(max_iter=5).fit(rows, target(kind, labels))


def probabilities(kind: str, estimator: Any) -> Callable[[Rows], Any]:
    if kind == "number":
        return lambda r: estimator.predict(r)
    return lambda r: estimator.predict_proba(r)[:, 1] if kind == "binary" else estimator.predict_proba(r)


def of_skops(kind: str, rows: Rows, labels: NDArray[np.int64], tmp_path: Path) -> Made:
    import skops.io  # type: ignore[import-untyped]

    estimator = boosted(kind, rows, labels)
    form = {
        "format": "skops",
        "file": "model.skops",
        "trusted": ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    }
    files = {"model.skops": skops.io.dumps(estimator)}
    return Made(files, "skops", {**KINDS[kind], "forms": [form]}, probabilities(kind, estimator))


def of_tl2cgen(kind: str, rows: Rows, labels: NDArray[np.int64], tmp_path: Path) -> Made:
    import tl2cgen
    import treelite

    estimator = boosted(kind, rows, labels)
    path = tmp_path / "compiled.so"
    tl2cgen.export_lib(treelite.sklearn.import_model(estimator), toolchain="gcc", libpath=path)
    return Made({"model.so": path.read_bytes()}, "tl2cgen", KINDS[kind], probabilities(kind, estimator))


def of_pyfunc(kind: str, rows: Rows, labels: NDArray[np.int64], tmp_path: Path) -> Made:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    estimator = boosted(kind, rows, labels)
    mlflow.sklearn.save_model(
        estimator,
        str(tmp_path / "logged"),
        signature=ModelSignature(Schema([ColSpec("double", f"f{i}") for i in range(rows.shape[1])])),
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict" if kind == "number" else "predict_proba",
    )
    files = {f"pyfunc/{p.name}": p.read_bytes() for p in (tmp_path / "logged").iterdir()}
    fields = {**KINDS[kind], "model_file": "pyfunc", "pickle": True}
    return Made(files, "pyfunc", fields, probabilities(kind, estimator))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(of_xgboost, id="xgboost"),
        pytest.param(of_lightgbm, id="lightgbm"),
        pytest.param(of_skops, id="skops"),
        pytest.param(of_tl2cgen, id="tl2cgen"),
        pytest.param(of_pyfunc, id="pyfunc"),
    ],
)
def test_an_engine_answers_as_its_library(
    make: Callable[..., Made],
    kind: str,
    rows: Rows,
    labels: NDArray[np.int64],
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    """Verify that the engine gives the library's own numbers, of the stated type and shape, for every batch size."""
    made = make(kind, rows, labels, tmp_path)
    opened = open_engine(bundle.load(make_bundle(made.files, made.form, **made.fields)))
    assert (opened.engine.format, opened.form.format, opened.passed_over) == (made.form, made.form, ())
    for count in (1, 2, 400):
        asked = rows[:count]
        (answer,) = opened.engine.run([asked])
        expected = np.asarray(made.predict(asked), dtype=np.float32)
        assert answer.dtype == np.float32
        assert answer.shape == expected.shape
        np.testing.assert_allclose(answer, expected, rtol=1e-6)


def test_a_row_that_is_not_contiguous_is_the_same_row(
    rows: Rows, labels: NDArray[np.int64], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    """Verify that a view of a wider table scores as its copy: a compiled model reads memory as it lies."""
    made = of_tl2cgen("binary", rows, labels, tmp_path)
    engine = open_engine(bundle.load(make_bundle(made.files, made.form, **made.fields))).engine
    wide = np.concatenate([rows, rows], axis=1)[:, ::2]
    wide[:, :] = rows
    np.testing.assert_array_equal(engine.run([wide])[0], engine.run([rows])[0])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(of_xgboost, "XGBoost cannot load", id="xgboost"),
        pytest.param(of_lightgbm, "LightGBM cannot load", id="lightgbm"),
        pytest.param(of_skops, "skops cannot load", id="skops"),
    ],
)
def test_a_file_of_another_kind_is_named(
    make: Callable[..., Made],
    name: str,
    rows: Rows,
    labels: NDArray[np.int64],
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    """Verify that bytes which are no model end with the model, the file and the library in one message."""
    made = make("binary", rows, labels, tmp_path)
    (file,) = made.files
    folder = make_bundle({file: b"no model at all"}, made.form, **made.fields)
    with pytest.raises(UsageError, match=f"model m version 7: {name} '{file}'"):
        open_engine(bundle.load(folder))


@pytest.mark.parametrize(
    "make", [pytest.param(of_xgboost, id="xgboost"), pytest.param(of_lightgbm, id="lightgbm")]
)
def test_another_number_of_features_is_refused(
    make: Callable[..., Made],
    rows: Rows,
    labels: NDArray[np.int64],
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    """Verify that a bundle which states fewer inputs than the model takes does not open."""
    made = make("binary", rows, labels, tmp_path)
    folder = make_bundle(made.files, made.form, **made.fields, inputs=[{"name": "f0", "view": None}])
    with pytest.raises(UsageError, match="takes 4 features, the bundle states 1"):
        open_engine(bundle.load(folder))


def test_a_skops_type_that_nobody_trusts_is_refused_by_name(
    rows: Rows, labels: NDArray[np.int64], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    """Verify that a type outside skops's own list opens only where the bundle names it."""
    made = of_skops("binary", rows, labels, tmp_path)
    with pytest.raises(UsageError, match=r"holds sklearn\.ensemble\..*\.TreePredictor, which the bundle"):
        open_engine(bundle.load(make_bundle(made.files, "skops", **KINDS["binary"])))


def test_a_model_that_answers_another_shape_fails_by_name(
    rows: Rows, labels: NDArray[np.int64], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    """Verify that three probabilities where one was stated are the model's failure, with its version."""
    made = of_xgboost("classes", rows, labels, tmp_path)
    with pytest.raises(ModelError, match=r"model m version 7 gave 'probability' of shape \(1, 3\)"):
        open_engine(bundle.load(make_bundle(made.files, made.form, **KINDS["binary"])))
