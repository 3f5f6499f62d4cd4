"""KServe's V1: rows as objects or lists, and predictions that say where they came from."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_contracts import call_of, contract_of, numbers, sent, stored, tensors_of

from serving.runtime.bundle import View
from serving.runtime.contract import Contract
from serving.runtime.engines.engine import TensorSpec
from serving.runtime.flow.call import Asked, Outcome
from serving.runtime.protocol import v1
from serving.runtime.refusal import BadRequest
from serving.runtime.signature import LARGEST

MOST = 3
PLAIN = contract_of([sent("f0"), sent("f1", default=5.0)])
STRICT = contract_of([sent("f0"), sent("f1", missing=False)])
FEATURES = contract_of(
    [stored("mean", "delays"), sent("hour"), sent("dest", categories=("ATL", "BOS"))],
    entities={"carrier": "string", "seat": "int64"},
    views=[View("delays", "carrier", 60.0, ("mean",))],
)
IMAGE = tensors_of(TensorSpec("image", "FP32", (-1, 2)), TensorSpec("text", "BYTES", (-1,)))
ONE = tensors_of(TensorSpec("image", "INT64", (-1, 2)))


def decode(document: Any, contract: Contract) -> Asked:
    return v1.decode(json.dumps(document).encode(), contract, MOST)


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize(
    ("rows", "read"),
    [
        pytest.param([[1, 2.5]], [[1.0, 2.5]], id="a-list"),
        pytest.param([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]], id="lists"),
        pytest.param([[None, math.nan]], [[math.nan, math.nan]], id="missing"),
        pytest.param([[LARGEST, -LARGEST]], [[LARGEST, -LARGEST]], id="the-largest"),
    ],
)
def test_rows_may_be_lists_of_numbers(key: str, rows: Any, read: list[list[float]]) -> None:
    """Verify that a model whose inputs are all sent takes them in its order."""
    asked = decode({key: rows}, PLAIN)
    assert asked.rows is None
    np.testing.assert_array_equal(numbers(asked), read)


def test_rows_may_be_objects() -> None:
    """Verify that inputs are found by name, that one which is not there takes its default, and more are ignored."""
    rows = [{"f1": 2, "f0": 1.5, "more": "x"}, {"f0": 1}, {"f0": None, "f1": math.nan}]
    asked = decode({"instances": rows}, PLAIN)
    read = [r.values for r in asked.rows or ()]
    np.testing.assert_array_equal(read, [[1.5, 2.0], [1.0, 5.0], [math.nan, math.nan]])
    assert [r.request for r in asked.rows or ()][:2] == [{"f0": 1.5, "f1": 2}, {"f0": 1}]


def test_rows_with_features_name_their_entities() -> None:
    """Verify that keys become text, categories their positions, and what is not known a missing value."""
    rows = [
        {"carrier": "AA", "seat": 7, "hour": 12, "dest": "BOS"},
        {"carrier": "", "seat": -(2**63), "hour": 0.5, "dest": "nowhere"},
    ]
    asked = decode({"instances": rows}, FEATURES)
    assert asked.values is None
    assert [r.entities for r in asked.rows or ()] == [
        {"carrier": "AA", "seat": "7"},
        {"carrier": "", "seat": str(-(2**63))},
    ]
    np.testing.assert_array_equal([r.values for r in asked.rows or ()], [[12.0, 1.0], [0.5, math.nan]])


@pytest.mark.parametrize(
    ("contract", "document", "named"),
    [
        pytest.param(PLAIN, [], "the body", id="a-list"),
        pytest.param(PLAIN, {}, "instances", id="no-instances"),
        pytest.param(PLAIN, {"instances": {}}, "instances", id="an-object"),
        pytest.param(PLAIN, {"instances": []}, "instances: holds 0 rows", id="no-rows"),
        pytest.param(PLAIN, {"instances": [[1, 2]] * (MOST + 1)}, "instances: holds 4 rows", id="too-many"),
        pytest.param(PLAIN, {"instances": [[1]]}, "instances[0]", id="too-few-numbers"),
        pytest.param(PLAIN, {"instances": [[1, 2], [3]]}, "instances[1]", id="a-short-second-row"),
        pytest.param(PLAIN, {"instances": [[1, 2], {"f0": 1}]}, "instances[1]", id="a-list-then-an-object"),
        pytest.param(PLAIN, {"instances": [{"f0": 1}, [1, 2]]}, "instances[1]", id="an-object-then-a-list"),
        pytest.param(PLAIN, {"instances": [[1, "2"]]}, "instances.f1", id="a-text"),
        pytest.param(PLAIN, {"instances": [[1, 2], [3, "4"]]}, "instances[1].f1", id="a-text-in-the-second"),
        pytest.param(PLAIN, {"instances": [[1, [2]]]}, "instances.f1", id="nested"),
        pytest.param(PLAIN, {"instances": [[1, True]]}, "instances[0][1]", id="a-boolean-in-a-list"),
        pytest.param(PLAIN, {"instances": [{"f0": False}]}, "instances[0].f0", id="a-boolean"),
        pytest.param(PLAIN, {"instances": [{"f0": 1e39}]}, "instances[0].f0", id="over-float32"),
        pytest.param(PLAIN, {"instances": [{"f0": math.inf}]}, "instances[0].f0", id="infinity"),
        pytest.param(PLAIN, {"instances": [{"f0": 10**400}]}, "instances[0].f0", id="over-a-double"),
        pytest.param(PLAIN, {"instances": [[1, 10**400]]}, "instances.f1", id="over-a-double-in-a-list"),
        pytest.param(PLAIN, {"instances": [1]}, "instances[0]", id="no-row"),
        pytest.param(STRICT, {"instances": [{"f0": 1}]}, "instances[0].f1", id="not-sent"),
        pytest.param(STRICT, {"instances": [{"f0": 1, "f1": None}]}, "instances[0].f1", id="null"),
        pytest.param(STRICT, {"instances": [{"f0": 1, "f1": math.nan}]}, "instances[0].f1", id="nan"),
        pytest.param(STRICT, {"instances": [[1, None]]}, "instances.f1", id="null-in-a-list"),
        pytest.param(FEATURES, {"instances": [[1, 2]]}, "instances[0]", id="a-list-for-features"),
        pytest.param(FEATURES, {"instances": [{"seat": 1}]}, "instances[0].carrier", id="no-key"),
        pytest.param(FEATURES, {"instances": [{"carrier": 1, "seat": 1}]}, "instances[0].carrier", id="a-number"),
        pytest.param(FEATURES, {"instances": [{"carrier": "A", "seat": "1"}]}, "instances[0].seat", id="a-text-key"),
        pytest.param(FEATURES, {"instances": [{"carrier": "A", "seat": 2**63}]}, "instances[0].seat", id="over-int64"),
        pytest.param(FEATURES, {"instances": [{"carrier": "A", "seat": True}]}, "instances[0].seat", id="true-as-key"),
        pytest.param(
            FEATURES, {"instances": [{"carrier": "A", "seat": 1, "dest": 2}]}, "instances[0].dest", id="a-category"
        ),
        pytest.param(IMAGE, {"instances": [{"image": [1, 2]}]}, "instances[0].text", id="no-tensor"),
        pytest.param(IMAGE, {"instances": [{"image": [1], "text": "x"}]}, "instances.shape", id="shape"),
        pytest.param(ONE, {"instances": [[1.5, 2]]}, "instances.data[0]", id="a-fraction-for-an-integer"),
        pytest.param(ONE, {"instances": [[1, 2], [3]]}, "instances", id="ragged"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_named(contract: Contract, document: Any, named: str) -> None:
    """Verify that the message begins with the field at fault."""
    with pytest.raises(BadRequest) as refused:
        decode(document, contract)
    assert str(refused.value).startswith(named)


NUMBERS = st.one_of(st.none(), st.floats(-1e30, 1e30), st.integers(-1000, 1000), st.just(math.nan))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=MOST))
def test_a_list_asks_what_its_object_asks(rows: list[tuple[float | None, float | None]]) -> None:
    """Verify that numbers in order and by name are the same question."""
    by_order = decode({"instances": [list(r) for r in rows]}, PLAIN)
    by_name = decode({"instances": [{"f0": a, "f1": b} for a, b in rows]}, PLAIN)
    np.testing.assert_array_equal(numbers(by_order), [r.values for r in by_name.rows or ()])


def test_tensors_are_found_by_name_and_one_alone_without() -> None:
    """Verify that rows of several tensors are objects, and that rows of the only one may be its values."""
    asked = decode({"instances": [{"image": [1, 2], "text": "a"}, {"image": [3, 4], "text": "b"}]}, IMAGE)
    image, text = asked.arrays or ()
    assert (image.tolist(), text.tolist()) == ([[1, 2], [3, 4]], ["a", "b"])
    for rows in ([[1, 2], [3, 4]], [{"image": [1, 2]}, {"image": [3, 4]}]):
        (only,) = decode({"instances": rows}, ONE).arrays or ()
        assert only.tolist() == [[1, 2], [3, 4]]
        assert only.dtype == np.int64


@pytest.mark.parametrize(
    ("contract", "outputs", "predictions"),
    [
        pytest.param(PLAIN, [[0.25, 0.5]], [0.25, 0.5], id="scores"),
        pytest.param(PLAIN, [[[0.25, 0.75]]], [[0.25, 0.75]], id="classes"),
        pytest.param(
            ONE, [np.array([[1, 2], [3, 4]])], [[1, 2], [3, 4]], id="one-tensor"
        ),
        pytest.param(
            IMAGE,
            [np.array([[1.5, 2.5]], np.float32), np.array([b"a"], dtype=object)],
            [{"image": [1.5, 2.5], "text": "a"}],
            id="several-tensors",
        ),
    ],
)  # fmt: skip
def test_predictions_stand_row_by_row(contract: Contract, outputs: list[Any], predictions: Any) -> None:
    """Verify that each row gets its prediction, and that the answer says what gave it."""
    call = call_of(Asked(1), source="cached", outcome=Outcome(outputs, "fallback", None))
    body, size = v1.encode(call, contract)
    assert size is None
    assert json.loads(body) == {
        "predictions": predictions, "feature_source": "cached", "answered_by": "fallback"
    }  # fmt: skip
