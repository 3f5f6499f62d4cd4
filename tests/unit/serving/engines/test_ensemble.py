"""Several models in one: combined by the stated rule, found by name, no deeper than the limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.runtime import bundle
from serving.runtime.engines.opening import open_engine
from windlass.errors import UsageError

MakeBundle = Callable[..., Path]
ModelOf = Callable[..., bytes]


def members(*weights: float) -> list[dict[str, Any]]:
    return [{"folder": f"members/{i}", "weight": w} for i, w in enumerate(weights)]


def make_members(make_bundle: MakeBundle, model_of: ModelOf, values: list[float]) -> None:
    for i, value in enumerate(values):
        make_bundle({"model.onnx": model_of(value)}, at=f"bundle/members/{i}")


@pytest.mark.parametrize(
    ("combine", "weights", "expected"),
    [
        pytest.param("mean", [1, 1, 1], 3.0, id="mean"),
        pytest.param("mean", [1, 0, 3], 4.75, id="weighted-mean"),
        pytest.param("sum", [1, 0.5, 2], 14.0, id="weighted-sum"),
        pytest.param("median", [1, 1, 1], 2.0, id="median"),
        pytest.param("max", [1, 1, 1], 6.0, id="max"),
        pytest.param("min", [1, 1, 1], 1.0, id="min"),
    ],
)
def test_members_are_combined(
    make_bundle: MakeBundle, model_of: ModelOf, combine: str, weights: list[float], expected: float
) -> None:
    """Verify that answers 1, 2 and 6 become what the rule says, one number a row."""
    make_members(make_bundle, model_of, [1, 2, 6])
    folder = make_bundle({}, "ensemble", members=members(*weights), combine=combine)
    (answer,) = open_engine(bundle.load(folder)).engine.run([np.zeros((2, 4), np.float32)])
    assert answer.tolist() == pytest.approx([expected] * 2)
    assert answer.dtype == np.float32


def test_a_member_takes_its_inputs_by_name(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that a member of fewer inputs, in another order, gets its own columns."""
    inputs = [{"name": n, "view": None} for n in ("f3", "f1")]
    make_bundle({"model.onnx": model_of(0, width=2)}, at="bundle/members/0", inputs=inputs)
    folder = make_bundle({}, "ensemble", members=members(1))
    (answer,) = open_engine(bundle.load(folder)).engine.run([np.array([[1, 20, 300, 4000]], np.float32)])
    assert answer.tolist() == [4020.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"members": members(1, 1), "combine": "vote"}, "combine is 'vote', known are mean", id="rule"
        ),
        pytest.param(
            {"members": members(1, 2), "combine": "max"}, "different weights, which 'max'", id="weights"
        ),
        pytest.param({"members": []}, "members go with model_format 'ensemble'", id="no-member"),
        pytest.param({"members": [{"folder": "../other"}]}, "lies outside the bundle's folder", id="outside"),
        pytest.param({"members": [{"folder": "."}]}, "lies outside the bundle's folder", id="itself"),
        pytest.param(
            {"members": members(1), "inputs": [{"name": "g", "view": None}]},
            "takes an input that is not among this model's",
            id="another-input",
        ),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_refused(
    make_bundle: MakeBundle, model_of: ModelOf, fields: dict[str, Any], message: str
) -> None:
    """Verify that the contradiction is named before any member is loaded."""
    make_members(make_bundle, model_of, [1, 2])
    with pytest.raises(UsageError, match=message):
        bundle.load(make_bundle({}, "ensemble", **fields))


def test_bundles_nest_three_deep_and_no_deeper(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that a chain of fallbacks ends: a bundle that contains itself would never stop loading."""
    model = {"model.onnx": model_of(1)}
    make_bundle(model, at="bundle/a/b")
    make_bundle(model, at="bundle/a", fallback="b")
    loaded = bundle.load(make_bundle(model, fallback="a"))
    assert loaded.fallback is not None and loaded.fallback.fallback is not None
    make_bundle(model, at="bundle/a/b/c")
    make_bundle(model, at="bundle/a/b", fallback="c")
    with pytest.raises(UsageError, match="'c' lies deeper than 3 bundles"):
        bundle.load(make_bundle(model, fallback="a"))
