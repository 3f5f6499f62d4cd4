"""Tensors of a request, whatever encoding they came in, and what they ask of a model."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, Array, TensorSpec
from serving.runtime.flow.call import Asked
from serving.runtime.protocol.document import check_count
from serving.runtime.refusal import BadRequest, FieldError
from serving.runtime.signature import Signature

MOST_DIMENSIONS = 8
LARGEST_SIZE = 2**31 - 1
EXACT = 2**53
"""Up to here a float is the integer that was written; JSON does not tell 2.0 from 2."""
_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class Tensor:
    """A named tensor.

    Attributes:
        data: a flat list of Python values, nested lists of them, or an array of any shape with as many values.
        where: how the caller finds it, for messages.
    """

    name: str
    datatype: str
    shape: list[int]
    data: Any
    where: str


def check_header(name: object, datatype: object, shape: object, where: str) -> str:
    """Check what describes a tensor; returns `where` with its name.

    Raises:
        BadRequest: one of them is not what it must be.
    """
    if name.__class__ is not str:
        raise FieldError(f"{where}.name", name, "a string")
    where = f"{where} {str(name)[:60]!r}"
    if datatype.__class__ is not str or datatype not in DTYPES:
        raise FieldError(f"{where}.datatype", datatype, f"one of {', '.join(sorted(DTYPES))}")
    if shape.__class__ is not list:
        raise FieldError(f"{where}.shape", shape, "a list of sizes")
    sizes: list[Any] = shape
    if not 0 < len(sizes) <= MOST_DIMENSIONS:
        raise FieldError(f"{where}.shape", sizes, f"1 to {MOST_DIMENSIONS} sizes")
    for i, size in enumerate(sizes):
        if size.__class__ is not int or not 0 <= size <= LARGEST_SIZE:
            raise FieldError(f"{where}.shape[{i}]", size, f"a size of 0 to {LARGEST_SIZE}")
    return where


def from_bytes(raw: bytes | memoryview, datatype: str, shape: Sequence[int], where: str) -> Any:
    """Read raw little-endian values without copying them; BYTES become a list of strings.

    Raises:
        BadRequest: there are not as many as the shape says.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(bytes(raw), count, where)
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise BadRequest(
            f"{where}: holds {len(raw)} bytes, its shape {list(shape)} of {datatype} says {count * dtype.itemsize}"
        )
    values = np.frombuffer(raw, dtype=dtype.newbyteorder("<"))
    if datatype == "BOOL" and (values.view(np.uint8) > 1).any():
        raise BadRequest(f"{where}: holds a byte that is neither 0 nor 1, which is no BOOL")
    return values


def to_bytes(data: Any, datatype: str) -> bytes:
    """Write an output as raw little-endian values."""
    if datatype == "BYTES":
        encoded = (
            v if isinstance(v, bytes) else str(v).encode() for v in np.asarray(data, dtype=object).flat
        )
        return b"".join(_LENGTH.pack(len(v)) + v for v in encoded)
    dtype = DTYPES[datatype]
    return np.ascontiguousarray(data, dtype=dtype.newbyteorder("<")).tobytes()


def ask(tensors: Sequence[Tensor], contract: Contract, most_rows: int) -> Asked:
    """Say what `tensors` ask of a model.

    Raises:
        BadRequest: they are not what it takes; the message names the tensor.
    """
    if not tensors:
        raise BadRequest("inputs: holds no tensor; /v2/models names what the model takes")
    signature = contract.signature
    if signature is None:
        return _arrays(tensors, contract, most_rows)
    if signature.plain and len(tensors) == 1:
        tensor = tensors[0]
        if len(tensor.shape) == 2 and tensor.shape[1] == signature.width:
            return _matrix(tensor, signature, most_rows)
        if tensor.name not in signature.names:
            raise BadRequest(
                f"{tensor.where}.shape: got {tensor.shape}, expected [n, {signature.width}], "
                "or a tensor for each input by its name"
            )
    return _rows(tensors, signature, most_rows)


def _matrix(tensor: Tensor, signature: Signature, most_rows: int) -> Asked:
    count = tensor.shape[0]
    where = tensor.where
    check_count(f"{where}.shape", count, most_rows)
    if tensor.datatype in ("BYTES", "BOOL"):
        raise FieldError(f"{where}.datatype", tensor.datatype, "numbers (FP32)")
    if tensor.data.__class__ is list:
        return Asked(count, values=signature.matrix(tensor.data, count, f"{where}.data"))
    with np.errstate(over="ignore"):
        return Asked(count, values=tensor.data.reshape(count, signature.width).astype(np.float32, copy=False))


def _rows(tensors: Sequence[Tensor], signature: Signature, most_rows: int) -> Asked:
    columns: dict[str, list[Any]] = {}
    count = -1
    for tensor in tensors:
        where, shape = tensor.where, tensor.shape
        if tensor.name in columns:
            raise BadRequest(f"{where}: the tensor {tensor.name!r} is given twice")
        if shape[1:] not in ([], [1]):
            raise BadRequest(f"{where}.shape: got {repr(shape)[:60]}, expected [n] or [n, 1]")
        check_count(f"{where}.shape", shape[0], most_rows)
        data = _column(tensor)
        if count not in (-1, len(data)):
            raise BadRequest(f"{where}: has {len(data)} rows, those before it have {count}")
        count = len(data)
        columns[tensor.name] = data
    if count == 1:
        return Asked(1, [signature.row({name: data[0] for name, data in columns.items()}, "inputs")])
    instances = ({name: data[i] for name, data in columns.items()} for i in range(count))
    return Asked(count, [signature.row(row, f"inputs[row {i}]") for i, row in enumerate(instances)])


def _column(tensor: Tensor) -> list[Any]:
    data, where = tensor.data, tensor.where
    if data.__class__ is not list:
        values: list[Any] = data.tolist()
        return values
    if len(tensor.shape) == 2 and data and data[0].__class__ is list:
        if any(d.__class__ is not list or len(d) != 1 for d in data):
            raise FieldError(f"{where}.data", data, "a list of lists of one value")
        data = [d[0] for d in data]
    if len(data) != tensor.shape[0]:
        raise BadRequest(f"{where}.data: holds {len(data)} values, its shape says {tensor.shape[0]}")
    check_values(data, tensor.datatype, f"{where}.data")
    flat: list[Any] = data
    return flat


def _arrays(tensors: Sequence[Tensor], contract: Contract, most_rows: int) -> Asked:
    given: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in given:
            raise BadRequest(f"{tensor.where}: the tensor {tensor.name!r} is given twice")
        given[tensor.name] = tensor
    names = [s.name for s in contract.inputs]
    # a model of one input takes it under any name, as most clients send it
    if len(tensors) == 1 and len(names) == 1:
        given = {names[0]: tensors[0]}
    if unknown := [t for n, t in given.items() if n not in names]:
        raise BadRequest(f"{unknown[0].where}: the model takes no such tensor; it takes {', '.join(names)}")
    arrays: list[Array] = []
    count = -1
    for spec in contract.inputs:
        if spec.name not in given:
            raise BadRequest(f"inputs: the tensor {spec.name!r} is missing")
        tensor = given[spec.name]
        arrays.append(array_of(tensor, spec, most_rows))
        if count not in (-1, len(arrays[-1])):
            raise BadRequest(f"{tensor.where}: has {len(arrays[-1])} rows, those before it have {count}")
        count = len(arrays[-1])
    return Asked(count, arrays=arrays)


def array_of(tensor: Tensor, spec: TensorSpec, most_rows: int) -> Array:
    """Make a tensor the array that the model takes.

    Raises:
        BadRequest: its type, its shape or one of its values does not fit.
    """
    where, shape = tensor.where, tensor.shape
    if len(shape) != len(spec.shape) or any(e not in (-1, s) for e, s in zip(spec.shape, shape, strict=True)):
        raise BadRequest(f"{where}.shape: got {shape}, expected {list(spec.shape)}")
    check_count(f"{where}.shape", shape[0], most_rows)
    if (spec.datatype == "BYTES") != (tensor.datatype == "BYTES"):
        raise FieldError(f"{where}.datatype", tensor.datatype, spec.datatype)
    data = tensor.data
    if data.__class__ is list:
        flat = _flat(data, f"{where}.data", shape)
        check_values(flat, tensor.datatype, f"{where}.data")
        if DTYPES[spec.datatype].kind != "f" and None in flat:  # only a float can be missing
            raise FieldError(f"{where}.data[{flat.index(None)}]", None, f"a value of {spec.datatype}")
        data = flat
    dtype = DTYPES[spec.datatype]
    try:
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = np.array(
                    [math.nan if v is None else v for v in data] if data.__class__ is list else data
                )
                array = array.astype(dtype)
            if np.isinf(array).any():
                raise BadRequest(f"{where}.data: holds a value that is not finite in {spec.datatype}")
        else:
            with np.errstate(invalid="ignore"):
                array = np.array(data, dtype=dtype)
            # numpy cuts off what an integer cannot hold
            if not (array.tolist() == data if data.__class__ is list else np.array_equal(array, data)):
                raise ValueError
    except (OverflowError, TypeError, ValueError):
        raise BadRequest(f"{where}.data: holds a value that is no {spec.datatype}") from None
    return array.reshape(shape)


def check_values(data: Sequence[object], datatype: str, where: str) -> None:
    """Hold Python values to a datatype; null is a missing value.

    Raises:
        FieldError: one of them is of another kind.
    """
    kind = DTYPES[datatype].kind
    for i, value in enumerate(data):
        given = value.__class__
        if value is None or (
            given is str
            if kind == "O"
            else given is bool
            if kind == "b"
            else given is int or (isinstance(value, float) and value.is_integer() and abs(value) <= EXACT)
            if kind in "iu"
            else given is float or given is int
        ):
            continue
        expected = {
            "O": "a string (BYTES)", "b": "true or false (BOOL)", "f": f"a number ({datatype})"
        }.get(kind, f"an integer ({datatype})")  # fmt: skip
        raise FieldError(f"{where}[{i}]", value, expected)


def _flat(data: list[Any], where: str, shape: Sequence[int]) -> list[Any]:
    """The values of a list that is flat, or nested as the shape says."""
    nested = bool(data) and data[0].__class__ is list
    if nested and len(shape) == 1:
        raise FieldError(f"{where}[0]", data[0], "a value: it is nested deeper than its shape")
    size = shape[0] if nested else math.prod(shape)
    if len(data) != size:
        raise BadRequest(f"{where}: holds {len(data)} values, its shape {list(shape)} says {size}")
    for i, value in enumerate(data):
        if (value.__class__ is list) is not nested:
            raise FieldError(f"{where}[{i}]", value, f"a {'list' if nested else 'value'}, as before it")
    if not nested:
        return data
    return [value for i, inner in enumerate(data) for value in _flat(inner, f"{where}[{i}]", shape[1:])]


def _texts(raw: bytes, count: int, where: str) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(raw) and len(texts) < count:
        if at + 4 > len(raw):
            break
        size = _LENGTH.unpack_from(raw, at)[0]
        end = at + 4 + size
        if end > len(raw):
            break
        try:
            texts.append(raw[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise BadRequest(f"{where}[{len(texts)}]: is no UTF-8") from None
        at = end
    if len(texts) != count or at != len(raw):
        raise BadRequest(
            f"{where}: holds {len(texts)} whole strings in {at} of {len(raw)} bytes, its shape says {count}"
        )
    return texts
