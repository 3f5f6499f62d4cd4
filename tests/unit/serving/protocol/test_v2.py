"""Inference requests of V2 over REST: the fast reading is the general one, and every answer is JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from row_contracts import call_of, contract_of, numbers, sent, tensors_of

from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, TensorSpec
from serving.runtime.flow.call import Asked, Call, Outcome
from serving.runtime.protocol import tensors as codec
from serving.runtime.protocol import v2
from serving.runtime.refusal import BadRequest, Refusal

MOST = 4
PLAIN = contract_of([sent("f0"), sent("f1")])
STRICT = contract_of([sent("f0"), sent("f1", missing=False)])

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 0.5, 1e39, -1e39, 1e308, 2**70, 10**400, math.nan, math.inf, -math.inf, None]),
    st.sampled_from([True, False, "1", "true", [], [1.0], {}]),
    st.floats(width=32),
)
SIZES = st.sampled_from([0, 1, 2, 3, MOST, MOST + 1, -1, 2.0, 1.0, True, None, "2", [], 10**400])


def values(rows: int) -> st.SearchStrategy[Any]:
    """Data of so many rows of two, flat or nested, or nearly."""
    numbers = st.one_of(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), NUMBERS)
    return st.one_of(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=2 * rows, max_size=2 * rows),
        st.lists(numbers, min_size=2 * rows, max_size=2 * rows),
        st.lists(numbers, max_size=2 * rows + 1),
        st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=rows, max_size=rows),
        st.sampled_from([None, {}, "x", 1]),
    )


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    """A matrix of two columns, or nearly."""
    rows = draw(st.integers(1, 3))
    tensor: dict[str, Any] = {
        "name": draw(st.sampled_from(["features", "input-0", "f0", ""])),
        "datatype": draw(st.sampled_from(["FP32", "FP64", "FP32"])),
        "shape": [rows, 2],
        "data": draw(values(rows)),
    }
    for change in draw(st.lists(st.sampled_from(["name", "datatype", "shape", "more", "less"]), max_size=1)):
        if change == "name":
            tensor["name"] = draw(st.sampled_from([None, 1, [], {}, "x" * 100]))
        elif change == "datatype":
            tensor["datatype"] = draw(st.sampled_from([None, "INT64", "BOOL", "BYTES", "fp32", [], {}, 32]))
        elif change == "shape":
            tensor["shape"] = draw(st.one_of(st.lists(SIZES, max_size=3), st.sampled_from([None, 2, {}])))
        elif change == "more":
            tensor["parameters"] = draw(st.sampled_from([None, {}, [], {"binary_data_size": 0}, {"a": 1}]))
        else:
            del tensor[draw(st.sampled_from(sorted(tensor)))]
    return tensor


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A request of one matrix, or nearly."""
    read = draw(st.lists(tensors(), min_size=1, max_size=1 if draw(st.integers(0, 9)) else 2))
    document: dict[str, Any] = {"inputs": read}
    if draw(st.booleans()):
        document["id"] = draw(st.sampled_from(["a", "", None, 1, [], "true", "ä"]))
    return document


def read(body: bytes, contract: Contract) -> tuple[Any, ...]:
    """What a body asks, so that two of them can be compared; or why it is refused."""
    try:
        asked, parameters = v2.decode(body, contract, MOST)
    except Refusal as problem:
        return (problem.status, str(problem))
    assert (asked.rows is None) != (asked.values is None)
    rows = [r.values for r in asked.rows] if asked.rows is not None else numbers(asked)
    # by their text, since what is missing is not equal to itself
    return (asked.count, repr(rows), asked.id, asked.outputs, list(asked.binary), dict(parameters))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents(), contract=st.sampled_from([PLAIN, STRICT]))
@example(
    document={"inputs": [{"name": "x", "datatype": [], "shape": [1, 2], "data": [1.0, 2.0]}]}, contract=PLAIN
)
@example(
    document={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2.0], "data": [1.0, 2.0]}]},
    contract=PLAIN,
)
@example(
    document={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]},
    contract=PLAIN,
)
def test_the_common_request_is_read_as_any_other(document: Any, contract: Contract) -> None:
    """Verify that the fast reading gives what the general one does, which an empty `parameters` asks for."""
    general = {**document, "parameters": {}}
    assert read(json.dumps(document).encode(), contract) == read(json.dumps(general).encode(), contract)


def test_the_common_request_is_its_numbers() -> None:
    """Verify that a matrix of numbers is read row by row, with the id that the request states."""
    document = {
        "id": "7",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 3, 4]}],
    }
    asked, parameters = v2.decode(json.dumps(document).encode(), PLAIN, MOST)
    assert (asked.count, numbers(asked), asked.id) == (2, [[1, 2.5], [3, 4]], "7")
    assert (asked.rows, asked.arrays, asked.outputs, asked.binary, parameters) == (None, None, None, (), {})


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(r'{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,true]}', id="as-written"),
        pytest.param(
            r'{"name":"x","datatype":"FP32","shape":[1,2],"d\u0061ta":[1,true]}', id="an-escaped-key"
        ),
        pytest.param(
            r'{"d\u0061ta":[1,true],"name":"data","datatype":"FP32","shape":[1,2]}', id="and-a-name"
        ),
        pytest.param(
            r'{"data":[1,false],"data":[1,false],"name":"x","datatype":"FP32","shape":[1,2]}', id="twice"
        ),
        pytest.param(r'{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1,true]]}', id="nested"),
    ],
)
def test_a_boolean_is_no_number_however_it_is_written(tensor: str) -> None:
    """Verify that true is never taken for 1: in bulk, Python takes it so."""
    with pytest.raises(BadRequest, match=r"data\[1\].*a boolean"):
        v2.decode(f'{{"inputs":[{tensor}]}}'.encode(), PLAIN, MOST)


# ---- raw tensors


def samples(datatype: str) -> Any:
    """Values at the ends of a datatype's range, [3, 2]."""
    dtype = DTYPES[datatype]
    if dtype.kind == "O":
        return np.array([["", "a"], ["ä€😀", '"\\\n'], ["x" * 300, "\x00"]], dtype=object)
    if dtype.kind == "b":
        return np.array([[True, False], [False, True], [True, True]])
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([[info.min, info.max], [0, 1], [1, info.max]], dtype=dtype)


def answered(asked: Asked, outputs: list[Any]) -> Call:
    """A request that the model answered."""
    return call_of(asked, outcome=Outcome(outputs, "model", None))


@pytest.mark.parametrize("answer", ["json", "binary"])
@pytest.mark.parametrize("question", ["json", "binary"])
@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_a_tensor_comes_back_as_it_was_sent(datatype: str, question: str, answer: str) -> None:
    """Verify for every datatype, raw and as JSON, that what was sent is what the model gets and gives back."""
    sent = samples(datatype)
    contract = tensors_of(TensorSpec("x", datatype, (-1, 2)))
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": [3, 2]}
    raw = b""
    if question == "binary":
        raw = codec.to_bytes(sent, datatype)
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = sent.tolist()
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": answer == "binary"}})
    length = b"%d" % len(head) if question == "binary" else None
    asked, _ = v2.decode(head + raw, contract, MOST, length)
    (given,) = asked.arrays or ()
    assert given.dtype == DTYPES[datatype]
    assert np.array_equal(given, sent)

    body, size = v2.encode(answered(asked, [given]), contract)
    document = orjson.loads(body[:size])
    (output,) = document["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("x", datatype, [3, 2])
    if answer == "binary":
        assert size is not None
        assert output["parameters"] == {"binary_data_size": len(body) - size}
        back = codec.from_bytes(body[size:], datatype, [3, 2], "x")
    else:
        back = output["data"]
    assert np.array_equal(np.array(back, dtype=DTYPES[datatype]).reshape(3, 2), sent)


def test_several_raw_tensors_stand_behind_each_other() -> None:
    """Verify that raw and JSON tensors may be mixed, in any order, and that answers are picked one by one."""
    contract = tensors_of(
        TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "INT64", (-1,)), TensorSpec("c", "BYTES", (-1,))
    )
    raw = [np.array([1.5, 2.5], "<f4").tobytes(), codec.to_bytes(["x", "yy"], "BYTES")]
    document = {
        "inputs": [
            {"name": "c", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(raw[1])}},
            {"name": "b", "datatype": "INT64", "shape": [2], "data": [7, 8]},
            {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": len(raw[0])}},
        ],
        "outputs": [{"name": "c", "parameters": {"binary_data": True}}, {"name": "a"}],
    }
    head = orjson.dumps(document)
    asked, _ = v2.decode(head + raw[1] + raw[0], contract, MOST, b"%d" % len(head))
    a, b, c = asked.arrays or ()
    assert (a.tolist(), b.tolist(), c.tolist()) == ([1.5, 2.5], [7, 8], ["x", "yy"])
    body, size = v2.encode(answered(asked, [a, b, c]), contract)
    described = {o["name"]: o for o in orjson.loads(body[:size])["outputs"]}
    assert described.keys() == {"a", "c"}
    assert described["a"]["data"] == [1.5, 2.5]
    assert body[size:] == raw[1]


def _infer(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0], **changes}]}


@pytest.mark.parametrize(
    ("document", "rest", "length", "named"),
    [
        pytest.param([], b"", None, "the body", id="a-list"),
        pytest.param({}, b"", None, "inputs", id="no-inputs"),
        pytest.param({"inputs": []}, b"", None, "inputs", id="empty-inputs"),
        pytest.param({"inputs": [1]}, b"", None, "inputs[0]", id="no-tensor"),
        pytest.param(_infer(name=None), b"", None, "inputs[0].name", id="no-name"),
        pytest.param(_infer(datatype="FP8"), b"", None, "inputs[0] 'x'.datatype", id="datatype"),
        pytest.param(_infer(datatype=["FP32"]), b"", None, "inputs[0] 'x'.datatype", id="datatype-a-list"),
        pytest.param(_infer(datatype="BOOL"), b"", None, "inputs[0] 'x'.datatype", id="booleans-for-numbers"),
        pytest.param(_infer(shape=[1, 3]), b"", None, "inputs[0] 'x'.shape", id="width"),
        pytest.param(_infer(shape=[1, 2.0]), b"", None, "inputs[0] 'x'.shape", id="a-size-with-a-point"),
        pytest.param(_infer(shape=[]), b"", None, "inputs[0] 'x'.shape", id="no-shape"),
        pytest.param(_infer(shape=[1] * 9), b"", None, "inputs[0] 'x'.shape", id="too-many-dimensions"),
        pytest.param(_infer(shape=[MOST + 1, 2]), b"", None, "inputs[0] 'x'.shape", id="too-many-rows"),
        pytest.param(_infer(shape=[10**4000, 10**4000]), b"", None, "inputs[0] 'x'.shape", id="a-huge-size"),
        pytest.param(_infer(data=[1.0]), b"", None, "inputs[0] 'x'.data", id="too-few-values"),
        pytest.param(_infer(data=[1.0, True]), b"", None, "inputs[0] 'x'.data[1]", id="a-boolean"),
        pytest.param(_infer(data=[[1.0, False]]), b"", None, "inputs[0] 'x'.data[1]", id="a-nested-boolean"),
        pytest.param(_infer(data=[1.0, "2"]), b"", None, "inputs[0] 'x'.data.f1", id="a-text"),
        pytest.param(_infer(data=[[1.0], [2.0]]), b"", None, "inputs[0] 'x'.data[0]", id="ragged"),
        pytest.param(_infer(data=[[[1.0], 2.0]]), b"", None, "inputs[0] 'x'.data.f0", id="too-deep"),
        pytest.param(_infer(data=None), b"", None, "inputs[0] 'x'.data", id="no-data"),
        pytest.param({**_infer(), "id": 7}, b"", None, "id", id="id"),
        pytest.param({**_infer(), "parameters": []}, b"", None, "parameters", id="parameters"),
        pytest.param({**_infer(), "outputs": [{"name": "y"}]}, b"", None, "outputs[0].name", id="unknown-output"),
        pytest.param({**_infer(), "outputs": [{}]}, b"", None, "outputs[0].name", id="output-without-name"),
        pytest.param({**_infer(), "outputs": {}}, b"", None, "outputs", id="outputs"),
        pytest.param(_infer(), b"xx", b"all", "header inference-header-content-length", id="length-no-number"),
        pytest.param(_infer(), b"", b"99999", "header inference-header-content-length", id="length-too-long"),
        pytest.param(_infer(), b"", b"0", "header inference-header-content-length", id="length-zero"),
        pytest.param(_infer(), b"xx", b"", "the body: 2 bytes follow", id="bytes-left"),
        pytest.param(
            _infer(parameters={"binary_data_size": 8}), b"\0" * 8, b"", "inputs[0] 'x'.data: is given twice", id="both"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_named(
    document: Any, rest: bytes, length: bytes | None, named: str
) -> None:
    """Verify that the message begins with the field at fault; `length` b"" is the right one."""
    # orjson writes no such number, and reads none: what reads it is the way of NaN
    head = json.dumps(document).replace(str(10**4000), "1" + "0" * 4000).encode()
    stated = b"%d" % len(head) if length == b"" else length
    with pytest.raises(BadRequest) as refused:
        v2.decode(head + rest, PLAIN, MOST, stated)
    assert str(refused.value).startswith(named)


def test_a_shape_of_huge_sizes_is_refused_whatever_stands_beside_it() -> None:
    """Verify that numbers which only the lenient reader takes make a message, and no fault of the server's."""
    contract = tensors_of(TensorSpec("x", "FP32", (-1, -1, -1)))
    huge = "1" + "0" * 4000
    tensor = f'{{"name": "x", "datatype": "FP32", "shape": [1, {huge}, {huge}], "data": [NaN]}}'
    with pytest.raises(BadRequest, match=r"inputs\[0\] 'x'"):
        v2.decode(f'{{"inputs": [{tensor}]}}'.encode(), contract, MOST)


def test_a_shape_that_is_nested_deeply_is_refused() -> None:
    """Verify that a message about it does not go as deep as it does."""
    shape = "[" * 1000 + "]" * 1000
    body = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": {shape}, "data": [1, 2]}}]}}'
    with pytest.raises(BadRequest, match="shape"):
        v2.decode(body.encode(), PLAIN, MOST)


@pytest.mark.parametrize(
    ("datatype", "raw", "named"),
    [
        pytest.param("FP32", b"\0" * 7, "holds 7 bytes", id="a-byte-too-few"),
        pytest.param("FP32", b"\0" * 12, "holds 12 bytes", id="a-value-too-many"),
        pytest.param("BYTES", b"", "holds 0 whole strings", id="no-strings"),
        pytest.param("BYTES", b"\1\0\0", "holds 0 whole strings", id="half-a-length"),
        pytest.param("BYTES", b"\xff\xff\xff\xffx", "holds 0 whole strings", id="a-length-beyond-the-end"),
        pytest.param("BYTES", b"\1\0\0\0a\1\0\0\0bc", "holds 2 whole strings", id="a-byte-left"),
        pytest.param("BYTES", b"\1\0\0\0\xff\1\0\0\0b", "[0]: is no UTF-8", id="no-utf-8"),
    ],
)
def test_raw_bytes_that_are_not_the_tensor_are_refused(datatype: str, raw: bytes, named: str) -> None:
    """Verify that too few, too many and broken bytes are told from a tensor of two values."""
    tensor = {
        "name": "x",
        "datatype": datatype,
        "shape": [2],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = orjson.dumps({"inputs": [tensor]})
    with pytest.raises(BadRequest) as refused:
        v2.decode(head + raw, tensors_of(TensorSpec("x", datatype, (-1,))), MOST, b"%d" % len(head))
    assert named in str(refused.value)
    assert "inputs[0] 'x'" in str(refused.value)


# ---- answers

SCORES = st.one_of(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(st.floats(0, 1), min_size=k, max_size=k), min_size=1, max_size=5)
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scores=SCORES,
    request_id=st.one_of(st.none(), st.text(st.characters(codec="utf-8"), min_size=1)),
    name=st.text('ab"\\{}[]', min_size=1),
    source=st.sampled_from(["online", "cached", "default"]),
    by=st.sampled_from(["model", "cache", "fallback", "static"]),
)
def test_the_common_answer_is_the_general_one(
    scores: list[Any],
    request_id: str | None,
    name: str,
    source: Any,
    by: Any,
) -> None:
    """Verify that an answer which is put together from pieces is the JSON document that it stands for."""
    columns = (len(scores[0]),) if isinstance(scores[0], list) else ()
    spec = TensorSpec(name, "FP32", (-1, *columns))
    contract = contract_of([sent("f0")], [spec])
    asked = Asked(len(scores), id=request_id)
    call = call_of(asked, source=source, outcome=Outcome([scores], by, None))
    body, size = v2.encode(call, contract)
    assert size is None
    general = call_of(asked, source=source, outcome=Outcome([np.array(scores, dtype=np.float64)], by, None))
    assert json.loads(body) == json.loads(v2.encode(general, contract)[0])
    assert json.loads(body)["id"] == (request_id or "id-1")


def test_a_score_may_be_asked_for_raw() -> None:
    """Verify that a model of rows gives raw scores, whether named or by the request's parameter."""
    for more in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "score", "parameters": {"binary_data": True}}]},
        {"parameters": {"binary_data_output": True}, "outputs": [{"name": "score"}]},
        {"parameters": {"binary_data_output": True}, "outputs": []},
    ):
        asked, _ = v2.decode(json.dumps({**_infer(), **more}).encode(), PLAIN, MOST)
        body, size = v2.encode(answered(asked, [[0.25]]), PLAIN)
        assert np.frombuffer(body[size:], "<f4").tolist() == [0.25]
    own = {"parameters": {"binary_data_output": True},
           "outputs": [{"name": "score", "parameters": {"binary_data": False}}]}  # fmt: skip
    asked, _ = v2.decode(json.dumps({**_infer(), **own}).encode(), PLAIN, MOST)
    body, size = v2.encode(answered(asked, [[0.25]]), PLAIN)
    assert size is None and json.loads(body)["outputs"][0]["data"] == [0.25]
