"""ONNX models that were logged as such, and the 8-bit form of dense networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.export.forest import NotExportableError
from components.export.subject import Subject, names_of
from components.logged_model import LoggedModel
from serving.runtime.engines.engine import TensorSpec
from serving.runtime.engines.onnx import TYPES, session_of
from windlass.errors import UsageError

if TYPE_CHECKING:
    from components.export.candidates import Candidate


def of(logged: LoggedModel, model: Any) -> Subject:
    """A logged graph: a model of rows where it takes one float32 [N, F] and gives one number a row, else of tensors."""
    session = session_of(model.SerializeToString(), f"model {logged.folder}")
    inputs = tuple(_spec(logged, node) for node in session.get_inputs())
    outputs = tuple(_spec(logged, node) for node in session.get_outputs() if node.type in TYPES)
    if not outputs:
        raise UsageError(
            f"model {logged.folder} gives no tensor (a zipmap is none); convert it with zipmap switched off"
        )
    names = [o.name for o in outputs]

    def predict(arrays: Sequence[Any]) -> tuple[Any, ...]:
        given = session.run(names, {s.name: a for s, a in zip(inputs, arrays, strict=True)})
        if rows and given[0].ndim == 2:
            given = [given[0].reshape(-1)]
        return tuple(given)

    rows = (
        len(inputs) == len(outputs) == 1
        and inputs[0].datatype == outputs[0].datatype == "FP32"
        and len(inputs[0].shape) == 2
        and inputs[0].shape[1] > 0
        and outputs[0].shape in ((-1,), (-1, 1))
    )
    if rows:
        width = inputs[0].shape[1]
        single = (TensorSpec(outputs[0].name, "FP32", (-1,)),)
        taken = (TensorSpec("features", "FP32", (-1, width)),)
        return Subject("onnx", model, logged, names_of(logged, width), taken, single, (), predict)
    return Subject("onnx", model, logged, (), inputs, outputs, (), predict)


def candidates(subject: Subject, *, int8: bool) -> list[Candidate]:
    from components.export.candidates import INT8_TOLERANCE, Candidate

    def write(path: Path) -> None:
        path.write_bytes(subject.model.SerializeToString())

    def write_int8(path: Path) -> None:
        exact = path.with_suffix(".float32")
        try:
            write(exact)
            quantize(exact, path)
        finally:
            exact.unlink(missing_ok=True)

    found = [Candidate("onnx", "model.onnx", 0.0, write, native=True)]
    if int8:
        found.append(Candidate("onnx", "model.int8.onnx", INT8_TOLERANCE, write_int8, precision="int8"))
    return found


def quantize(source: Path, target: Path) -> None:
    """Write the 8-bit form of a dense network: weights in int8, activations scaled as they come.

    Raises:
        NotExportableError: it has no dense layer, so nothing would become smaller.
    """
    import onnx

    dense = {"MatMul", "Gemm"}
    if not any(node.op_type in dense for node in onnx.load(source).graph.node):
        raise NotExportableError("it has no dense layer: 8 bits are for matrices of weights")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, weight_type=QuantType.QInt8)


def _spec(logged: LoggedModel, node: Any) -> TensorSpec:
    if node.type not in TYPES:
        raise UsageError(
            f"model {logged.folder}: its input {node.name!r} is a {node.type}, which no request carries"
        )
    free = [n if isinstance(n, int) else -1 for n in node.shape]
    # a graph of one fixed row is none that serves batches; its first dimension counts rows all the same
    return TensorSpec(node.name, TYPES[node.type], (-1, *free[1:]))
