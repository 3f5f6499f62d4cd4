"""What callers are told of a model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from row_contracts import contract_of, sent, stored, tensors_of

from serving.runtime.bundle import View
from serving.runtime.contract import PLATFORMS, Contract
from serving.runtime.engines.engine import TensorSpec
from serving.runtime.manifest import FORMATS
from serving.runtime.refusal import FieldError

PLAIN = contract_of([sent("f0"), sent("f1")])
FEATURES = contract_of(
    [stored("mean", "delays"), sent("hour"), sent("dest", categories=("ATL",)), sent("ratio", transformation="t")],
    entities={"carrier": "string", "seat": "int64", "row": "int32"},
    views=[View("delays", "carrier", 0.0, ("mean",))],
)  # fmt: skip
TENSORS = tensors_of(TensorSpec("image", "FP32", (-1, 28, 28)), TensorSpec("text", "BYTES", (-1,)))


def described(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


@pytest.mark.parametrize(
    ("contract", "inputs"),
    [
        pytest.param(PLAIN, [described("features", "FP32", [-1, 2])], id="one-matrix"),
        pytest.param(
            FEATURES,
            [
                described("carrier", "BYTES", [-1]),
                described("seat", "INT64", [-1]),
                described("row", "INT32", [-1]),
                described("hour", "FP64", [-1]),
                described("dest", "BYTES", [-1]),
            ],
            id="entities-and-fields",
        ),
        pytest.param(
            TENSORS,
            [described("image", "FP32", [-1, 28, 28]), described("text", "BYTES", [-1])],
            id="tensors",
        ),
    ],
)
def test_the_metadata_names_what_a_request_must_hold(
    contract: Contract, inputs: list[dict[str, Any]]
) -> None:
    """Verify that inputs are those that callers send: not what is read for them, nor what is made of it."""
    metadata = contract.metadata()
    assert metadata["inputs"] == inputs
    assert metadata["outputs"] == [described(o.name, o.datatype, list(o.shape)) for o in contract.outputs]
    assert (metadata["name"], metadata["versions"]) == ("m", ["7"])
    assert metadata["parameters"]["form"] == "onnx"
    orjson.dumps(metadata)


def test_every_format_has_a_platform() -> None:
    """Verify that the metadata has a name for whatever can run."""
    assert PLATFORMS.keys() == set(FORMATS)


def test_an_output_that_is_not_there_is_named() -> None:
    """Verify that the message lists the outputs that are."""
    assert TENSORS.wanted("text", "outputs[0].name") == "text"
    with pytest.raises(FieldError, match=r"outputs\[0\]\.name: got 'x' .* one of image, text"):
        TENSORS.wanted("x", "outputs[0].name")
    with pytest.raises(FieldError, match="the only output, 'score'"):
        PLAIN.wanted(["score"], "outputs[0].name")


def test_what_begins_an_answer_is_json_once_it_is_closed() -> None:
    """Verify that the pieces an answer is put together from are those of a document."""
    assert orjson.loads(PLAIN.head[:-1] + b"}") == {"model_name": "m", "model_version": "7"}
    assert orjson.loads(b"{" + PLAIN.output_head[:-1] + b"}]}") == {
        "outputs": [{"name": "score", "datatype": "FP32"}]
    }
    assert PLAIN.version_header == b"x-windlass-version: 7\r\n"
