"""ModelInfer as messages: what is read of a request, what is refused of it, and how an answer is written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.runtime.contract import Contract
from serving.runtime.flow.call import Asked, Call, Outcome
from serving.runtime.protocol import grpc_infer, messages
from serving.runtime.refusal import BadRequest

MESSAGES = messages.load()
MOST_ROWS = 100
ROW = [0.5] * 30
RAW = struct.pack("<30f", *ROW)
Serve = Callable[..., Any]


@pytest.fixture
def contract(serve: Serve) -> Callable[[str], Contract]:
    return lambda model: serve(model).loaded.served.contract


def request(*tensors: dict[str, Any], raw: list[bytes] | None = None, **more: Any) -> Any:
    made = MESSAGES["inference.ModelInferRequest"](raw_input_contents=raw or (), **more)
    for tensor in tensors:
        made.inputs.add(**tensor)
    return made


def features(shape: list[int], datatype: str = "FP32", **contents: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": datatype, "shape": shape, **contents}


def contents(**fields: Any) -> dict[str, Any]:
    return {"contents": fields}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(features([1, 30]), raw=[RAW]), id="raw"),
        pytest.param(request(features([1, 30], "FP64"), raw=[struct.pack("<30d", *ROW)]), id="raw-doubles"),
        pytest.param(request(features([1, 30], **contents(fp32_contents=ROW))), id="typed"),
        pytest.param(request(features([1, 30], "FP64", **contents(fp64_contents=ROW))), id="typed-doubles"),
    ],
)
def test_every_encoding_reads_as_the_same_row(contract: Any, asked: Any) -> None:
    """Verify that raw and typed tensors of both widths mean the same matrix."""
    found = grpc_infer.decode(asked, contract("tumours"), MOST_ROWS)
    assert found.count == 1
    values = np.frombuffer(found.values) if isinstance(found.values, bytes) else found.values
    assert values.reshape(-1).tolist() == ROW


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        pytest.param(request(), "inputs", id="no-tensor"),
        pytest.param(
            request(features([1, 30]), raw=[RAW, RAW]), "raw_input_contents", id="more-raw-than-tensors"
        ),
        pytest.param(request(features([1, 30]), raw=[RAW[:-1]]), "raw_input_contents[0]", id="raw-too-short"),
        pytest.param(
            request(features([2, 30]), raw=[RAW]), "raw_input_contents[0]", id="fewer-rows-than-said"
        ),
        pytest.param(request(features([1, 29]), raw=[RAW[:-4]]), ".shape", id="wrong-width"),
        pytest.param(request(features([-1, 30]), raw=[RAW]), ".shape", id="negative-size"),
        pytest.param(request(features([0, 30]), raw=[b""]), ".shape", id="no-rows"),
        pytest.param(request(features([101, 30]), raw=[RAW * 101]), ".shape", id="too-many-rows"),
        pytest.param(request(features([1, 30], "BF16"), raw=[RAW]), ".datatype", id="unknown-datatype"),
        pytest.param(
            request(features([1, 30], "FP16", **contents(fp32_contents=ROW))), ".datatype", id="typed-halves"
        ),
        pytest.param(
            request(features([1, 30], **contents(fp32_contents=ROW)), raw=[RAW]),
            ".contents",
            id="given-twice",
        ),
        pytest.param(
            request(features([1, 30], **contents(fp64_contents=ROW))), "fp32_contents", id="in-another-field"
        ),
        pytest.param(
            request(features([1, 30]), raw=[RAW], outputs=[{"name": "logits"}]),
            "outputs[0].name",
            id="output",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(contract: Any, asked: Any, names: str) -> None:
    """Verify that a refusal names the field."""
    with pytest.raises(BadRequest) as refusal:
        grpc_infer.decode(asked, contract("tumours"), MOST_ROWS)
    assert names in str(refusal.value)


def test_texts_must_be_utf_8(contract: Any) -> None:
    """Verify that bytes which are no text are refused, typed and raw."""
    tensor = {"name": "carrier", "datatype": "BYTES", "shape": [1]}
    for asked in (
        request({**tensor, **contents(bytes_contents=[b"\xff"])}),
        request(tensor, raw=[struct.pack("<I", 1) + b"\xff"]),
    ):
        with pytest.raises(BadRequest, match="UTF-8"):
            grpc_infer.decode(asked, contract("flights"), MOST_ROWS)


def answered(contract: Contract, outputs: list[Any], asked: Asked) -> Any:
    response_class = MESSAGES["inference.ModelInferResponse"]
    call = Call(
        asked,
        "made-up",
        0.0,
        0.0,
        0.0,
        lambda call: None,
        source="cached",
        outcome=Outcome(outputs, "cache", None),
    )
    encoder = grpc_infer.Encoder(response_class)
    # twice: what is kept of the first answer must not change the second
    first, second = (encoder.encode(call, contract) for _ in range(2))
    assert first == second
    return response_class.FromString(first)


def test_an_answer_is_raw_where_the_request_was(contract: Any) -> None:
    """Verify names, shape, values and parameters, and that no tensor is given twice."""
    known = contract("tumours")
    for binary in ([], ["probability"]):
        response = answered(known, [[0.25, 0.5]], Asked(2, binary=binary))
        assert (response.model_name, response.model_version, response.id) == ("tumours", "1", "made-up")
        assert {n: p.string_param for n, p in response.parameters.items()} == {
            "feature_source": "cached",
            "answered_by": "cache",
        }
        [output] = response.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("probability", "FP32", [2])
        raw, typed = list(response.raw_output_contents), list(output.contents.fp32_contents)
        assert (raw, typed) == (([struct.pack("<2f", 0.25, 0.5)], []) if binary else ([], [0.25, 0.5]))


def test_an_answer_of_tensors_has_those_that_were_asked_for(contract: Any) -> None:
    """Verify text and whole numbers, and that an output which is not wanted is left out."""
    outputs = [np.array([["a", "ü"]], dtype=object), np.array([[1, 2**62]]), np.array([[0.5, 1e300]])]
    response = answered(contract("kinds"), outputs, Asked(1, outputs=["text_out", "count_out"]))
    assert [o.name for o in response.outputs] == ["text_out", "count_out"]
    assert [v.decode() for v in response.outputs[0].contents.bytes_contents] == ["a", "ü"]
    assert list(response.outputs[1].contents.int64_contents) == [1, 2**62]
    assert list(response.outputs[1].shape) == [1, 2]
