"""A second reading of a V2 request, by other means than the server's: says whether a damaged body is still one."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from benchmarks.serving.fuzz_case import Expected, answered, refused
from benchmarks.serving.fuzz_subject import FEATURES, REQUIRED, plain_scores

NUMERIC = {"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
FLOATS = {"FP16", "FP32", "FP64"}


def judge(body: bytes) -> Expected:
    """What the plain model must answer to a body in which one matrix was sent and a few bytes were changed."""
    try:
        text = body.decode()
        document = json.loads(text)
    except ValueError:
        return refused("the body")
    return _judge(document)


def _judge(document: Any) -> Expected:
    if not isinstance(document, dict):
        return refused("the body")
    tensors = document.get("inputs")
    if not isinstance(tensors, list) or not tensors or not isinstance(tensors[0], dict):
        return refused("inputs")
    tensor, request_id = tensors[0], document.get("id")
    if request_id is not None and not _is_id(request_id):
        return refused("id")
    shape, data = tensor.get("shape"), tensor.get("data")
    data = data if isinstance(data, list) else []
    numbers = all(type(v) in (int, float) or v is None for v in data)
    fits = (
        len(tensors) == 1
        and isinstance(tensor.get("name"), str)
        and tensor.get("datatype") in NUMERIC
        and shape == [1, FEATURES]
        and all(type(size) is int for size in shape)
        and numbers
        and len(data) == FEATURES
    )
    if not fits:
        return refused("inputs[")
    row = [math.nan if value is None else float(value) for value in data]
    with np.errstate(over="ignore"):
        matrix = np.array([row], dtype=np.float32)
    if np.isinf(matrix).any() or np.isnan(matrix[0, :REQUIRED]).any():
        return refused("inputs")
    return answered(plain_scores(matrix))


def _is_id(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value.isascii() and value.isprintable() and " " not in value and len(value) <= 128
