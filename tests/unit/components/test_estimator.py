"""Training: what the model may depend on, and what not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from components import estimator
from components.estimator import Family

PARAMETERS: Mapping[Family, Mapping[str, float]] = {
    "hist_gradient_boosting": {"max_iter": 30, "max_leaf_nodes": 31},
    "xgboost": {"n_estimators": 30, "max_depth": 6, "subsample": 0.8, "colsample_bytree": 0.75},
    "linear": {"C": 0.1},
}


@pytest.mark.parametrize("family", list(PARAMETERS))
def test_the_model_is_the_same_with_any_number_of_threads(family: Family) -> None:
    """Verify what the demo's repeatability across machines rests on: the same bits, not nearly the same."""
    draw = np.random.default_rng(4)
    inputs = draw.normal(size=(30_000, 12)).astype(np.float32)
    inputs[draw.random(inputs.shape) < 0.1] = np.nan
    labels = (np.nansum(inputs[:, :4], axis=1) + draw.normal(size=len(inputs)) > 0).astype(np.float64)

    def scores(threads: int) -> np.ndarray:
        model = estimator.fit(
            family, PARAMETERS[family], inputs, labels, categories=(0,) * 12, seed=1, threads=threads
        )
        return estimator.predict(model, inputs)

    alone = scores(1)
    assert 0.6 < ((alone > 0.5) == labels).mean() < 1.0
    for threads in (2, 3):
        assert scores(threads).tobytes() == alone.tobytes()
