"""Feast's stored value: the protobuf message `Value`, decoded without protobuf.

A value is a message with one field set. Nearly all that we read are doubles, nine bytes with a fixed tag,
so readers test for those bytes themselves and come here for the rest.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

DOUBLE_TAG = 0x29  # field 5, 64-bit
DOUBLE_SIZE = 9

unpack_double = struct.Struct("<d").unpack_from
_unpack_float = struct.Struct("<f").unpack_from

_BYTES, _STRING, _INT32, _INT64, _DOUBLE, _FLOAT, _BOOL, _TIMESTAMP, _NULL = 1, 2, 3, 4, 5, 6, 7, 8, 19
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE = {
    _BYTES: _LENGTH, _STRING: _LENGTH, _INT32: _VARINT, _INT64: _VARINT, _DOUBLE: _FIXED64, _FLOAT: _FIXED32,
    _BOOL: _VARINT, _TIMESTAMP: _VARINT, _NULL: _VARINT,
}  # fmt: skip

_NO_TIME = -(1 << 63)  # numpy's NaT, which Feast stores where a UnixTimestamp is NULL

Scalar = float | int | bool | str | bytes | None


def decode(raw: bytes) -> Scalar:
    """Decode a scalar value; None for Feast's NULL and for a message with no field set.

    Raises:
        ValueError: the bytes are not one scalar value (lists and maps are no model input).
    """
    if len(raw) == DOUBLE_SIZE and raw[0] == DOUBLE_TAG:
        number: float = unpack_double(raw, 1)[0]
        return number
    if not raw:
        return None
    try:
        tag, at = varint(raw, 0)
        field, wire = tag >> 3, tag & 7
        if _WIRE.get(field) != wire:
            raise ValueError(
                f"is not a scalar but field {field} of Feast's Value; lists and maps are no input"
            )
        value, end = _payload(raw, at, field)
    except (IndexError, struct.error):
        raise ValueError(f"truncated value of {len(raw)} bytes") from None
    if end != len(raw):
        raise ValueError(f"{len(raw) - end} bytes follow the value")
    return value


def number(raw: bytes | None, categories: Mapping[str, float] | None = None) -> float:
    """Decode a value as a model input: NULL is NaN, a string its category's position, an unknown one NaN.

    Raises:
        ValueError: the bytes are not a value that can be a number.
    """
    value = None if raw is None else decode(raw)
    if value is None:
        return math.nan
    if isinstance(value, str) and categories is not None:
        return categories.get(value, math.nan)
    if isinstance(value, str | bytes):
        raise ValueError(f"holds {value[:20]!r}, expected a number")
    return float(value)


def seconds(raw: bytes) -> float:
    """Decode a protobuf Timestamp, as Feast's redis store keeps event times, into epoch seconds.

    Raises:
        ValueError: the bytes are no such message.
    """
    whole = nanos = at = 0
    try:
        while at < len(raw):
            tag, at = varint(raw, at)
            if tag not in (0x08, 0x10):
                raise ValueError(f"field {tag >> 3} is not part of a Timestamp")
            value, at = varint(raw, at)
            if tag == 0x08:
                whole = _signed(value)
            else:
                nanos = value
    except IndexError:
        raise ValueError(f"truncated Timestamp of {len(raw)} bytes") from None
    return whole + nanos / 1e9


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """Decode one varint at `at`; returns it and the position behind it."""
    result = shift = 0
    while True:
        byte = raw[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def _payload(raw: bytes, at: int, field: int) -> tuple[Scalar, int]:
    if field == _DOUBLE:
        return unpack_double(raw, at)[0], at + 8
    if field == _FLOAT:
        return _unpack_float(raw, at)[0], at + 4
    value, at = varint(raw, at)
    if field == _NULL:
        return None, at
    if field == _BOOL:
        return bool(value), at
    if field in (_BYTES, _STRING):
        end = at + value
        if end > len(raw):
            raise ValueError(f"truncated value of {len(raw)} bytes")
        return (raw[at:end].decode() if field == _STRING else raw[at:end]), end
    whole = _signed(value)
    return (None if field == _TIMESTAMP and whole == _NO_TIME else whole), at


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
