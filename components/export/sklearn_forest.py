"""scikit-learn's tree ensembles, read node by node. Every one compares `x <= threshold` with a double threshold."""

from __future__ import annotations

from typing import Any

from components.export.forest import Forest, Link, Mode, NotExportableError, float32_below

MODE: Mode = "BRANCH_LEQ"


def read(estimator: Any) -> Forest | None:
    """Return the forest of an estimator, None where it is no tree ensemble.

    Raises:
        NotExportableError: it is one, with something that a forest of float32 splits cannot say.
    """
    from sklearn import ensemble, tree

    if isinstance(
        estimator, ensemble.HistGradientBoostingClassifier | ensemble.HistGradientBoostingRegressor
    ):
        return _of_hist_boosting(estimator)
    if isinstance(estimator, ensemble.GradientBoostingClassifier | ensemble.GradientBoostingRegressor):
        return _of_boosting(estimator)
    averaged = (
        ensemble.RandomForestClassifier, ensemble.RandomForestRegressor, ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
    )  # fmt: skip
    if isinstance(estimator, averaged):
        return _of_average(estimator, estimator.estimators_)
    if isinstance(estimator, tree.DecisionTreeClassifier | tree.DecisionTreeRegressor):
        return _of_average(estimator, [estimator])
    return None


def _of_hist_boosting(estimator: Any) -> Forest:
    if estimator.is_categorical_ is not None and estimator.is_categorical_.any():
        raise NotExportableError("it has categorical splits, which compare with a set of values")
    links: dict[str, Link] = {"HalfBinomialLoss": "sigmoid", "HalfMultinomialLoss": "softmax"}
    links |= {"HalfPoissonLoss": "exp", "HalfGammaLoss": "exp"}
    base = [float(b) for b in estimator._baseline_prediction.ravel()]
    link = links.get(type(estimator._loss).__name__, "identity")
    forest = Forest(MODE, len(base), base, link)
    for iteration in estimator._predictors:
        for column, predictor in enumerate(iteration):
            for i, node in enumerate(predictor.nodes):
                if node["is_leaf"]:
                    forest.leaf(i, {column: float(node["value"])})
                else:
                    forest.split(
                        i,
                        int(node["feature_idx"]),
                        float32_below(float(node["num_threshold"])),
                        int(node["left"]),
                        int(node["right"]),
                        bool(node["missing_go_to_left"]),
                    )
            forest.end_tree()
    return forest


def _of_boosting(estimator: Any) -> Forest:
    import numpy as np

    if not (
        estimator.init_ == "zero" or type(estimator.init_).__name__ in ("DummyClassifier", "DummyRegressor")
    ):
        raise NotExportableError(f"it starts from another model, {type(estimator.init_).__name__}")
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))
    base = [float(b) for b in start.ravel()]
    link: Link = "identity"
    scale = float(estimator.learning_rate)
    if hasattr(estimator, "classes_"):
        link = "sigmoid" if len(base) == 1 else "softmax"
        if estimator.loss == "exponential":  # the log-odds are twice the margin
            base, scale = [2 * b for b in base], 2 * scale
    forest = Forest(MODE, len(base), base, link)
    for stage in estimator.estimators_:
        for column, regressor in enumerate(stage):
            _add(forest, regressor.tree_, lambda value, column=column: {column: scale * float(value[0, 0])})
    return forest


def _of_average(estimator: Any, trees: list[Any]) -> Forest:
    if estimator.n_outputs_ != 1:
        raise NotExportableError(f"it predicts {estimator.n_outputs_} targets at once")
    classes = len(getattr(estimator, "classes_", ()))
    columns = classes if classes > 2 else 1
    forest = Forest(MODE, columns, [0.0] * columns)

    def weights(value: Any) -> dict[int, float]:
        if not classes:
            return {0: float(value[0, 0]) / len(trees)}
        # of two classes the second one's share alone, of more each one's
        shares = value[0] / value[0].sum() / len(trees)
        return {0: float(shares[1])} if classes == 2 else {k: float(s) for k, s in enumerate(shares) if s}

    if classes == 1:
        raise NotExportableError("it knows one class only")
    for member in trees:
        _add(forest, member.tree_, weights)
    return forest


def _add(forest: Forest, tree: Any, weights: Any) -> None:
    missing_left = tree.__getstate__()["nodes"]["missing_go_to_left"]
    for i in range(tree.node_count):
        if tree.children_left[i] < 0:
            forest.leaf(i, weights(tree.value[i]) or {0: 0.0})
        else:
            forest.split(
                i,
                int(tree.feature[i]),
                float32_below(float(tree.threshold[i])),
                int(tree.children_left[i]),
                int(tree.children_right[i]),
                bool(missing_left[i]),
            )
    forest.end_tree()
