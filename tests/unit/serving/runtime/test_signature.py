"""What a request of rows must hold."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_contracts import bundle_of, sent, stored

from serving.runtime.bundle import View
from serving.runtime.refusal import BadRequest
from serving.runtime.signature import LARGEST, Signature, doubles

TWO = Signature(bundle_of([sent("f0"), sent("f1", missing=False, default=1.0)]))


@pytest.mark.parametrize(
    ("bundle", "plain"),
    [
        pytest.param(bundle_of([sent("a"), sent("b")]), True, id="numbers"),
        pytest.param(bundle_of([sent("a"), sent("b", categories=("x",))]), False, id="a-category"),
        pytest.param(bundle_of([sent("a")], entities={"e": "string"}), False, id="an-entity"),
        pytest.param(
            bundle_of([stored("a", "v")], entities={"e": "string"}, views=[View("v", "e", 0.0, ("a",))]),
            False,
            id="a-feature",
        ),
        pytest.param(bundle_of([sent("a"), sent("b", transformation="t")]), False, id="a-made-input"),
    ],
)
def test_a_matrix_is_enough_where_all_inputs_are_sent_numbers(bundle: Any, plain: bool) -> None:
    """Verify that only a model which needs nothing else takes its inputs in one piece."""
    assert Signature(bundle).plain == plain


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 3.4028234663852886e38, 1e-46, -0.0], ids=str)
def test_a_number_of_the_range_of_float32_is_a_value(value: float) -> None:
    """Verify that what stays finite as a float32 is taken."""
    assert TWO.row({"f0": value, "f1": 0}, "r").values[0] == value
    assert math.isfinite(np.float32(value))


@pytest.mark.parametrize("value", [math.nextafter(LARGEST, math.inf), 1e39, -math.inf, 10**400], ids=str)
def test_a_number_beyond_it_is_refused(value: float) -> None:
    """Verify that nothing becomes infinite on its way to the model, and that the message says what was expected."""
    with pytest.raises(
        BadRequest, match=r"r\.f0: got .* expected a finite number within the range of float32"
    ):
        TWO.row({"f0": value, "f1": 0}, "r")


def test_a_matrix_is_held_to_the_same() -> None:
    """Verify that what a row may not hold is found in a matrix as well, with its row and its name."""
    TWO.check(np.array([[np.nan, 1.0]], np.float32), "inputs")
    with pytest.raises(BadRequest, match=r"inputs\[1\]\.f0: got -inf"):
        TWO.check(np.array([[0, 0], [-np.inf, 0]], np.float32), "inputs")
    with pytest.raises(
        BadRequest, match=r"inputs\[2\]\.f1: got null, expected a number; it may not be missing"
    ):
        TWO.check(np.array([[0, 0], [0, 0], [0, np.nan]], np.float32), "inputs")


def test_an_input_that_is_not_sent_takes_its_default_or_is_refused() -> None:
    """Verify that a training default stands in, and that an input which may not be missing needs one."""
    assert TWO.row({"f0": 2}, "r").values == [2.0, 1.0]
    without = Signature(bundle_of([sent("f0", missing=False)]))
    with pytest.raises(BadRequest, match=r"r\.f0: got null, expected a value; it may not be missing"):
        without.row({}, "r")


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(["v0.a", "v0.b", "v1.c", "f0", "f1", "t0"]))
def test_values_go_where_the_model_expects_them(order: list[str]) -> None:
    """Verify that features, sent values and what transformations made are put in the model's order, whatever it is."""
    views = [View("v0", "e", 0.0, ("a", "b")), View("v1", "e", 0.0, ("c",))]
    made = {
        **{f"v0.{n}": stored(n, "v0") for n in "ab"},
        "v1.c": stored("c", "v1"),
        **{f"f{i}": sent(f"f{i}") for i in (0, 1)},
        "t0": sent("t0", transformation="t"),
    }
    signature = Signature(bundle_of([made[n] for n in order], entities={"e": "string"}, views=views))
    fields = [f.name for f in signature.fields]
    joined = ["v0.a", "v0.b", "v1.c", *fields, "t0"]
    vector = signature.vector([float(joined.index(n)) for n in joined])
    assert [joined[int(v)] for v in vector] == order


def test_doubles_are_packed_as_they_are() -> None:
    """Verify that integers and floats become doubles, and that nothing else does."""
    assert doubles([1, 2.5, math.inf]) == struct.pack("3d", 1.0, 2.5, math.inf)
    for wrong in ("1", None, [1.0]):
        with pytest.raises((struct.error, OverflowError)):
            doubles([wrong])  # type: ignore[list-item]
    with pytest.raises((struct.error, OverflowError)):
        doubles([10**400])
