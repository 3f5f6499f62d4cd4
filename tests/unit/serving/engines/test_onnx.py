"""The ONNX engine: models of rows, models of tensors, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from serving.runtime import bundle
from serving.runtime.engines.engine import ModelError
from serving.runtime.engines.opening import open_engine
from windlass.errors import UsageError

MakeBundle = Callable[..., Path]


def test_missing_values_reach_the_model(make_bundle: MakeBundle, model_of: Callable[..., bytes]) -> None:
    """Verify that NaN is passed on as it is: the model takes it as zero."""
    engine = open_engine(bundle.load(make_bundle({"model.onnx": model_of(0.5)}))).engine
    (answer,) = engine.run([np.array([[1, 2, np.nan, 4], [0, 0, 0, 0]], dtype=np.float32)])
    assert answer.tolist() == [7.5, 0.5]


def tensor_model() -> bytes:
    """Two tensors in; the first comes back flat, the second as it is."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Identity", ["flat"], ["pixels"]),
        helper.make_node("Identity", ["label"], ["name"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tensors",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, 3]),
            helper.make_tensor_value_info("label", TensorProto.STRING, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 6]),
            helper.make_tensor_value_info("name", TensorProto.STRING, ["N", 1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


TENSORS = {
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]},
        {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "name", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "pixels", "datatype": "FP32", "shape": [-1, 6]},
    ],
}


def test_tensors_are_found_by_name(make_bundle: MakeBundle) -> None:
    """Verify that several inputs and outputs, texts among them, go by name and in the bundle's order."""
    folder = make_bundle({"model.onnx": tensor_model()}, inputs=None, output=None, tensors=TENSORS)
    engine = open_engine(bundle.load(folder)).engine
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    name, pixels = engine.run([image, np.array([["a"], ["b"]], dtype=object)])
    assert name.tolist() == [["a"], ["b"]]
    assert pixels.tolist() == image.reshape(2, 6).tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"output": "chance"}, r"it has no output 'chance'; it has \['probability'\]", id="output"
        ),
        pytest.param(
            {"inputs": [{"name": "f", "view": None}]},
            r"its input 'features' is tensor\(float\) of \(-1, 4\), the bundle states FP32 of \(-1, 1\)",
            id="width",
        ),
        pytest.param(
            {
                "inputs": None,
                "output": None,
                "tensors": {
                    "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}],
                    "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1]}],
                },
            },
            r"tensor\(float\) of \(-1, 4\), the bundle states FP64",
            id="datatype",
        ),
    ],
)
def test_a_model_that_is_not_what_the_bundle_states_is_refused(
    make_bundle: MakeBundle, model_of: Callable[..., bytes], fields: dict[str, Any], message: str
) -> None:
    """Verify that names, types and shapes are compared before the first row."""
    with pytest.raises(UsageError, match=message):
        open_engine(bundle.load(make_bundle({"model.onnx": model_of(0)}, **fields)))


def test_bytes_that_are_no_model_are_refused(make_bundle: MakeBundle) -> None:
    """Verify that the message names the model, its version and the library."""
    with pytest.raises(UsageError, match="model m version 7: ONNX Runtime cannot load it"):
        open_engine(bundle.load(make_bundle({"model.onnx": b"no model"})))


def test_a_question_of_another_shape_is_the_models_failure(
    make_bundle: MakeBundle, model_of: Callable[..., bytes]
) -> None:
    """Verify that what ONNX Runtime raises becomes a ModelError with model and version."""
    engine = open_engine(bundle.load(make_bundle({"model.onnx": model_of(0)}))).engine
    with pytest.raises(ModelError, match=r"(?s)model m version 7 failed: .*Got: 3 Expected: 4"):
        engine.run([np.zeros((2, 3), dtype=np.float32)])
