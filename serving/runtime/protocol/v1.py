"""KServe's V1 protocol: rows as JSON objects or lists in, a list of predictions out."""

from __future__ import annotations

from typing import Any

import orjson

from serving.runtime.contract import Contract
from serving.runtime.flow.call import Asked, Call
from serving.runtime.protocol.document import check_count, parse
from serving.runtime.protocol.tensors import Tensor, array_of
from serving.runtime.refusal import FieldError


def decode(body: bytes | bytearray, contract: Contract, most_rows: int) -> Asked:
    """Read `{"instances": [{…}, …]}`; a model whose inputs are all sent also takes a list of numbers for each row.

    Raises:
        BadRequest: the body is not that; the message names the field.
    """
    document = parse(body)
    where = "inputs" if "instances" not in document and "inputs" in document else "instances"
    instances = document.get(where)
    if not isinstance(instances, list):
        raise FieldError(where, instances, "a list of rows")
    count = len(instances)
    check_count(where, count, most_rows)
    signature = contract.signature
    if signature is None:
        return _arrays(instances, contract, most_rows, where)
    if signature.plain and instances[0].__class__ is list:
        values = signature.matrix(instances, count, where)
        if b"true" in body or b"false" in body:
            _refuse_booleans(instances, where)
        return Asked(count, values=values)
    if count == 1:
        return Asked(1, [signature.row(instances[0], f"{where}[0]")])
    return Asked(count, [signature.row(instance, f"{where}[{i}]") for i, instance in enumerate(instances)])


def encode(call: Call, contract: Contract) -> tuple[bytes, None]:
    """Write the predictions, with the lowest rung that a feature came from and what answered."""
    outputs = [o if isinstance(o, list) else _plain(o) for o in call.outcome.outputs]
    predictions: list[Any] = outputs[0]
    if len(outputs) > 1:
        names = [o.name for o in contract.outputs]
        predictions = [dict(zip(names, row, strict=True)) for row in zip(*outputs, strict=True)]
    document = {
        "predictions": predictions,
        "feature_source": call.source,
        "answered_by": call.outcome.answered_by,
    }
    return orjson.dumps(document), None


def _plain(array: Any) -> list[Any]:
    return [v.decode() if isinstance(v, bytes) else v for v in array.tolist()]


def _refuse_booleans(instances: list[Any], where: str) -> None:
    for i, row in enumerate(instances):
        for j, value in enumerate(row):
            if value.__class__ is bool:
                raise FieldError(f"{where}[{i}][{j}]", value, "a number")


def _arrays(instances: list[Any], contract: Contract, most_rows: int, where: str) -> Asked:
    arrays = []
    for spec in contract.inputs:
        rows = instances
        if len(contract.inputs) > 1 or instances[0].__class__ is dict:
            rows = []
            for i, instance in enumerate(instances):
                if instance.__class__ is not dict or spec.name not in instance:
                    raise FieldError(f"{where}[{i}].{spec.name}", None, "a value; the model takes it")
                rows.append(instance[spec.name])
        shape = [len(rows), *_sizes(rows[0])]
        arrays.append(array_of(Tensor(spec.name, spec.datatype, shape, rows, where), spec, most_rows))
    return Asked(len(instances), arrays=arrays)


def _sizes(value: Any) -> list[int]:
    sizes: list[int] = []
    while value.__class__ is list and len(sizes) < 8:
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return sizes
