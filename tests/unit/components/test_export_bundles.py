"""`windlass export`: from a logged model to a bundle that a server opens."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from components import logged_model
from components.export import rows as parity_rows
from components.export import subject, writing
from components.export.candidates import FOREST_TOLERANCE
from serving.runtime import bundle
from serving.runtime.engines.opening import open_engine
from windlass.cli import app

NAMES = ("age", "income", "clicks", "visits")
Log = Callable[..., Path]


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(600, len(NAMES))), columns=NAMES)


@pytest.fixture(scope="session")
def rows_file(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    table.assign(label=1).to_parquet(path)
    return path


@pytest.fixture
def log(table: pd.DataFrame, tmp_path: Path) -> Log:
    """Log a model as its flavor does, with a signature of named columns."""

    def write(flavor: str, model: Any, **arguments: Any) -> Path:
        import importlib

        from mlflow.models import infer_signature

        folder = tmp_path / "churn"
        key = {"sklearn": "sk_model", "xgboost": "xgb_model", "lightgbm": "lgb_model", "onnx": "onnx_model"}
        arguments.setdefault("signature", infer_signature(table))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(f"mlflow.{flavor}").save_model(
                path=str(folder),
                pip_requirements=["numpy"],
                **{key.get(flavor, "python_model"): model},
                **arguments,
            )
        return folder

    return write


def label(table: pd.DataFrame, classes: int) -> NDArray[np.int64]:
    score = table["age"] + 0.5 * table["income"]
    return np.digitize(score, [0.0] if classes == 2 else [-0.5, 0.5])


def sklearn_model(name: str, classes: int) -> Callable[[pd.DataFrame], Any]:
    def fit(table: pd.DataFrame) -> Any:
        from sklearn import ensemble, impute, linear_model, neural_network, pipeline, preprocessing

        made = {
            "forest": lambda: ensemble.RandomForestClassifier(10, max_depth=6, random_state=0),
            "boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=10),
            "logistic": linear_model.LogisticRegression,
            "network": lambda: pipeline.make_pipeline(
                preprocessing.StandardScaler(),
                neural_network.MLPClassifier(hidden_layer_sizes=(32, 16), max_iter=30, random_state=0),
            ),
            "pipeline": lambda: pipeline.make_pipeline(
                impute.SimpleImputer(strategy="median"),
                preprocessing.StandardScaler(),
                linear_model.LogisticRegression(),
            ),
            "scaled-boosting": lambda: pipeline.make_pipeline(
                impute.SimpleImputer(), ensemble.HistGradientBoostingClassifier(max_iter=5)
            ),
            "ridge": linear_model.Ridge,
            "regression-forest": lambda: ensemble.RandomForestRegressor(10, max_depth=6, random_state=0),
        }[name]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return made.fit(table, label(table, classes))

    return fit


def boosted(library: str, classes: int, *, bare: bool = False) -> Callable[[pd.DataFrame], Any]:
    def fit(table: pd.DataFrame) -> Any:
        if library == "xgboost":
            import xgboost

            model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(table, label(table, classes))
            return model.get_booster() if bare else model
        import lightgbm

        made = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1)
        made.fit(table, label(table, classes))
        return made.booster_ if bare else made

    return fit


CLOUDPICKLE = {"serialization_format": "cloudpickle"}


@pytest.mark.parametrize(
    ("flavor", "fit", "arguments", "forms", "missing"),
    [
        pytest.param(
            "sklearn",
            sklearn_model("forest", 3),
            CLOUDPICKLE,
            {"onnx", "tl2cgen", "skops"},
            True,
            id="forest",
        ),
        pytest.param(
            "sklearn",
            sklearn_model("boosting", 2),
            CLOUDPICKLE,
            {"onnx", "tl2cgen", "skops"},
            True,
            id="boosting",
        ),
        pytest.param("sklearn", sklearn_model("logistic", 3), {}, {"onnx", "skops"}, False, id="logistic"),
        pytest.param(
            "sklearn", sklearn_model("network", 2), CLOUDPICKLE, {"onnx", "skops"}, False, id="network"
        ),
        pytest.param(
            "sklearn", sklearn_model("pipeline", 2), CLOUDPICKLE, {"onnx", "skops"}, True, id="pipeline"
        ),
        pytest.param(
            "sklearn",
            sklearn_model("scaled-boosting", 2),
            CLOUDPICKLE,
            {"onnx", "skops"},
            True,
            id="imputer-and-boosting",
        ),
        pytest.param("sklearn", sklearn_model("ridge", 2), {}, {"onnx", "skops"}, False, id="ridge"),
        pytest.param(
            "sklearn",
            sklearn_model("regression-forest", 3),
            CLOUDPICKLE,
            {"onnx", "tl2cgen", "skops"},
            True,
            id="regression-forest",
        ),
        pytest.param(
            "xgboost", boosted("xgboost", 3), {}, {"onnx", "tl2cgen", "xgboost"}, True, id="xgboost"
        ),
        pytest.param(
            "xgboost",
            boosted("xgboost", 2, bare=True),
            {},
            {"onnx", "tl2cgen", "xgboost"},
            True,
            id="booster",
        ),
        pytest.param("lightgbm", boosted("lightgbm", 2), {}, {"onnx", "lightgbm"}, True, id="lightgbm"),
        pytest.param(
            "lightgbm",
            boosted("lightgbm", 3, bare=True),
            {},
            {"onnx", "lightgbm"},
            True,
            id="lightgbm-booster",
        ),
    ],
)
def test_a_logged_model_becomes_a_bundle_of_faithful_forms(
    flavor: str,
    fit: Callable[[pd.DataFrame], Any],
    arguments: dict[str, Any],
    forms: set[str],
    missing: bool,
    log: Log,
    table: pd.DataFrame,
    rows_file: Path,
    tmp_path: Path,
) -> None:
    """Verify that every form that applies agrees with the library, and that the fastest is what a server opens."""
    model = fit(table)
    out = tmp_path / "bundle"
    assert (
        app.run(["export", str(log(flavor, model, **arguments)), "--out", str(out), "--rows", str(rows_file)])
        == 0
    )
    loaded = bundle.load(out)
    assert {f.format for f in loaded.forms} >= forms
    assert [i.name for i in loaded.inputs] == list(NAMES)
    assert {i.missing for i in loaded.inputs} == {missing}
    assert not loaded.pickle
    times = [f.single_row_us or 0.0 for f in loaded.forms]
    assert times == sorted(times)
    assert open_engine(loaded).form == loaded.forms[0]
    unseen = np.random.default_rng(9).normal(size=(200, len(NAMES))).astype(np.float32)
    (given,) = open_engine(loaded).engine.run([unseen])
    np.testing.assert_allclose(given, expected(model, unseen), atol=2e-6)


def expected(model: Any, unseen: NDArray[np.float32]) -> Any:
    named = pd.DataFrame(unseen, columns=NAMES)
    if type(model).__module__.startswith("xgboost.core"):
        import xgboost

        return model.predict(xgboost.DMatrix(named))
    if not hasattr(model, "predict_proba"):
        return model.predict(named)
    given = model.predict_proba(named)
    return given[:, 1] if given.shape[1] == 2 else given


def test_any_other_model_is_served_by_mlflow(log: Log, table: pd.DataFrame, tmp_path: Path) -> None:
    """Verify that a model of Python code keeps its own folder, and that its pickle is declared."""
    import mlflow

    class Sum(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input.sum(axis=1, skipna=False)

    folder = log("pyfunc", Sum(), input_example=table[:50])
    out = tmp_path / "bundle"
    assert app.run(["export", str(folder), "--out", str(out)]) == 0
    loaded = bundle.load(out)
    assert (loaded.pickle, [f.format for f in loaded.forms]) == (True, ["pyfunc"])
    assert {i.missing for i in loaded.inputs} == {False}
    (given,) = open_engine(loaded).engine.run([np.array([[1, 2, 3, 4]], dtype=np.float32)])
    assert given.tolist() == [10.0]


def test_an_onnx_model_stays_what_it_is(log: Log, table: pd.DataFrame, tmp_path: Path) -> None:
    """Verify that a graph of tensors keeps its names, types and shapes."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        "two",
        [helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["N", 3]) for n in ("a", "b")],
        [helper.make_tensor_value_info("sum", TensorProto.DOUBLE, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    example = {"a": np.ones((20, 3)), "b": np.ones((20, 3))}
    from mlflow.models import infer_signature

    folder = log("onnx", model, signature=infer_signature(example), input_example=example)
    assert app.run(["export", str(folder), "--out", str(tmp_path / "bundle")]) == 0
    loaded = bundle.load(tmp_path / "bundle")
    assert [(s.name, s.datatype, s.shape) for s in loaded.tensor_inputs] == [
        ("a", "FP64", (-1, 3)),
        ("b", "FP64", (-1, 3)),
    ]
    (given,) = open_engine(loaded).engine.run([np.full((1, 3), 2.0), np.full((1, 3), 0.5)])
    assert given.tolist() == [[2.5, 2.5, 2.5]]


def test_a_model_of_texts_is_served_column_by_column(log: Log, table: pd.DataFrame, tmp_path: Path) -> None:
    """Verify that a pipeline with a text column gets a tensor for each, and gives its probabilities."""
    from mlflow.models import infer_signature
    from sklearn import compose, linear_model, pipeline, preprocessing

    mixed = table.assign(city=np.where(table["age"] > 0, "Rome", "Oslo"))[["city", "income"]]
    encode = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["city"]), remainder="passthrough"
    )
    model = pipeline.make_pipeline(encode, linear_model.LogisticRegression()).fit(mixed, label(table, 2))
    folder = log("sklearn", model, signature=infer_signature(mixed), input_example=mixed[:80], **CLOUDPICKLE)
    assert app.run(["export", str(folder), "--out", str(tmp_path / "bundle")]) == 0
    engine = open_engine(bundle.load(tmp_path / "bundle")).engine
    assert [(s.name, s.datatype) for s in engine.inputs] == [("city", "BYTES"), ("income", "FP64")]
    (given,) = engine.run([np.array([b"Rome", "Oslo"], dtype=object), np.array([0.1, 0.2])])
    asked = pd.DataFrame({"city": ["Rome", "Oslo"], "income": [0.1, 0.2]})
    np.testing.assert_allclose(given, model.predict_proba(asked), rtol=1e-6)


def test_eight_bits_are_measured_beside_the_exact_form(
    log: Log, table: pd.DataFrame, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that --int8 adds a smaller form of a network with its own bound and its loss, and one JSON object."""
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(hidden_layer_sizes=(128, 128), max_iter=20, random_state=0).fit(
        table, table["age"] - table["income"]
    )
    out = tmp_path / "bundle"
    arguments = ["--out", str(out), "--rows", str(rows_file), "--int8", "--json"]
    assert app.run(["export", str(log("sklearn", model, **CLOUDPICKLE)), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    exact, small = (
        next(f for f in report["forms"] if f["format"] == "onnx" and f["precision"] == p)
        for p in ("float32", "int8")
    )
    assert small["form"]["size_bytes"] < exact["form"]["size_bytes"] / 2
    assert small["form"]["parity"]["bound"] > exact["form"]["parity"]["bound"]
    assert 0 < small["mean_difference"] <= small["form"]["parity"]["max_difference"]
    assert exact["form"]["parity"]["holds"]
    assert json.loads((out / "export.json").read_text())["forms"] == report["forms"]


def test_a_form_that_is_not_faithful_is_reported_and_left_out(
    log: Log, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Verify that a compiled model which routes LightGBM's zeros otherwise is never what a server gets."""
    import lightgbm

    zeros = table.round(0)
    zeros.iloc[::3] = np.nan
    model = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(zeros, label(table, 2))
    logged = logged_model.read(log("lightgbm", model))
    exported = subject.of_logged(logged, None)
    asked = zeros.to_numpy(dtype=np.float32)
    out = tmp_path / "bundle"
    report = writing.export(exported, "churn", "1", (asked,), out, int8=False)
    (compiled,) = [f for f in report.forms if f.format == "tl2cgen"]
    assert compiled.form is not None and compiled.form.parity is not None
    # a value between -1e-35 and 0 is zero to LightGBM alone
    assert compiled.form.parity.max_difference > FOREST_TOLERANCE
    assert not compiled.form.parity.holds
    assert "tl2cgen" not in {f.format for f in bundle.load(out).forms}
    assert not (out / "model.so").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("models:/churn", "has no name or no version; use models:/name/version", id="no-version"),
        pytest.param("models:/churn/3", "cannot be fetched", id="no-such-model"),
        pytest.param("models:/churn@best", "cannot be fetched", id="no-such-alias"),
        pytest.param("s3://bucket/model", "is neither a folder nor one of models:/", id="another-scheme"),
        pytest.param("{empty}", "is no MLflow model: it holds no MLmodel", id="no-model-in-it"),
    ],
)
def test_an_address_that_names_no_model_is_refused(
    uri: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify that it ends with exit code 2, what is wrong and what to give instead."""
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "home"))
    (tmp_path / "empty").mkdir()
    address = uri.replace("{empty}", str(tmp_path / "empty"))
    assert app.run(["export", address, "--out", str(tmp_path / "bundle")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "rows.csv", "age,income\n1,2\n", "lacks the column 'clicks' (2 of 4 inputs)", id="columns"
        ),
        pytest.param("rows.csv", "age,income,clicks,visits\n1,2,3,no\n", "no number", id="a-text"),
        pytest.param("rows.csv", "age,income,clicks,visits\n", "holds no row", id="empty"),
        pytest.param("rows.txt", "1 2 3 4\n", "is none of .csv, .parquet, .npy", id="format"),
        pytest.param("rows.npy", "no array", "cannot be read", id="broken"),
        pytest.param(None, "", "has no input example; give --rows FILE", id="no-example"),
    ],
)
def test_rows_that_are_not_the_models_are_refused(
    name: str | None,
    content: str,
    message: str,
    log: Log,
    table: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify that it ends with exit code 2, and what the file lacks."""
    folder = log("sklearn", sklearn_model("logistic", 2)(table))
    asked = []
    if name is not None:
        (tmp_path / name).write_text(content)
        asked = ["--rows", str(tmp_path / name)]
    assert app.run(["export", str(folder), "--out", str(tmp_path / "bundle"), *asked]) == 2
    assert message in capsys.readouterr().err


def test_few_rows_are_said_to_be_few(
    log: Log, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that parity on the logged example alone comes with a note."""
    folder = log("sklearn", sklearn_model("logistic", 2)(table), input_example=table[:5])
    assert app.run(["export", str(folder), "--out", str(tmp_path / "bundle")]) == 0
    assert "parity was judged on 5 rows only; give --rows FILE" in capsys.readouterr().out


def test_a_registered_model_is_found_by_version_and_by_alias(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_file: Path
) -> None:
    """Verify that the bundle carries the registered name and version, by whichever address it was asked."""
    import mlflow

    from components.registry import Registry
    from windlass import settings

    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "home"))
    registry = Registry(settings.load())
    registry.connect()
    address = f"sqlite:///{tmp_path / 'home' / 'registry' / 'mlflow.db'}"
    # mlflow puts it into the environment, where it would be an address for whatever a later test starts
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, address)
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    experiment = mlflow.create_experiment("churn", artifact_location=str(tmp_path / "artifacts"))
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.sklearn.log_model(
            sklearn_model("logistic", 2)(table),
            name="model",
            registered_model_name="churn",
            pip_requirements=["scikit-learn"],
        )
    mlflow.MlflowClient().set_registered_model_alias("churn", "best", 1)
    for n, uri in enumerate(("models:/churn/1", "models:/churn@best", f"runs:/{run.info.run_id}/model")):
        out = tmp_path / f"bundle-{n}"
        assert app.run(["export", uri, "--out", str(out), "--rows", str(rows_file)]) == 0
        loaded = bundle.load(out)
        assert loaded.inputs[0].name == "age"  # the estimator's own: the model has no signature
        if n < 2:
            assert (loaded.model, loaded.version) == ("churn", "1")


def test_rows_go_by_name_and_not_by_place(log: Log, table: pd.DataFrame, tmp_path: Path) -> None:
    """Verify that a table with its columns in another order, and one more, gives the model's own rows."""
    exported = subject.of_logged(logged_model.read(log("sklearn", sklearn_model("logistic", 2)(table))), None)
    path = tmp_path / "rows.csv"
    table[["visits", "clicks", "income", "age"]].assign(label=1).to_csv(path, index=False)
    (asked,) = parity_rows.read(exported, path)
    np.testing.assert_allclose(asked, table.to_numpy(), rtol=1e-6)
