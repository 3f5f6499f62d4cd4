"""The ONNX graph, written node by node: input `features` float32 [N, F] with NaN for missing, one float32 output.

The converters that exist fail on one family or the other, and a forest needs little: an ensemble operator and a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.estimator import LinearModel
from components.export.forest import Forest

if TYPE_CHECKING:
    import onnx

OPSET = 17
ML_OPSET = 3
IR_VERSION = 9
LINKS = {"identity": "Identity", "sigmoid": "Sigmoid", "softmax": "Softmax", "exp": "Exp"}


def opsets() -> list[Any]:
    """The operator sets that our graphs state."""
    from onnx import helper

    return [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]


def of_forest(forest: Forest, inputs: int, output: str) -> onnx.ModelProto:
    """Write a forest over `inputs` features; `output` is [N] for one column and else [N, columns]."""
    from onnx import helper

    trees = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["margins"], domain="ai.onnx.ml", **forest.attributes()
    )
    return _finish([trees], [], inputs, output, columns=forest.columns, link=LINKS[forest.link])


def of_linear(model: LinearModel, inputs: int) -> onnx.ModelProto:
    """Write a logistic regression with its imputation, scaling and one-hot encoding; the output is `probability`."""
    nodes, constants = _linear(model)
    return _finish(nodes, constants, inputs, "probability", columns=1, link="Sigmoid")


def _linear(model: LinearModel) -> tuple[list[Any], list[Any]]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    numeric = [i for i, size in enumerate(model.categories) if size == 0]
    categorical = [i for i, size in enumerate(model.categories) if size]
    constants: list[Any] = []

    def constant(name: str, values: Any, dtype: Any = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    nodes, terms = [], []
    if numeric:
        weights = np.asarray(model.weights)[:, None]
        nodes += [
            helper.make_node(
                "Gather", ["features", constant("numeric", numeric, np.int64)], ["numbers"], axis=1
            ),
            helper.make_node("IsNaN", ["numbers"], ["absent"]),
            helper.make_node(
                "Where", ["absent", constant("medians", [model.medians]), "numbers"], ["filled"]
            ),
            helper.make_node("Sub", ["filled", constant("means", [model.means])], ["centred"]),
            helper.make_node("Div", ["centred", constant("scales", [model.scales])], ["scaled"]),
            helper.make_node("MatMul", ["scaled", constant("weights", weights)], ["numeric_margin"]),
        ]
        terms.append("numeric_margin")
    for column, offsets in zip(categorical, model.offsets, strict=True):
        name = f"category_{column}"
        # NaN equals nothing, so a missing or unknown category adds nothing
        nodes += [
            helper.make_node(
                "Gather", ["features", constant(f"{name}_at", [column], np.int64)], [name], axis=1
            ),
            helper.make_node(
                "Equal", [name, constant(f"{name}_values", [list(range(len(offsets)))])], [f"{name}_is"]
            ),
            helper.make_node("Cast", [f"{name}_is"], [f"{name}_hot"], to=TensorProto.FLOAT),
            helper.make_node(
                "MatMul",
                [f"{name}_hot", constant(f"{name}_weights", np.asarray(offsets)[:, None])],
                [f"{name}_margin"],
            ),
        ]
        terms.append(f"{name}_margin")
    nodes.append(helper.make_node("Sum", [*terms, constant("intercept", [[model.intercept]])], ["margins"]))
    return nodes, constants


def _finish(
    nodes: list[Any], constants: list[Any], inputs: int, output: str, *, columns: int, link: str
) -> onnx.ModelProto:
    """Put the link on `margins` [N, columns], and drop the second dimension where it is one."""
    from numpy import array, int64
    from onnx import TensorProto, checker, helper, numpy_helper

    if columns == 1:
        constants = [*constants, numpy_helper.from_array(array([-1], dtype=int64), "flat")]
        last = [
            helper.make_node(link, ["margins"], ["column"]),
            helper.make_node("Reshape", ["column", "flat"], [output]),
        ]
    else:
        last = [helper.make_node(link, ["margins"], [output])]
    graph = helper.make_graph(
        [*nodes, *last],
        "windlass",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"] if columns == 1 else ["N", columns])],
        constants,
    )
    model = helper.make_model(
        graph,
        producer_name="windlass",
        ir_version=IR_VERSION,
        opset_imports=opsets(),
    )
    checker.check_model(model)
    return model
