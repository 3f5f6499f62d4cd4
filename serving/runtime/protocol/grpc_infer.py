"""ModelInfer of the Open Inference Protocol (V2) over gRPC: tensors typed or raw, and answered as they were asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serving.runtime.contract import Contract
from serving.runtime.flow.call import Asked, Call
from serving.runtime.protocol.tensors import Tensor, ask, check_header, from_bytes, to_bytes
from serving.runtime.protocol.v2 import flat, shape_of
from serving.runtime.refusal import BadRequest, FieldError

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the values of a datatype stand; one that is not here (FP16) travels as raw bytes only."""


def decode(request: Any, contract: Contract, most_rows: int) -> Asked:
    """Read a ModelInferRequest.

    Raises:
        BadRequest: the model does not take that; the message names the field.
    """
    raw, inputs = request.raw_input_contents, request.inputs
    asked = _one_matrix(inputs, raw, contract, most_rows) or ask(_tensors(inputs, raw), contract, most_rows)
    asked.id = request.id or None
    if request.outputs:
        asked.outputs = [contract.wanted(o.name, f"outputs[{i}].name") for i, o in enumerate(request.outputs)]
    if raw or any(o.datatype not in CONTENTS for o in contract.outputs):
        asked.binary = [o.name for o in contract.outputs]
    return asked


def _one_matrix(inputs: Any, raw: Any, contract: Contract, most_rows: int) -> Asked | None:
    """Read the common request, one raw matrix of FP32 and nothing out of the ordinary; None for any other."""
    signature = contract.signature
    if signature is None or not signature.plain or len(inputs) != 1 or len(raw) != 1:
        return None
    tensor, content = inputs[0], raw[0]
    shape = tensor.shape
    if (
        tensor.datatype != "FP32"
        or len(shape) != 2
        or shape[1] != signature.width
        or not 0 < shape[0] <= most_rows
        or len(content) != 4 * shape[0] * shape[1]
        or tensor.HasField("contents")
    ):
        return None
    return Asked(shape[0], None, np.frombuffer(content, "<f4").reshape(shape[0], shape[1]))


def _tensors(inputs: Any, raw: Any) -> list[Tensor]:
    if raw and len(raw) != len(inputs):
        raise BadRequest(f"raw_input_contents: holds {len(raw)} tensors, inputs describes {len(inputs)}")
    tensors = []
    for i, given in enumerate(inputs):
        name, datatype, shape = given.name, given.datatype, list(given.shape)
        where = check_header(name, datatype, shape, f"inputs[{i}]")
        if not raw:
            data = _typed(given.contents, datatype, shape, where)
        elif given.HasField("contents") and given.contents.ListFields():
            raise BadRequest(f"{where}.contents: is given twice, here and in raw_input_contents")
        else:
            data = from_bytes(raw[i], datatype, shape, f"raw_input_contents[{i}]")
        tensors.append(Tensor(name, datatype, shape, data, where))
    return tensors


def parameters_of(message: Any) -> dict[str, Any]:
    """The parameters of a message as plain values."""
    return {
        name: getattr(value, kind)
        for name, value in message.parameters.items()
        if (kind := value.WhichOneof("parameter_choice")) is not None
    }


class Encoder:
    """Writes ModelInferResponses: all tensors of one raw or none of them, as the protocol knows no mixture.

    What is the same in most answers of a version is encoded once: the bytes of two messages behind each other are
    the bytes of the two merged.

    Args:
        response_class: the message class.
    """

    def __init__(self, response_class: Any) -> None:
        self._response_class = response_class
        self._heads: dict[tuple[str, str, str, str], bytes] = {}

    def encode(self, call: Call, contract: Contract) -> bytes:
        """Write the answer of a call that was answered."""
        asked, outcome = call.asked, call.outcome
        key = (contract.name, contract.version, call.source, outcome.answered_by)
        head = self._heads.get(key) or self._head(*key)
        response = self._response_class(id=asked.id or call.request_id)
        for spec, values in zip(contract.outputs, outcome.outputs, strict=True):
            if asked.outputs is not None and spec.name not in asked.outputs:
                continue
            output = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape_of(values))
            if asked.binary:
                response.raw_output_contents.append(to_bytes(values, spec.datatype))
            else:
                plain = flat(values)
                if spec.datatype == "BYTES":
                    plain = [str(v).encode() for v in plain]
                getattr(output.contents, CONTENTS[spec.datatype]).extend(plain)
        return head + bytes(response.SerializeToString())

    def _head(self, model: str, version: str, source: str, answered_by: str) -> bytes:
        response = self._response_class(model_name=model, model_version=version)
        response.parameters["feature_source"].string_param = source
        response.parameters["answered_by"].string_param = answered_by
        head: bytes = response.SerializeToString()
        self._heads[model, version, source, answered_by] = head
        return head


def _typed(contents: Any, datatype: str, shape: list[int], where: str) -> list[Any]:
    """Read the values that stand in the field of their type."""
    field = CONTENTS.get(datatype)
    if field is None:
        raise FieldError(f"{where}.datatype", datatype, "raw_input_contents with it")
    values = list(getattr(contents, field))
    where = f"{where}.contents.{field}"
    if len(values) != math.prod(shape):
        raise BadRequest(f"{where}: holds {len(values)} values, its shape {shape} says {math.prod(shape)}")
    if datatype == "BYTES":
        for i, value in enumerate(values):
            try:
                values[i] = value.decode()
            except UnicodeDecodeError:
                raise BadRequest(f"{where}[{i}]: is no UTF-8") from None
    return values
