"""Tensors become what a model takes, or are refused: nothing is cut off, wrapped around or guessed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_contracts import contract_of, numbers, sent, tensors_of

from serving.runtime.engines.engine import DTYPES, TensorSpec
from serving.runtime.protocol.tensors import Tensor, array_of, ask, from_bytes, to_bytes
from serving.runtime.refusal import BadRequest

MOST = 4


def tensor(datatype: str, data: Any, shape: list[int] | None = None, name: str = "x") -> Tensor:
    return Tensor(name, datatype, shape or [len(data)], data, f"inputs[0] {name!r}")


def given_as(datatype: str, data: Any, *, raw: bool) -> Any:
    """The data of a tensor as it arrives: Python values from JSON, an array from raw bytes."""
    if not raw:
        return data
    return np.array(data, dtype=DTYPES[datatype])


@pytest.mark.parametrize("raw", [False, True], ids=["json", "raw"])
@pytest.mark.parametrize(
    ("datatype", "data", "taken"),
    [
        pytest.param("FP64", [1.5, -2.0], "FP32", id="a-double-for-a-float"),
        pytest.param("INT64", [1, -2], "FP32", id="integers-for-a-float"),
        pytest.param("INT64", [1, 2], "INT8", id="small-ones-for-a-byte"),
        pytest.param("UINT8", [0, 255], "INT64", id="bytes-for-long-ones"),
        pytest.param("FP32", [1.0, 2.0], "INT64", id="whole-ones-for-integers"),
    ],
)
def test_a_tensor_of_another_datatype_is_taken_where_nothing_is_lost(
    datatype: str, data: list[Any], taken: str, raw: bool
) -> None:
    """Verify that values which the model's datatype holds are taken as they are."""
    given = tensor(datatype, given_as(datatype, data, raw=raw), [2])
    array = array_of(given, TensorSpec("x", taken, (-1,)), MOST)
    assert array.dtype == DTYPES[taken]
    assert array.tolist() == data


@pytest.mark.parametrize("raw", [False, True], ids=["json", "raw"])
@pytest.mark.parametrize(
    ("datatype", "data", "taken"),
    [
        pytest.param("FP32", [1.5], "INT64", id="a-fraction-for-an-integer"),
        pytest.param("INT64", [300], "UINT8", id="too-large-for-a-byte"),
        pytest.param("INT64", [-1], "UINT64", id="negative-for-unsigned"),
        pytest.param("UINT64", [2**64 - 1], "INT64", id="too-large-for-signed"),
        pytest.param("FP64", [1e39], "FP32", id="too-large-for-a-float"),
        pytest.param("FP32", [1e6], "FP16", id="too-large-for-half"),
        pytest.param("FP32", [math.inf], "FP32", id="infinity"),
        pytest.param("FP32", [math.nan], "INT64", id="missing-for-an-integer"),
        pytest.param("FP32", [0.5], "BOOL", id="a-fraction-for-a-boolean"),
        pytest.param("BYTES", ["1"], "FP32", id="a-text-for-a-number"),
        pytest.param("FP32", [1.0], "BYTES", id="a-number-for-a-text"),
    ],
)
def test_a_value_that_the_model_cannot_hold_is_refused(
    datatype: str, data: list[Any], taken: str, raw: bool
) -> None:
    """Verify that no value is changed on its way into the model."""
    given = tensor(datatype, given_as(datatype, data, raw=raw))
    with pytest.raises(BadRequest, match=r"inputs\[0\] 'x'"):
        array_of(given, TensorSpec("x", taken, (-1,)), MOST)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        pytest.param("FP32", True, id="a-boolean-for-a-number"),
        pytest.param("INT64", True, id="a-boolean-for-an-integer"),
        pytest.param("INT64", 1.5, id="a-fraction"),
        pytest.param("INT64", 2**63, id="over-int64"),
        pytest.param("UINT8", 256, id="over-uint8"),
        pytest.param("INT8", None, id="null-for-an-integer"),
        pytest.param("BOOL", None, id="null-for-a-boolean"),
        pytest.param("BYTES", None, id="null-for-a-text"),
        pytest.param("BOOL", 1, id="one-for-true"),
        pytest.param("BYTES", 1, id="a-number-for-a-text"),
        pytest.param("FP32", "1", id="a-text"),
        pytest.param("FP32", {}, id="an-object"),
        pytest.param("FP32", [[1.0]], id="too-deep"),
        pytest.param("FP64", 10**400, id="over-a-double"),
    ],
)
def test_a_json_value_of_another_kind_is_refused(datatype: str, value: Any) -> None:
    """Verify that JSON values are held to their tensor's datatype, one by one."""
    with pytest.raises(BadRequest, match=r"inputs\[0\] 'x'\.data"):
        array_of(tensor(datatype, [value]), TensorSpec("x", datatype, (-1,)), MOST)


def test_null_is_a_missing_number() -> None:
    """Verify that null and NaN are missing values of a float."""
    array = array_of(tensor("FP32", [None, math.nan, 1.0]), TensorSpec("x", "FP32", (-1,)), MOST)
    np.testing.assert_array_equal(array, [math.nan, math.nan, 1.0])


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        pytest.param([1, 2, 3, 4], True, id="flat"),
        pytest.param([[1, 2], [3, 4]], True, id="nested"),
        pytest.param([[[1], [2]], [[3], [4]]], False, id="deeper-than-its-shape"),
        pytest.param([1, 2, 3], False, id="too-few"),
        pytest.param([[1, 2], [3]], False, id="ragged"),
        pytest.param([], False, id="empty"),
    ],
)
def test_data_may_be_flat_or_nested(data: Any, fits: bool) -> None:
    """Verify that values stand one row after the other, in one list or in a list for each row."""
    given, spec = tensor("INT64", data, [2, 2]), TensorSpec("x", "INT64", (-1, 2))
    if fits:
        assert array_of(given, spec, MOST).tolist() == [[1, 2], [3, 4]]
    else:
        with pytest.raises(BadRequest, match=r"inputs\[0\] 'x'\.data"):
            array_of(given, spec, MOST)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([2], id="too-few-dimensions"),
        pytest.param([1, 2, 1], id="too-many"),
        pytest.param([1, 3], id="another-width"),
        pytest.param([0, 2], id="no-rows"),
        pytest.param([MOST + 1, 2], id="too-many-rows"),
    ],
)
def test_a_shape_that_the_model_does_not_take_is_refused(shape: list[int]) -> None:
    """Verify that the message names the shape."""
    with pytest.raises(BadRequest, match=r"inputs\[0\] 'x'\.shape"):
        array_of(tensor("FP32", [1.0] * math.prod(shape), shape), TensorSpec("x", "FP32", (-1, 2)), MOST)


# ---- which tensors


PAIR = tensors_of(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,)))
NAMED = contract_of([sent("f0"), sent("f1", categories=("x", "y"), default=0.0)])


def test_tensors_are_found_by_name_in_any_order() -> None:
    """Verify that a model gets its inputs in its own order; the only input may have any name."""
    asked = ask([tensor("FP32", [2.0], name="b"), tensor("FP32", [1.0], name="a")], PAIR, MOST)
    assert [a.tolist() for a in asked.arrays or ()] == [[1.0], [2.0]]
    one = tensors_of(TensorSpec("a", "FP32", (-1,)))
    (only,) = ask([tensor("FP32", [1.0], name="anything")], one, MOST).arrays or ()
    assert only.tolist() == [1.0]


def test_columns_become_rows() -> None:
    """Verify that a tensor for each input is read row by row, of shape [n] and [n, 1]; one not sent has its default."""
    columns = [tensor("FP64", [[1.5], [None]], [2, 1], "f0"), tensor("BYTES", ["y", "x"], name="f1")]
    asked = ask(columns, NAMED, MOST)
    np.testing.assert_array_equal([r.values for r in asked.rows or ()], [[1.5, 1.0], [math.nan, 0.0]])
    (row,) = ask([tensor("FP32", np.array([2.5], np.float32), name="f0")], NAMED, MOST).rows or ()
    assert row.values == [2.5, 0.0]


@pytest.mark.parametrize(
    ("contract", "tensors", "message"),
    [
        pytest.param(PAIR, [], "inputs: holds no tensor", id="none"),
        pytest.param(PAIR, [tensor("FP32", [1.0], name="a")], "the tensor 'b' is missing", id="one-missing"),
        pytest.param(PAIR, [tensor("FP32", [1.0], name="a")] * 2, "is given twice", id="twice"),
        pytest.param(
            PAIR,
            [tensor("FP32", [1.0], name=n) for n in "abc"],
            "the model takes no such tensor",
            id="one-too-many",
        ),
        pytest.param(
            PAIR,
            [tensor("FP32", [1.0], name="a"), tensor("FP32", [1.0, 2.0], name="b")],
            "has 2 rows, those before it have 1",
            id="other-rows",
        ),
        pytest.param(NAMED, [tensor("FP32", [1.0], name="f0")] * 2, "is given twice", id="a-column-twice"),
        pytest.param(NAMED, [tensor("FP32", [1.0, 2.0], [1, 2], "f0")], "expected [n]", id="a-wide-column"),
        pytest.param(
            NAMED,
            [tensor("FP32", [1.0], name="f0"), tensor("BYTES", ["x", "y"], name="f1")],
            "has 2 rows",
            id="a-longer-column",
        ),
        pytest.param(NAMED, [tensor("FP32", [1.0, 2.0], [1], "f0")], "holds 2 values", id="too-many-values"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(
    contract: Any, tensors: list[Tensor], message: str
) -> None:
    """Verify that the message says what about them is wrong."""
    with pytest.raises(BadRequest) as refused:
        ask(tensors, contract, MOST)
    assert message in str(refused.value)


PLAIN = contract_of([sent("f0"), sent("f1")])
EXACT = st.integers(-1000, 1000).map(lambda n: n / 8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(EXACT, EXACT), min_size=1, max_size=MOST))
def test_a_matrix_is_its_columns(rows: list[tuple[float, float]]) -> None:
    """Verify that a matrix, raw or not, and a tensor for each input are the same question."""
    flat = [v for row in rows for v in row]
    shape = [len(rows), 2]
    matrix = ask([tensor("FP32", flat, shape)], PLAIN, MOST)
    raw = ask([tensor("FP32", from_bytes(to_bytes(flat, "FP32"), "FP32", shape, "x"), shape)], PLAIN, MOST)
    columns = ask([tensor("FP32", [r[i] for r in rows], name=f"f{i}") for i in (0, 1)], PLAIN, MOST)
    assert (
        numbers(matrix) == numbers(raw) == [r.values for r in columns.rows or ()] == [list(r) for r in rows]
    )


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=6))
def test_texts_go_there_and_back(texts: list[str]) -> None:
    """Verify that any text survives its length-prefixed form, and that no prefix of it is taken for the whole."""
    raw = to_bytes(texts, "BYTES")
    assert from_bytes(raw, "BYTES", [len(texts)], "x") == texts
    for end in range(len(raw)):
        with pytest.raises(BadRequest):
            from_bytes(raw[:end], "BYTES", [len(texts)], "x")
