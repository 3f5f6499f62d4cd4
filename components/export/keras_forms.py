"""Keras models: as ONNX and as TensorFlow Lite by Keras's and TensorFlow's own converters, and as Keras wrote them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.export.forest import NotExportableError
from components.export.subject import DATATYPES, Subject, names_of
from components.logged_model import LoggedModel
from serving.runtime.engines.engine import TensorSpec
from windlass.errors import UsageError

if TYPE_CHECKING:
    from components.export.candidates import Candidate

REPRESENTATIVE_ROWS = 500
"""Rows whose activations set the scales of the 8-bit form."""


def subject(logged: LoggedModel, model: Any) -> Subject:
    """A Keras model: of rows where it takes one float32 [N, F] and gives one number or a softmax, else of tensors."""
    if not hasattr(model, "inputs") or not model.inputs:
        raise UsageError(
            f"model {logged.folder} is no built Keras model; build it with an Input layer and log it again"
        )
    inputs = tuple(_spec(t, t.name) for t in model.inputs)
    # Keras names outputs after a counter; these are the names that its exports give them
    outputs = tuple(_spec(t, f"output_{i}") for i, t in enumerate(model.outputs))

    def predict(arrays: Sequence[Any]) -> tuple[Any, ...]:
        given = model.predict(arrays[0] if len(arrays) == 1 else list(arrays), verbose=0, batch_size=256)
        answers = list(given.values()) if isinstance(given, dict) else given
        answers = answers if isinstance(answers, list) else [answers]
        return tuple(a.reshape(-1) if rows and a.shape[1] == 1 else a for a in answers)

    name, classes = _meaning(model)
    rows = (
        len(inputs) == len(outputs) == 1
        and len(inputs[0].shape) == len(outputs[0].shape) == 2
        and inputs[0].datatype == outputs[0].datatype == "FP32"
        and (outputs[0].shape[1] == 1 or len(classes) > 2)
    )
    if not rows:
        return Subject("keras", model, logged, (), inputs, outputs, (), predict)
    width = inputs[0].shape[1]
    shape = (-1, len(classes)) if len(classes) > 2 else (-1,)
    specs = (TensorSpec("features", "FP32", (-1, width)),), (TensorSpec(name, "FP32", shape),)
    return Subject("keras", model, logged, names_of(logged, width), *specs, classes, predict)


def candidates(subject: Subject, *, int8: bool, rows: Sequence[Any]) -> list[Candidate]:
    """The forms of a Keras model; `rows`, one array for each input, set the scales of the 8-bit one."""
    from components.export.candidates import INT8_TOLERANCE, TOLERANCE, Candidate

    model = subject.model
    found = [
        Candidate("onnx", "model.onnx", TOLERANCE, lambda path: _write_onnx(subject, path)),
        Candidate("litert", "model.tflite", TOLERANCE, lambda path: _write_litert(model, path, None)),
        # a traced function may be fused otherwise than `predict`: float32 arithmetic, and not the last bit
        Candidate("keras", "model.keras", 1e-6, lambda path: model.save(path), native=True),
    ]
    if int8:
        found.append(
            Candidate(
                "litert",
                "model.int8.tflite",
                INT8_TOLERANCE,
                lambda path: _write_litert(model, path, rows),
                precision="int8",
            )
        )
    return found


def _spec(tensor: Any, name: str) -> TensorSpec:
    dtype = np.dtype(tensor.dtype) if tensor.dtype != "string" else np.dtype(object)
    return TensorSpec(name, DATATYPES[str(dtype)], (-1, *(n or -1 for n in tensor.shape[1:])))


def _meaning(model: Any) -> tuple[str, tuple[str, ...]]:
    """The output's name, and the classes, as the last layer's activation says."""
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    units = model.outputs[0].shape[-1]
    if activation == "sigmoid" and units == 1:
        return "probability", ("0", "1")
    if activation == "softmax" and units > 2:
        return "probabilities", tuple(str(i) for i in range(units))
    return "prediction", ()


def _write_onnx(subject: Subject, path: Path) -> None:
    import onnx

    try:
        with _quiet():
            subject.model.export(path, format="onnx", verbose=False)
    except Exception as error:  # a layer without an ONNX operator is refused in many ways
        raise NotExportableError(f"Keras cannot export it as ONNX: {error}") from error
    graph = onnx.load(path)
    # the converter names the outputs after its own graph's nodes
    for output, spec in zip(graph.graph.output, subject.outputs, strict=True):
        graph.graph.node.append(onnx.helper.make_node("Identity", [output.name], [spec.name]))
        output.name = spec.name
    onnx.save(graph, path)


def _write_litert(model: Any, path: Path, representative: Sequence[Any] | None) -> None:
    import tensorflow  # type: ignore[import-untyped]

    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if representative is not None:
        count = min(REPRESENTATIVE_ROWS, len(representative[0]))
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [np.asarray(a[i : i + 1], dtype=a.dtype) for a in representative] for i in range(count)
        )
    try:
        with _quiet():
            path.write_bytes(converter.convert())
    except Exception as error:  # as above
        raise NotExportableError(f"TensorFlow Lite cannot convert it: {error}") from error


@contextlib.contextmanager
def _quiet() -> Any:
    """The converters print their progress, and a command's output is one object."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.redirect_stdout(io.StringIO()):
        yield
