"""The model's session says at load what would fail at the first request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.runtime.engines.onnx import Model
from windlass.errors import UsageError

MakeModel = Callable[..., bytes]


def test_scores_rows_with_missing_values(
    make_model: MakeModel, score: Callable[[Sequence[float]], float]
) -> None:
    weights = [0.02, 1.5, -0.03, 0.0004, 0.25]
    rows = [[10.0, 0.5, 3.0, 1400.0, 2.0], [float("nan"), 0.5, float("nan"), 200.0, 1.0]]
    model = Model(make_model(weights), width=5, output="probability", name="flights 3")
    scores = model.predict(np.array(rows, dtype=np.float32))
    assert scores.shape == (2,)
    assert scores.tolist() == pytest.approx([score(r) for r in rows], rel=1e-5)


def test_refuses_bytes_that_are_no_model() -> None:
    with pytest.raises(UsageError, match="model flights 3: ONNX Runtime cannot load it"):
        Model(b"not a model", width=5, output="probability", name="flights 3")


def test_refuses_another_number_of_features(make_model: MakeModel) -> None:
    with pytest.raises(UsageError, match=r"of \(-1, 3\), the bundle states FP32 of \(-1, 5\)"):
        Model(make_model([1, 2, 3]), width=5, output="probability", name="flights 3")


def test_refuses_another_output(make_model: MakeModel) -> None:
    with pytest.raises(UsageError, match=r"no output 'chance'; it has \['probability'\]"):
        Model(make_model([1, 2, 3]), width=3, output="chance", name="flights 3")
