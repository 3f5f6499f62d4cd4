"""From rows to the matrix that a model takes: features, sent values, and what transformations make of both."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_contracts import bundle_of, call_of, sent, stored

from serving.runtime.bundle import Bundle, View
from serving.runtime.features.ladder import Features
from serving.runtime.flow.call import Asked, Call
from serving.runtime.manifest import Transformation
from serving.runtime.refusal import BadRequest
from serving.runtime.signature import LARGEST, Signature, doubles
from serving.runtime.vectors import Vectors
from windlass.errors import WindlassError

PLAIN = bundle_of([sent("f0"), sent("f1", missing=False)])
VIEWS = [View("v0", "e", 0.0, ("a", "b")), View("v1", "e", 0.0, ("c",))]
RATIO = b"""
def ratio(columns):
    return {"ratio": [a / h for a, h in zip(columns["a"], columns["hour"])]}
"""
SQUARE = b"""
def square(columns):
    return {"square": [h * h for h in columns["hour"]], "twice": [2 * c for c in columns["c"]]}
"""


def raising() -> np.errstate:
    """Whatever numpy would warn of is an error, and nothing else is: not what is left behind by another test."""
    return np.errstate(over="raise", invalid="raise", divide="raise")


def vectors_of(bundle: Bundle) -> tuple[Signature, Vectors]:
    signature = Signature(bundle)
    return signature, Vectors(bundle, signature)


def matrix_call(rows: Sequence[Sequence[float]], *, raw: bool = False) -> Call:
    """A request that sent its inputs as they are: as float32, or as numbers."""
    if raw:
        return call_of(Asked(len(rows), values=np.array(rows, np.float32)))
    return call_of(Asked(len(rows), values=doubles([v for row in rows for v in row])))


def row_call(signature: Signature, instance: dict[str, object], features: Sequence[float]) -> Call:
    """A request of one row, whose features were read."""
    row = signature.row(instance, "r")
    return call_of(Asked(1, rows=[row]), features=[Features(list(features), "online")])


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    """A bundle with two views, two sent values and two transformations, whose inputs stand in no order."""
    files = {"ratio.py": RATIO, "square.py": SQUARE}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return bundle_of(
        [
            sent("twice", transformation="square"),
            sent("hour"),
            stored("c", "v1"),
            sent("ratio", transformation="ratio"),
            stored("a", "v0"),
            sent("square", transformation="square"),
            sent("dest", categories=("ATL", "BOS")),
        ],
        entities={"e": "string"},
        views=VIEWS,
        transformations=[
            Transformation("ratio", "ratio.py", "ratio", ("a", "hour"), ("ratio",)),
            Transformation("square", "square.py", "square", ("hour", "c"), ("square", "twice")),
        ],
        folder=tmp_path,
        sha256={n: hashlib.sha256(c).hexdigest() for n, c in files.items()},
    )


def test_features_sent_values_and_transformations_stand_in_the_models_order(made: Bundle) -> None:
    """Verify the whole way of a row: views, then what was sent, then what was made of both, then the order."""
    signature, vectors = vectors_of(made)
    calls = [
        row_call(signature, {"e": "x", "hour": 4.0, "dest": "BOS"}, [8.0, 9.0, 5.0]),
        row_call(signature, {"e": "y", "hour": 0.1, "dest": "?"}, [0.1, math.nan, math.nan]),
    ]
    matrix = vectors.matrix(calls)
    expected = [[10, 4, 5, 2, 8, 16, 1], [math.nan, 0.1, math.nan, 1, 0.1, 0.1 * 0.1, math.nan]]
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array(expected, np.float32))
    # what is logged is not rounded
    np.testing.assert_array_equal([c.vectors[0] for c in calls if c.vectors], expected)


def test_a_row_is_the_same_however_often_it_is_put_together(made: Bundle) -> None:
    """Verify that what a run did to a row does not show in the next: a batch that failed is run again one by one."""
    signature, vectors = vectors_of(made)
    call = row_call(signature, {"e": "x", "hour": 4.0, "dest": "BOS"}, [8.0, 9.0, 5.0])
    unread = row_call(signature, {"e": "x", "hour": 4.0, "dest": "BOS"}, [])
    first = vectors.matrix([call])
    np.testing.assert_array_equal(vectors.matrix([call]), first)
    np.testing.assert_array_equal(vectors.matrix([call, call]), np.concatenate([first, first]))
    assert unread.asked.rows and unread.asked.rows[0].values == [4.0, 1.0]


def test_a_transformation_that_fails_is_named(made: Bundle) -> None:
    """Verify that the error says which function failed and at what."""
    signature, vectors = vectors_of(made)
    with pytest.raises(WindlassError, match="transformation 'ratio' failed: ZeroDivisionError"):
        vectors.matrix([row_call(signature, {"e": "x", "hour": 0.0}, [1.0, 1.0, 1.0])])


NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    requests=st.lists(st.tuples(ROWS, st.sampled_from(["numbers", "raw", "rows"])), min_size=1, max_size=5)
)
def test_requests_are_put_together_whatever_they_came_as(
    requests: list[tuple[list[tuple[float, float]], str]],
) -> None:
    """Verify that rows of several requests stand behind each other, and each request's are its own."""
    signature, vectors = vectors_of(PLAIN)
    calls = []
    for rows, kind in requests:
        if kind == "rows":
            read = [signature.row({"f0": a, "f1": b}, "r") for a, b in rows]
            calls.append(call_of(Asked(len(rows), rows=read)))
        else:
            calls.append(matrix_call(rows, raw=kind == "raw"))
    matrix = vectors.matrix(calls)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [list(row) for rows, _ in requests for row in rows]


@pytest.mark.parametrize("raw", [False, True], ids=["numbers", "raw"])
@pytest.mark.parametrize(
    ("row", "named"),
    [
        pytest.param([math.inf, 0.0], "inputs[0].f0: got inf", id="infinite"),
        pytest.param([-math.inf, math.inf], "inputs[0].f0: got -inf", id="both-infinities"),
        pytest.param([0.0, math.nan], "inputs[0].f1: got null", id="missing-where-it-may-not-be"),
        pytest.param([math.nan, 0.0], None, id="missing-where-it-may-be"),
        pytest.param([3e38, 3e38], None, id="a-sum-over-the-range"),
        pytest.param([float(np.float32(LARGEST * 0.999)), 1.0], None, id="the-largest"),
    ],
)
def test_a_matrix_is_checked_where_all_was_sent(row: list[float], named: str | None, raw: bool) -> None:
    """Verify that infinities and forbidden gaps are refused by name, and that nothing else is, nor warned of."""
    _, vectors = vectors_of(PLAIN)
    call = matrix_call([row], raw=raw)
    if named is None:
        with raising():
            matrix = vectors.matrix([call])
        np.testing.assert_array_equal(matrix, np.array([row], np.float32))
        return
    with pytest.raises(BadRequest) as refused, raising():
        vectors.matrix([call])
    assert str(refused.value).startswith(named)


def test_a_stored_double_beyond_float32_is_infinite_as_it_was_in_training() -> None:
    """Verify that a feature is rounded as training rounded it, and refused to nobody."""
    bundle = bundle_of([stored("a", "v0")], entities={"e": "string"}, views=[View("v0", "e", 0.0, ("a",))])
    signature, vectors = vectors_of(bundle)
    with raising():
        matrix = vectors.matrix([row_call(signature, {"e": "x"}, [1e300])])
    assert matrix.tolist() == [[math.inf]]
