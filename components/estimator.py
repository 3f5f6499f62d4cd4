"""The three model families behind one small surface: fit (in stages, for pruning), predict, keep.

Every family is trained on float32 values, since that is what the served artifact takes: a threshold between two
float32 values then separates the same rows in float64 and in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from windlass.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Family = Literal["hist_gradient_boosting", "xgboost", "linear"]
Stage = Callable[[int, "NDArray[np.float64] | None"], None]
"""Called after a part of the training with the percentage done and the scores of the watched rows."""

RUNGS = (25, 100)
"""Percentages of the iterations after which a search may stop a trial."""


@dataclass(frozen=True)
class LinearModel:
    """Logistic regression on imputed, scaled and one-hot encoded inputs.

    Attributes:
        categories: per input the number of categories, 0 where it is a number.
        medians, means, scales, weights: one value for each numeric input.
        offsets: per categorical input one weight for each category; a missing one adds nothing.
    """

    categories: tuple[int, ...]
    medians: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    offsets: tuple[tuple[float, ...], ...]
    intercept: float


@dataclass(frozen=True)
class Fitted:
    """A trained model: `native` is the library's own object."""

    family: Family
    parameters: Mapping[str, float]
    native: Any


ALLOWED: Mapping[str, frozenset[str]] = {
    "hist_gradient_boosting": frozenset(
        {
            "max_iter", "learning_rate", "max_leaf_nodes", "max_depth", "min_samples_leaf", "l2_regularization",
            "max_features",
        }
    ),
    "xgboost": frozenset(
        {
            "n_estimators", "learning_rate", "max_depth", "min_child_weight", "reg_lambda", "reg_alpha", "gamma",
            "subsample", "colsample_bytree", "max_leaves",
        }
    ),
    "linear": frozenset({"C"}),
}  # fmt: skip


def check_parameters(family: str, names: Sequence[str]) -> None:
    """Refuse parameters that a family does not have.

    Raises:
        UsageError: names the family, the parameter and those that exist.
    """
    if family not in ALLOWED:
        raise UsageError(f"estimator family {family!r} is not known; use one of {sorted(ALLOWED)}")
    unknown = sorted(set(names) - ALLOWED[family])
    if unknown:
        raise UsageError(
            f"estimator {family!r} has no parameter {unknown[0]!r}; it has {sorted(ALLOWED[family])}"
        )


def fit(
    family: Family,
    parameters: Mapping[str, float],
    inputs: Floats,
    labels: NDArray[np.float64],
    *,
    categories: Sequence[int],
    seed: int,
    threads: int,
    watched: Floats | None = None,
    stage: Stage | None = None,
) -> Fitted:
    """Train one model; the same arguments give the same model.

    Args:
        categories: per input the number of categories, 0 where it is a number.
        watched: rows whose scores are handed to `stage` after each rung.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    check_parameters(family, list(parameters))
    # OpenMP threads spin while they wait: on a machine that does anything else two are ten times slower than one.
    # The linear model's matrices are narrow: two BLAS threads take it twice as long as one
    with threadpool_limits(limits={"openmp": threads, "blas": 1}):
        if family == "linear":
            model = Fitted(family, dict(parameters), _linear(parameters, inputs, labels, categories, seed))
            if stage is not None:
                stage(100, None if watched is None else predict(model, watched))
            return model
        grow = _boosting if family == "hist_gradient_boosting" else _xgboost
        return grow(family, dict(parameters), inputs, labels, seed, threads, watched, stage)


def predict(model: Fitted, inputs: Floats) -> NDArray[np.float64]:
    """Return P(label = 1) of each row by the library's own code."""
    import numpy as np

    if model.family == "hist_gradient_boosting":
        return np.asarray(model.native.predict_proba(inputs)[:, 1], dtype=np.float64)
    if model.family == "xgboost":
        return np.asarray(model.native.inplace_predict(inputs), dtype=np.float64)
    linear: LinearModel = model.native
    total = np.full(len(inputs), linear.intercept)
    number, category = 0, 0
    for column, size in enumerate(linear.categories):
        values = inputs[:, column].astype(np.float64)
        if size == 0:
            filled = np.where(np.isnan(values), linear.medians[number], values)
            total += (filled - linear.means[number]) / linear.scales[number] * linear.weights[number]
            number += 1
        else:
            weights = linear.offsets[category]
            known = np.isin(values, np.arange(size))
            total[known] += np.asarray(weights)[values[known].astype(int)]
            category += 1
    return np.asarray(1.0 / (1.0 + np.exp(-total)), dtype=np.float64)


def _boosting(
    family: Family,
    parameters: dict[str, float],
    inputs: Floats,
    labels: NDArray[np.float64],
    seed: int,
    threads: int,
    watched: Floats | None,
    stage: Stage | None,
) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings = dict(parameters)
    total = int(settings.pop("max_iter", 100))
    for name in ("max_leaf_nodes", "max_depth", "min_samples_leaf"):
        if name in settings:
            settings[name] = int(settings[name])
    rungs = RUNGS if stage is not None else (100,)
    native = HistGradientBoostingClassifier(
        **settings, max_iter=total, early_stopping=False, warm_start=len(rungs) > 1, random_state=seed
    )
    model = Fitted(family, parameters, native)
    for percent in rungs:
        native.set_params(max_iter=max(1, total * percent // 100))
        native.fit(inputs, labels)
        if stage is not None:
            stage(percent, None if watched is None else predict(model, watched))
    return model


def _xgboost(
    family: Family,
    parameters: dict[str, float],
    inputs: Floats,
    labels: NDArray[np.float64],
    seed: int,
    threads: int,
    watched: Floats | None,
    stage: Stage | None,
) -> Fitted:
    import xgboost

    settings: dict[str, Any] = dict(parameters)
    total = int(settings.pop("n_estimators", 100))
    for name in ("max_depth", "max_leaves"):
        if name in settings:
            settings[name] = int(settings[name])
    settings |= {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "seed": seed,
        "nthread": threads,
        "verbosity": 0,
    }
    data = xgboost.QuantileDMatrix(inputs, labels, nthread=threads)
    booster: Any = None
    done = 0
    for percent in RUNGS if stage is not None else (100,):
        rounds = max(1, total * percent // 100)
        booster = xgboost.train(settings, data, rounds - done, xgb_model=booster)
        done = rounds
        if stage is not None:
            stage(percent, None if watched is None else predict(Fitted(family, parameters, booster), watched))
    return Fitted(family, parameters, booster)


def _linear(
    parameters: Mapping[str, float],
    inputs: Floats,
    labels: NDArray[np.float64],
    categories: Sequence[int],
    seed: int,
) -> LinearModel:
    import warnings

    import numpy as np
    from sklearn.linear_model import LogisticRegression

    columns: list[NDArray[np.float64]] = []
    medians, means, scales = [], [], []
    for column, size in enumerate(categories):
        values = inputs[:, column].astype(np.float64)
        if size:
            columns += [(values == k).astype(np.float64) for k in range(size)]
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value has no median
            median = float(np.float32(np.nanmedian(values)))
        median = 0.0 if np.isnan(median) else median
        filled = np.where(np.isnan(values), median, values)
        mean, scale = float(np.float32(filled.mean())), float(np.float32(filled.std()))
        scale = scale if scale > 0 else 1.0
        medians.append(median)
        means.append(mean)
        scales.append(scale)
        columns.append((filled - mean) / scale)
    solver = LogisticRegression(C=float(parameters.get("C", 1.0)), max_iter=200, random_state=seed)
    solver.fit(np.column_stack(columns), labels)
    weights, offsets, position = [], [], 0
    coefficients = solver.coef_[0].tolist()
    for size in categories:
        if size:
            offsets.append(tuple(coefficients[position : position + size]))
        else:
            weights.append(coefficients[position])
        position += size or 1
    return LinearModel(
        tuple(categories), tuple(medians), tuple(means), tuple(scales), tuple(weights), tuple(offsets),
        float(solver.intercept_[0]),
    )  # fmt: skip
