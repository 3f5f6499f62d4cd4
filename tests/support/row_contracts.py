"""Contracts of models that need not run: their inputs stated, everything else as a small model has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.runtime.bundle import Bundle, Form, Input, View
from serving.runtime.contract import Contract
from serving.runtime.engines.engine import TensorSpec
from serving.runtime.flow.call import Asked, Call
from serving.runtime.manifest import Transformation
from serving.runtime.signature import Signature

SCORE = TensorSpec("score", "FP32", (-1,))


def sent(name: str, **stated: Any) -> Input:
    """An input that callers send."""
    return Input(**{"name": name, "view": None, "categories": None, "default": math.nan, **stated})


def stored(name: str, view: str, default: float = math.nan) -> Input:
    """An input that is read from the online store."""
    return Input(name, view, None, default)


def bundle_of(
    inputs: Sequence[Input],
    *,
    entities: Mapping[str, str] = {},
    views: Sequence[View] = (),
    transformations: Sequence[Transformation] = (),
    folder: Path = Path(),
    sha256: Mapping[str, str] = {},
) -> Bundle:
    """A bundle of these inputs; `entities` with their types."""
    return Bundle(
        folder=folder,
        model="m",
        version="7",
        model_file="model.onnx",
        sha256=sha256,
        feature_service="service",
        feast_project="windlass",
        entities=tuple(entities),
        entity_types=entities,
        views=tuple(views),
        inputs=tuple(inputs),
        output="score",
        forms=(Form("onnx", "model.onnx"),),
        pickle=False,
        tensor_inputs=(TensorSpec("features", "FP32", (-1, len(inputs))),),
        tensor_outputs=(SCORE,),
        transformations=tuple(transformations),
    )


def contract_of(inputs: Sequence[Input], outputs: Sequence[TensorSpec] = (SCORE,), **stated: Any) -> Contract:
    """The contract of a model of rows; see `bundle_of`."""
    bundle = bundle_of(inputs, **stated)
    return Contract("m", "7", Signature(bundle), bundle.tensor_inputs, tuple(outputs), "onnx")


def tensors_of(*specs: TensorSpec) -> Contract:
    """The contract of a model of tensors that gives what it takes."""
    return Contract("m", "7", None, specs, specs, "onnx")


def numbers(asked: Asked) -> list[list[float]]:
    """The values of a request that sent them as they are, row by row."""
    values = asked.values
    flat = values if isinstance(values, np.ndarray) else np.frombuffer(values or b"", np.float64)
    rows: list[list[float]] = flat.reshape(asked.count, -1).tolist()
    return rows


def call_of(asked: Asked, **stated: Any) -> Call:
    """A request that nobody waits for."""
    call = Call(asked, "id-1", 0.0, math.inf, 0.0, lambda call: None)
    for name, value in stated.items():
        setattr(call, name, value)
    return call
