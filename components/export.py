"""The served artifact: every family as one ONNX graph, written node by node.

The converters that exist fail on one family or the other, and a tree needs little: an ensemble operator, a sum, a
sigmoid. Input `features` is float32 [N, F] with NaN for missing, output `probability` is float32 [N]. The graph
must agree with the library's own prediction, which `check_parity` measures on real rows.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.estimator import Fitted, LinearModel, predict
from windlass.errors import WindlassError

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

OPSET = 17
ML_OPSET = 3
IR_VERSION = 9
TOLERANCE = 1e-4
"""Largest difference in probability between the library and the artifact; float32 sums stay far below."""


@dataclass(frozen=True)
class ExportReport:
    """What was measured on the written file."""

    rows: int
    max_difference: float
    size_bytes: int
    single_row_ms: float


class Trees:
    """The attribute lists of a TreeEnsembleRegressor, filled node by node."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.trees = 0
        self._nodes: dict[str, list[Any]] = {
            k: []
            for k in (
                "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                "missing_value_tracks_true",
            )
        }  # fmt: skip
        self._target: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}

    def split(
        self, node: int, feature: int, threshold: float, true: int, false: int, missing_true: bool
    ) -> None:
        row = (self.trees, node, feature, threshold, self._mode, true, false, int(missing_true))
        for values, value in zip(self._nodes.values(), row, strict=True):
            values.append(value)

    def leaf(self, node: int, weight: float) -> None:
        for values, value in zip(
            self._nodes.values(), (self.trees, node, 0, 0.0, "LEAF", 0, 0, 0), strict=True
        ):
            values.append(value)
        for values, value in zip(self._target.values(), (self.trees, node, 0, weight), strict=True):
            values.append(value)

    def attributes(self, base: float) -> dict[str, Any]:
        attributes: dict[str, Any] = {f"nodes_{k}": v for k, v in self._nodes.items()}
        attributes |= {f"target_{k}": v for k, v in self._target.items()}
        return attributes | {"n_targets": 1, "base_values": [base], "aggregate_function": "SUM"}


def export(model: Fitted, inputs: int) -> onnx.ModelProto:
    """Write a trained model of `inputs` inputs as ONNX."""
    if model.family == "linear":
        nodes, constants = _linear(model.native)
    else:
        trees, base = (
            _of_boosting(model.native)
            if model.family == "hist_gradient_boosting"
            else _of_xgboost(model.native)
        )
        from onnx import helper

        nodes = [
            helper.make_node(
                "TreeEnsembleRegressor",
                ["features"],
                ["margins"],
                domain="ai.onnx.ml",
                **trees.attributes(base),
            )
        ]
        constants = []
    return _finish(nodes, constants, inputs)


def float32_below(threshold: float) -> float:
    """Return the largest float32 not above `threshold`: `x <= t` keeps its meaning for every float32 x."""
    import numpy as np

    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    if float(near) > threshold:
        near = np.nextafter(near, np.float32(-math.inf))
    return float(near)


def load(path: Path, threads: int = 1) -> Any:
    """Open an artifact for prediction."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def score(session: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return P(label = 1) of each row by the artifact."""
    import numpy as np

    return np.asarray(session.run(["probability"], {"features": inputs})[0], dtype=np.float64)


def single_row_ms(session: Any, rows: NDArray[np.float32], repeats: int = 300) -> float:
    """Median wall time of a prediction of one row, in milliseconds."""
    import numpy as np

    singles = [np.ascontiguousarray(rows[i % len(rows)][None, :]) for i in range(repeats)]
    for single in singles[:20]:
        session.run(["probability"], {"features": single})
    times = []
    for single in singles:
        started = time.perf_counter()
        session.run(["probability"], {"features": single})
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1e3)


def check_parity(model: Fitted, path: Path, rows: NDArray[np.float32]) -> ExportReport:
    """Hold the written artifact to the library's prediction on `rows`.

    Raises:
        WindlassError: they differ by more than float32 sums may.
    """
    import numpy as np

    session = load(path)
    difference = float(np.max(np.abs(score(session, rows) - predict(model, rows))))
    if not difference <= TOLERANCE:
        raise WindlassError(
            f"the ONNX export of the {model.family} model differs from the library by {difference:.2e} in probability "
            f"on {len(rows)} rows (bound {TOLERANCE:.0e}); the artifact is not used; "
            "please report the model's parameters"
        )
    return ExportReport(len(rows), difference, path.stat().st_size, single_row_ms(session, rows))


def _of_boosting(native: Any) -> tuple[Trees, float]:
    trees = Trees("BRANCH_LEQ")
    for (predictor,) in native._predictors:
        for i, node in enumerate(predictor.nodes):
            if node["is_leaf"]:
                trees.leaf(i, float(node["value"]))
            else:
                trees.split(
                    i,
                    int(node["feature_idx"]),
                    float32_below(float(node["num_threshold"])),
                    int(node["left"]),
                    int(node["right"]),
                    bool(node["missing_go_to_left"]),
                )
        trees.trees += 1
    return trees, float(native._baseline_prediction.ravel()[0])


def _of_xgboost(booster: Any) -> tuple[Trees, float]:
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    # written as "[4.38E-1]" since 3.1 and as "4.38E-1" before; a probability, while margins are summed
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    trees = Trees("BRANCH_LT")
    for tree in learner["gradient_booster"]["model"]["trees"]:
        for i, left in enumerate(tree["left_children"]):
            value = float(tree["split_conditions"][i])
            if left == -1:
                trees.leaf(i, value)
            else:
                trees.split(
                    i,
                    tree["split_indices"][i],
                    value,
                    left,
                    tree["right_children"][i],
                    bool(tree["default_left"][i]),
                )
        trees.trees += 1
    return trees, math.log(base / (1 - base))


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


def _finish(nodes: list[Any], constants: list[Any], inputs: int) -> onnx.ModelProto:
    from numpy import array, int64
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = [*constants, numpy_helper.from_array(array([-1], dtype=int64), "flat")]
    nodes = [
        *nodes,
        helper.make_node("Sigmoid", ["margins"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "windlass",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        constants,
    )
    model = helper.make_model(
        graph,
        producer_name="windlass",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    checker.check_model(model)
    return model
