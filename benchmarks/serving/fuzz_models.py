"""The ONNX models that are fuzzed: small formulas, with every kind of input and output.

Inputs are clipped inside the models: no finite number makes them overflow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LABELS = {"a": 1.0, "b": 2.0}
OTHER_LABEL = -1.0
LIMIT = 1000.0
"""The models take anything beyond it for this much."""

Rows = NDArray[np.float32]

TENSORS = {
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]},
        {"name": "counts", "datatype": "INT32", "shape": [-1, 2]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
    ],
    "outputs": [
        {"name": "total", "datatype": "FP32", "shape": [-1]},
        {"name": "wide", "datatype": "INT64", "shape": [-1, 2]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ],
}


def rows_model(weights: Rows, link: str, output: str) -> bytes:
    """An ONNX model of rows, float32 [N, len(weights)]: weighted, a missing one as nothing, and a link function."""
    from onnx import TensorProto, helper, numpy_helper

    single = weights.shape[1] == 1
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("Clip", ["filled", "least", "most"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "weights"], ["logit"]),
        helper.make_node(link, ["logit"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], [output]),
    ]
    constants = {
        "zero": np.float32(0),
        "least": np.float32(-LIMIT),
        "most": np.float32(LIMIT),
        "weights": weights,
        "flat": np.array([-1] if single else [-1, weights.shape[1]], dtype=np.int64),
    }
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(weights)])
    shape = ["N"] if single else ["N", weights.shape[1]]
    given = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "rows", [taken], [given], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def tensors_model() -> bytes:
    """The ONNX model of `TENSORS`: the sum of whatever it is given, and two inputs given back."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Clip", ["image", "least", "most"], ["clipped"]),
        helper.make_node("ReduceSum", ["clipped", "pixels"], ["bright"], keepdims=0),
        helper.make_node("Cast", ["counts"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Cast", ["counts"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "columns"], ["many"], keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["label"],
            ["known"],
            domain="ai.onnx.ml",
            keys_strings=list(LABELS),
            values_floats=list(LABELS.values()),
            default_float=OTHER_LABEL,
        ),
        helper.make_node("Identity", ["label"], ["text"]),
        helper.make_node("Cast", ["flag"], ["raised"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["bright", "many", "known", "raised"], ["total"]),
    ]
    kinds = {
        "FP32": TensorProto.FLOAT,
        "INT32": TensorProto.INT32,
        "INT64": TensorProto.INT64,
        "BYTES": TensorProto.STRING,
        "BOOL": TensorProto.BOOL,
    }
    described = {
        side: [
            helper.make_tensor_value_info(
                str(t["name"]), kinds[str(t["datatype"])], ["N", *list(t["shape"])[1:]]
            )
            for t in TENSORS[side]
        ]
        for side in ("inputs", "outputs")
    }
    constants = {
        "least": np.float32(-LIMIT),
        "most": np.float32(LIMIT),
        "pixels": np.array([1, 2], dtype=np.int64),
        "columns": np.array([1], dtype=np.int64),
    }
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "tensors", described["inputs"], described["outputs"], initial)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
