"""Every library's trees as ONNX: the same answer on every side of every threshold, and with values missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.export import graph, lightgbm_forest, sklearn_forest, xgboost_forest
from components.export.forest import Forest, NotExportableError
from components.export.measuring import rows_at_thresholds, rows_with_missing

Rows = NDArray[np.float32]
WIDTH = 5


def rows(count: int, seed: int, *, missing: bool = True) -> Rows:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(count, WIDTH)).astype(np.float32)
    made[:, 1] = (
        np.round(made[:, 1] * 4) / 4
    )  # ties: thresholds fall between few distinct values, zero among them
    made[:, 3] = rng.lognormal(3, 3, count).astype(np.float32)
    if missing:
        made[rng.random(made.shape) < 0.1] = np.nan
    return made


def target(inputs: Rows, kind: str) -> NDArray[Any]:
    score = np.nan_to_num(inputs[:, 0]) - 0.5 * np.nan_to_num(inputs[:, 1])
    made = {
        "binary": score > 0,
        "classes": np.digitize(score, [-0.5, 0.5]),
        "number": 1000 * score,
        "count": np.exp(score),
    }
    return made[kind].astype(float)


def sklearn_case(name: str, kind: str, *, missing: bool = True, **parameters: Any) -> Any:
    def fit() -> tuple[Forest | None, Callable[[Rows], Any]]:
        from sklearn import ensemble, tree

        inputs = rows(1500, 1, missing=missing)
        estimator = getattr(ensemble, name, None) or getattr(tree, name)
        model = estimator(random_state=0, **parameters).fit(inputs, target(inputs, kind))
        if not hasattr(model, "predict_proba"):
            return sklearn_forest.read(model), model.predict
        if len(model.classes_) == 2:
            return sklearn_forest.read(model), lambda r: model.predict_proba(r)[:, 1]
        return sklearn_forest.read(model), model.predict_proba

    return pytest.param(fit, missing, id=f"{name}-{kind}{''.join(f'-{v}' for v in parameters.values())}")


def xgboost_case(objective: str, kind: str, **parameters: Any) -> Any:
    def fit() -> tuple[Forest, Callable[[Rows], Any]]:
        import xgboost

        inputs = rows(1500, 1)
        data = xgboost.DMatrix(inputs, target(inputs, kind))
        if objective.startswith("rank:"):
            data.set_group([500] * 3)
        settings = {"objective": objective, "nthread": 1, "max_depth": 4, **parameters}
        booster = xgboost.train(settings, data, 8)
        return xgboost_forest.read(booster), lambda r: booster.predict(xgboost.DMatrix(r))

    return pytest.param(fit, True, id=f"xgboost-{objective}{''.join(f'-{k}' for k in parameters)}")


def lightgbm_case(objective: str, kind: str, *, missing: bool = True, **parameters: Any) -> Any:
    def fit() -> tuple[Forest, Callable[[Rows], Any]]:
        import lightgbm

        inputs = rows(1500, 1, missing=missing)
        settings = {"objective": objective, "num_threads": 1, "verbose": -1, "num_leaves": 12, **parameters}
        booster = lightgbm.train(settings, lightgbm.Dataset(inputs, target(inputs, kind)), 8)
        return lightgbm_forest.read(booster), booster.predict

    # it takes NaN as zero where training saw none, so missing values are asked in either case
    return pytest.param(fit, True, id=f"lightgbm-{objective}{''.join(f'-{k}' for k in parameters)}-{missing}")


@pytest.mark.parametrize(
    ("fit", "missing"),
    [
        sklearn_case("HistGradientBoostingClassifier", "binary", max_iter=8),
        sklearn_case("HistGradientBoostingClassifier", "classes", max_iter=8),
        sklearn_case("HistGradientBoostingRegressor", "number", max_iter=8),
        sklearn_case("HistGradientBoostingRegressor", "count", max_iter=8, loss="poisson"),
        sklearn_case("HistGradientBoostingRegressor", "count", max_iter=8, loss="gamma"),
        sklearn_case("RandomForestClassifier", "binary", n_estimators=8),
        sklearn_case("RandomForestClassifier", "classes", n_estimators=8, max_depth=5),
        sklearn_case("RandomForestRegressor", "number", n_estimators=8, max_depth=6),
        sklearn_case("ExtraTreesClassifier", "classes", n_estimators=8, max_depth=6),
        sklearn_case("ExtraTreesRegressor", "number", n_estimators=8, max_depth=6),
        sklearn_case("DecisionTreeClassifier", "classes", max_depth=6),
        sklearn_case("DecisionTreeRegressor", "number", max_depth=6),
        sklearn_case("RandomForestClassifier", "binary", missing=False, n_estimators=8, max_depth=5),
        sklearn_case("GradientBoostingClassifier", "binary", missing=False, n_estimators=8),
        sklearn_case(
            "GradientBoostingClassifier", "binary", missing=False, n_estimators=8, loss="exponential"
        ),
        sklearn_case("GradientBoostingClassifier", "classes", missing=False, n_estimators=8),
        sklearn_case("GradientBoostingClassifier", "binary", missing=False, n_estimators=8, init="zero"),
        sklearn_case("GradientBoostingRegressor", "number", missing=False, n_estimators=8),
        sklearn_case(
            "GradientBoostingRegressor", "number", missing=False, n_estimators=8, loss="absolute_error"
        ),
        xgboost_case("binary:logistic", "binary"),
        xgboost_case("binary:logistic", "binary", base_score=0.3),
        xgboost_case("binary:logitraw", "binary"),
        xgboost_case("reg:logistic", "binary"),
        xgboost_case("multi:softprob", "classes", num_class=3),
        xgboost_case("multi:softprob", "classes", num_class=3, num_parallel_tree=3),
        xgboost_case("reg:squarederror", "number"),
        xgboost_case("reg:absoluteerror", "number"),
        xgboost_case("reg:pseudohubererror", "number"),
        xgboost_case("count:poisson", "count"),
        xgboost_case("reg:gamma", "count"),
        xgboost_case("reg:tweedie", "count"),
        xgboost_case("rank:pairwise", "classes"),
        lightgbm_case("binary", "binary"),
        lightgbm_case("binary", "binary", missing=False),
        lightgbm_case("binary", "binary", sigmoid=0.7),
        lightgbm_case("binary", "binary", boosting="dart"),
        lightgbm_case("binary", "binary", boosting="rf", bagging_freq=1, bagging_fraction=0.6),
        lightgbm_case("cross_entropy", "binary"),
        lightgbm_case("multiclass", "classes", num_class=3),
        lightgbm_case("regression", "number"),
        lightgbm_case("regression", "number", missing=False),
        lightgbm_case("regression_l1", "number"),
        lightgbm_case("huber", "number"),
        lightgbm_case("quantile", "number", alpha=0.7),
        lightgbm_case("poisson", "count"),
        lightgbm_case("gamma", "count"),
        lightgbm_case("tweedie", "count"),
    ],
)
def test_a_forest_says_what_its_library_says(
    fit: Callable[[], tuple[Forest | None, Callable[[Rows], Any]]], missing: bool
) -> None:
    """Verify that rows never seen, rows on and beside every threshold, and missing values score alike."""
    import onnxruntime

    forest, predict = fit()
    assert forest is not None
    base = rows(600, 2, missing=False)
    made = [base, rows_at_thresholds(forest, base)]
    if missing:
        made += [rows(600, 3), rows_with_missing(base, [True] * WIDTH)]
    asked = np.concatenate(made)
    assert len(made[1]) >= 3 * len(set(forest.thresholds()))
    model = graph.of_forest(forest, WIDTH, "answer")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (given,) = session.run(["answer"], {"features": asked})
    expected = np.asarray(predict(asked))
    assert given.shape == expected.shape
    assert np.max(np.abs(given - expected)) <= 3e-6 * max(1.0, np.max(np.abs(expected)))


def with_categories(library: str) -> Callable[[], Any]:
    def read() -> Any:
        inputs = rows(600, 1, missing=False)
        inputs[:, 2] = np.random.default_rng(5).integers(0, 6, len(inputs))
        labels = np.isin(inputs[:, 2], [1, 4]).astype(float)
        if library == "xgboost":
            import xgboost

            types = ["q", "q", "c", "q", "q"]
            data = xgboost.DMatrix(inputs, labels, feature_types=types, enable_categorical=True)
            return xgboost_forest.read(xgboost.train({"max_cat_to_onehot": 1, "nthread": 1}, data, 3))
        if library == "lightgbm":
            import lightgbm

            data = lightgbm.Dataset(inputs, labels, categorical_feature=[2])
            return lightgbm_forest.read(lightgbm.train({"verbose": -1, "num_threads": 1}, data, 3))
        from sklearn.ensemble import HistGradientBoostingClassifier

        return sklearn_forest.read(
            HistGradientBoostingClassifier(max_iter=3, categorical_features=[2]).fit(inputs, labels)
        )

    return read


def of_xgboost(**parameters: Any) -> Callable[[], Any]:
    def read() -> Any:
        import xgboost

        inputs = rows(300, 1)
        labels = np.abs(target(inputs, "binary"))
        if parameters.get("multi_strategy"):
            labels = np.stack([labels, 1 - labels], axis=1)
        return xgboost_forest.read(
            xgboost.train({"nthread": 1, **parameters}, xgboost.DMatrix(inputs, labels), 2)
        )

    return read


def of_lightgbm(**parameters: Any) -> Callable[[], Any]:
    def read() -> Any:
        import lightgbm

        inputs = rows(600, 1)
        # where zero is missing, what is absent says more than its value
        labels = (np.nan_to_num(inputs[:, 1]) == 0).astype(float) + 0.1 * np.nan_to_num(inputs[:, 0])
        settings = {"verbose": -1, "num_threads": 1, "objective": "regression", **parameters}
        if settings["objective"] != "regression":
            labels = (labels > 0.5).astype(float)
        return lightgbm_forest.read(lightgbm.train(settings, lightgbm.Dataset(inputs, labels), 3))

    return read


@pytest.mark.parametrize(
    ("read", "message"),
    [
        pytest.param(with_categories("xgboost"), "categorical splits", id="xgboost-categories"),
        pytest.param(with_categories("lightgbm"), "categorical splits", id="lightgbm-categories"),
        pytest.param(with_categories("sklearn"), "categorical splits", id="sklearn-categories"),
        pytest.param(of_xgboost(booster="dart"), "its booster is 'dart'", id="xgboost-dart"),
        pytest.param(of_xgboost(booster="gblinear"), "its booster is 'gblinear'", id="xgboost-linear"),
        pytest.param(of_xgboost(objective="binary:hinge"), "objective is 'binary:hinge'", id="xgboost-hinge"),
        pytest.param(of_xgboost(multi_strategy="multi_output_tree"), "hold vectors", id="xgboost-vectors"),
        pytest.param(of_lightgbm(linear_tree=True), "linear models", id="lightgbm-linear-trees"),
        pytest.param(of_lightgbm(reg_sqrt=True), "objective is 'regression sqrt'", id="lightgbm-square-root"),
        pytest.param(of_lightgbm(zero_as_missing=True), "zeros as missing", id="lightgbm-zero-as-missing"),
    ],
)
def test_what_a_forest_cannot_say_is_refused(read: Callable[[], Any], message: str) -> None:
    """Verify that the reason is given, instead of a graph that is wrong on some rows."""
    with pytest.raises(NotExportableError, match=message):
        read()
