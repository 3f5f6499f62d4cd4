"""Requests that a model answers, for readers who would rather copy than read."""

from __future__ import annotations

import math
from typing import Any

from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, TensorSpec
from serving.runtime.signature import Signature


def v1(contract: Contract) -> Any:
    """A V1 request of one row that the model answers."""
    signature = contract.signature
    if signature is None:
        values = {s.name: _filled(s.shape[1:], s) for s in contract.inputs}
        return {"instances": [next(iter(values.values())) if len(values) == 1 else values]}
    if signature.plain:
        return {"instances": [[0.5] * signature.width]}
    return {"instances": [_example_row(signature)]}


def v2(contract: Contract) -> Any:
    """A V2 request of one row that the model answers."""
    inputs = []
    row = {} if contract.signature is None else _example_row(contract.signature)
    for tensor in contract.metadata()["inputs"]:
        shape = [abs(n) for n in tensor["shape"]]
        value = row.get(tensor["name"], "" if tensor["datatype"] == "BYTES" else 0)
        inputs.append({**tensor, "shape": shape, "data": [value] * math.prod(shape)})
    return {"inputs": inputs}


def _example_row(signature: Signature) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in signature.fields:
        first = next(iter(field.categories or ()), "")
        row[field.name] = 0.5 if field.categories is None else first
    for name, kind in signature.entities:
        row[name] = row.get(name, "key") if kind == "string" else 1
    return row


def _filled(shape: tuple[int, ...], spec: TensorSpec) -> Any:
    zero: Any = {"b": False, "O": "", "f": 0.5}.get(DTYPES[spec.datatype].kind, 0)
    for size in reversed(shape):
        zero = [zero] * abs(size)
    return zero
