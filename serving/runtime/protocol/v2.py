"""The Open Inference Protocol (V2) in JSON: a tensor for each entity key and request field in, one out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from serving.runtime.bundle import Bundle
from serving.runtime.predictor import Prediction
from serving.runtime.protocol.v1 import check_count, parse
from serving.runtime.refusal import BadRequest, FieldError
from serving.runtime.signature import Row, Signature

NUMBERS = {"FP64", "FP32", "FP16"}
INTEGERS = {"INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8"}
DATATYPES = {"BYTES", *NUMBERS, *INTEGERS}
OUTPUT_DATATYPE = "FP32"


def decode(
    body: bytes | bytearray, signature: Signature, output: str, most_rows: int
) -> tuple[list[Row], str | None]:
    """Read an inference request; returns its rows and its id.

    Raises:
        BadRequest: the body is not such a request; the message names the tensor.
    """
    document = parse(body)
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise FieldError("id", request_id, "a string")
    _check_outputs(document.get("outputs"), output)
    tensors = document.get("inputs")
    if not isinstance(tensors, list):
        raise FieldError("inputs", tensors, "a list of tensors")
    columns: dict[str, list[Any]] = {}
    count = None
    for i, tensor in enumerate(tensors):
        name, data = _tensor(tensor, f"inputs[{i}]", most_rows)
        if name in columns:
            raise BadRequest(f"inputs[{i}]: the tensor {name!r} is given twice")
        if count is not None and len(data) != count:
            raise BadRequest(f"inputs[{i}] {name!r}: has {len(data)} rows, those before it have {count}")
        count = len(data)
        columns[name] = data
    if count is None:
        raise BadRequest("inputs: holds no tensor; give one for each entity key")
    if count == 1:
        return [signature.row({name: data[0] for name, data in columns.items()}, "inputs")], request_id
    instances = ({name: data[i] for name, data in columns.items()} for i in range(count))
    return [signature.row(instance, f"inputs[row {i}]") for i, instance in enumerate(instances)], request_id


def encode(prediction: Prediction, bundle: Bundle, request_id: str) -> bytes:
    """Write the output tensor, with the lowest rung that a feature came from."""
    return orjson.dumps(
        {
            "model_name": bundle.model,
            "model_version": bundle.version,
            "id": request_id,
            "parameters": {"feature_source": prediction.source},
            "outputs": [
                {
                    "name": bundle.output,
                    "shape": [len(prediction.scores)],
                    "datatype": OUTPUT_DATATYPE,
                    "data": prediction.scores,
                }
            ],
        }
    )


def metadata(bundle: Bundle, signature: Signature) -> dict[str, Any]:
    """Describe the model as V2's model metadata."""
    kinds = {"string": "BYTES", "int64": "INT64", "int32": "INT32"}
    datatypes = {name: kinds[kind] for name, kind in signature.entities}
    for field in signature.fields:
        datatypes.setdefault(field.name, "FP64" if field.categories is None else "BYTES")
    return {
        "name": bundle.model,
        "versions": [bundle.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": n, "datatype": d, "shape": [-1]} for n, d in datatypes.items()],
        "outputs": [{"name": bundle.output, "datatype": OUTPUT_DATATYPE, "shape": [-1]}],
        "parameters": {"feature_service": bundle.feature_service},
    }


def _check_outputs(outputs: object, known: str) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list):
        raise FieldError("outputs", outputs, "a list of requested outputs")
    for i, wanted in enumerate(outputs):
        name = wanted.get("name") if isinstance(wanted, dict) else wanted
        if name != known:
            raise FieldError(f"outputs[{i}].name", name, f"the only output, {known!r}")


def _tensor(tensor: object, where: str, most_rows: int) -> tuple[str, list[Any]]:
    """Check one tensor; returns its name and its values, flat."""
    if not isinstance(tensor, dict):
        raise FieldError(where, tensor, "a tensor object")
    name = tensor.get("name")
    if not isinstance(name, str):
        raise FieldError(f"{where}.name", name, "a string")
    where = f"{where} {name[:60]!r}"
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise FieldError(f"{where}.datatype", datatype, f"one of {', '.join(sorted(DATATYPES))}")
    shape = tensor.get("shape")
    if not isinstance(shape, list):
        raise FieldError(f"{where}.shape", shape, "[n] or [n, 1]")
    if not shape or any(d.__class__ is not int for d in shape) or shape[1:] not in ([], [1]):
        raise BadRequest(f"{where}.shape: got {repr(shape)[:60]}, expected [n] or [n, 1]")
    check_count(f"{where}.shape", shape[0], most_rows)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise FieldError(f"{where}.data", data, "a list of values")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if any(not isinstance(d, list) or len(d) != 1 for d in data):
            raise FieldError(f"{where}.data", data, "a list of lists of one value")
        data = [d[0] for d in data]
    if len(data) != shape[0]:
        raise BadRequest(f"{where}.data: holds {len(data)} values, its shape says {shape[0]}")
    _check_values(data, datatype, where)
    return name, data


def _check_values(data: Sequence[object], datatype: str, where: str) -> None:
    for i, value in enumerate(data):
        kind = value.__class__
        if datatype == "BYTES":
            if kind is not str and value is not None:
                raise FieldError(f"{where}.data[{i}]", value, "a string (BYTES)")
        elif datatype in INTEGERS:
            if kind is not int and value is not None:
                raise FieldError(f"{where}.data[{i}]", value, f"an integer ({datatype})")
        elif kind is not float and kind is not int and value is not None:
            raise FieldError(f"{where}.data[{i}]", value, f"a number ({datatype})")
