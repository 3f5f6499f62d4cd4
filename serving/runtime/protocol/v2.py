"""The Open Inference Protocol (V2) over REST: JSON, and raw tensors behind it (the binary tensor extension)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import orjson

from serving.runtime.contract import Contract
from serving.runtime.engines.engine import Array
from serving.runtime.flow.call import Asked, Call
from serving.runtime.protocol.document import parse
from serving.runtime.protocol.tensors import Tensor, ask, check_header, from_bytes, to_bytes
from serving.runtime.refusal import BadRequest, FieldError
from serving.runtime.signature import doubles

_NONE: dict[str, Any] = {}
_PLAIN = frozenset(("inputs", "id"))
_TEXT = (str, type(None))
_FLOATS = ("FP32", "FP64")  # no set: what a caller sends need not be hashable


def decode(
    body: bytes | bytearray, contract: Contract, most_rows: int, header_length: bytes | None = None
) -> tuple[Asked, dict[str, Any]]:
    """Read an inference request; returns what it asks and its parameters.

    Args:
        header_length: where raw tensors follow: how many bytes of the body are JSON.

    Raises:
        BadRequest: the body is not such a request; the message names the field.
    """
    rest = memoryview(b"")
    head = body
    if header_length is not None:
        size = _header_size(header_length, len(body))
        head, rest = bytes(memoryview(body)[:size]), memoryview(body)[size:]
    document = parse(head)
    asked = _one_matrix(document, head, contract, most_rows) if header_length is None else None
    if asked is not None:
        return asked, _NONE
    tensors = document.get("inputs")
    if tensors.__class__ is not list:
        raise FieldError("inputs", tensors, "a list of tensors")
    parameters = document.get("parameters")
    if parameters is None:
        parameters = {}
    elif parameters.__class__ is not dict:
        raise FieldError("parameters", parameters, "an object")
    read = []
    for i, tensor in enumerate(tensors):
        found, used = _tensor(tensor, f"inputs[{i}]", rest)
        rest = rest[used:]
        read.append(found)
    if len(rest):
        raise BadRequest(f"the body: {len(rest)} bytes follow the tensors that inputs describes")
    # in bulk true and false would count as 1 and 0
    if b"true" in head or b"false" in head:
        for found in read:
            _refuse_booleans(found)
    asked = ask(read, contract, most_rows)
    request_id = document.get("id")
    if request_id is not None and request_id.__class__ is not str:
        raise FieldError("id", request_id, "a string")
    asked.id = request_id
    _outputs(document.get("outputs"), parameters, contract, asked)
    return asked, parameters


def _one_matrix(
    document: dict[str, Any], body: bytes | bytearray, contract: Contract, most_rows: int
) -> Asked | None:
    """Read the common request, one matrix of numbers and nothing out of the ordinary; None for any other."""
    signature = contract.signature
    if signature is None or not signature.plain or not document.keys() <= _PLAIN:
        return None
    tensors, request_id = document.get("inputs"), document.get("id")
    if tensors.__class__ is not list or len(tensors) != 1 or request_id.__class__ not in _TEXT:
        return None
    tensor = tensors[0]
    if tensor.__class__ is not dict or len(tensor) != 4:
        return None
    shape, data = tensor.get("shape"), tensor.get("data")
    if (
        shape.__class__ is not list
        or data.__class__ is not list
        or len(shape) != 2
        or shape[0].__class__ is not int
        or not 0 < shape[0] <= most_rows
        or shape[1].__class__ is not int
        or shape[1] != signature.width
        or len(data) != shape[0] * signature.width
        or tensor.get("datatype") not in _FLOATS
        or tensor.get("name").__class__ is not str
        or _may_hold_booleans(body)
    ):
        return None
    try:
        return Asked(shape[0], None, doubles(data), None, request_id, text=_data_of(body))
    except (struct.error, OverflowError):
        return None


def _data_of(body: bytes | bytearray) -> bytes | None:
    """The text of a request's only data, a flat list of numbers; None where it is not found beyond doubt."""
    start = body.find(b'"data":[') + 8
    end = body.find(b"]", start)
    # a key may be written with escapes, or twice, and then the last one counts
    if start < 8 or body.find(b'"data"', end) >= 0 or body.find(b"\\") >= 0:
        return None
    return bytes(body[start:end])


def _may_hold_booleans(body: bytes | bytearray) -> bool:
    """Whether true or false may stand in the data; looked for by one letter of each, many times as fast as by word."""
    start = body.find(b'"data"')
    if body.find(b"\\", 0, start) >= 0:  # a key may be written in escapes, and be another one then
        return True
    return body.find(b"u", start) >= 0 or body.find(b"l", start) >= 0


def encode(call: Call, contract: Contract) -> tuple[bytes, int | None]:
    """Write the answer; the second part is the length of its JSON where raw tensors follow it."""
    outputs = call.outcome.outputs
    asked = call.asked
    if len(outputs) == 1 and outputs[0].__class__ is list and not asked.binary:
        # the common answer, one list of scores, without a document in between
        scores = outputs[0]
        data = orjson.dumps(scores)
        if scores[0].__class__ is list:
            shape, data = b"%d,%d" % (len(scores), len(scores[0])), data.replace(b"],[", b",")[1:-1]
        else:
            shape = b"%d" % len(scores)
        return (
            b'%s"id":%s,"parameters":{"feature_source":"%s","answered_by":"%s"},%s"shape":[%s],"data":%s}]}'
            % (
                contract.head,
                orjson.dumps(asked.id or call.request_id),
                call.source.encode(),
                call.outcome.answered_by.encode(),
                contract.output_head,
                shape,
                data,
            )
        ), None
    described, raw = [], []
    for spec, values in zip(contract.outputs, outputs, strict=True):
        if asked.outputs is not None and spec.name not in asked.outputs:
            continue
        output: dict[str, Any] = {
            "name": spec.name,
            "shape": shape_of(values),
            "datatype": spec.datatype,
        }
        if spec.name in asked.binary:
            raw.append(to_bytes(values, spec.datatype))
            output["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            output["data"] = flat(values)
        described.append(output)
    document = orjson.dumps(
        {
            "model_name": contract.name,
            "model_version": contract.version,
            "id": asked.id or call.request_id,
            "parameters": {"feature_source": call.source, "answered_by": call.outcome.answered_by},
            "outputs": described,
        }
    )
    return (b"".join((document, *raw)), len(document)) if raw else (document, None)


def shape_of(values: Array | list[Any]) -> list[int]:
    """The shape of an output, an array or a list of one or two levels."""
    if not isinstance(values, list):
        return list(values.shape)
    return [len(values), len(values[0])] if values and isinstance(values[0], list) else [len(values)]


def flat(values: Array | list[Any]) -> list[Any]:
    """The values of an output, one row after the other."""
    if not isinstance(values, list):
        return [v.decode() if isinstance(v, bytes) else v for v in values.reshape(-1).tolist()]
    if values and isinstance(values[0], list):
        return [v for row in values for v in row]
    return values


def _header_size(stated: bytes, size: int) -> int:
    try:
        length = int(stated)
    except ValueError:
        length = -1
    if not 0 < length <= size or not stated.isdigit():
        raise FieldError(
            "header inference-header-content-length",
            stated.decode("latin-1"),
            f"1 to {size}, the body's size",
        )
    return length


def _tensor(tensor: object, where: str, rest: memoryview) -> tuple[Tensor, int]:
    """Read one tensor; returns it and how many of the raw bytes it took."""
    if tensor.__class__ is not dict:
        raise FieldError(where, tensor, "a tensor object")
    content: Any = tensor
    name, datatype, shape = content.get("name"), content.get("datatype"), content.get("shape")
    where = check_header(name, datatype, shape, where)
    parameters = content.get("parameters")
    if parameters is not None and parameters.__class__ is not dict:
        raise FieldError(f"{where}.parameters", parameters, "an object")
    size = parameters.get("binary_data_size") if parameters else None
    if size is not None:
        if size.__class__ is not int or not 0 <= size <= len(rest):
            raise FieldError(
                f"{where}.parameters.binary_data_size", size, f"0 to {len(rest)}, the raw bytes that are left"
            )
        if "data" in content:
            raise BadRequest(f"{where}.data: is given twice, in the JSON and as raw bytes")
        values = from_bytes(rest[:size], str(datatype), shape, where)
        return Tensor(str(name), str(datatype), shape, values, where), size
    data = content.get("data")
    if data.__class__ is not list:
        raise FieldError(f"{where}.data", data, "a list of values")
    return Tensor(str(name), str(datatype), shape, data, where), 0


def _refuse_booleans(tensor: Tensor) -> None:
    if tensor.datatype == "BOOL" or tensor.data.__class__ is not list:
        return
    values: Sequence[Any] = tensor.data
    if values and values[0].__class__ is list:
        values = [v for row in values for v in (row if row.__class__ is list else [row])]
    for i, value in enumerate(values):
        if value.__class__ is bool:
            raise FieldError(f"{tensor.where}.data[{i}]", value, f"a value of {tensor.datatype}")


def _outputs(outputs: object, parameters: dict[str, Any], contract: Contract, asked: Asked) -> None:
    """Note which outputs are asked for, and which of them as raw bytes."""
    binary = parameters.get("binary_data_output") is True
    if outputs is None:
        if binary:
            asked.binary = [o.name for o in contract.outputs]
        return
    if not isinstance(outputs, list):
        raise FieldError("outputs", outputs, "a list of requested outputs")
    if not outputs:
        outputs = [{"name": o.name} for o in contract.outputs]
    names, raw = [], []
    for i, wanted in enumerate(outputs):
        given = wanted.get("name") if isinstance(wanted, dict) else wanted
        names.append(contract.wanted(given, f"outputs[{i}].name"))
        own = wanted.get("parameters") if isinstance(wanted, dict) else None
        if own is not None and not isinstance(own, dict):
            raise FieldError(f"outputs[{i}].parameters", own, "an object")
        if binary if own is None or "binary_data" not in own else own["binary_data"] is True:
            raw.append(names[-1])
    asked.outputs, asked.binary = names, raw
