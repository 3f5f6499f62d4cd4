"""Feast's entity key, serialization version 3: the bytes under which an online store keeps a row.

Written from Feast's own layout instead of by its code, because importing feast takes seconds and hundreds
of megabytes. A test compares every byte with Feast's, so an upgrade that changes the layout fails there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

STRING, INT32, INT64 = 2, 3, 4  # Feast's ValueType numbers
_TYPES = {"string": STRING, "int32": INT32, "int64": INT64}


def serialize(keys: Sequence[tuple[str, str, str]]) -> bytes:
    """Serialize (join key, type, value as text) pairs of one row; the order of the pairs does not matter.

    Raises:
        ValueError: an integer key's value is not such an integer.
    """
    ordered = sorted(keys)
    parts = [prefix([k for k, _, _ in ordered])]
    parts.extend(_value(kind, value) for _, kind, value in ordered)
    return b"".join(parts)


def prefix(join_keys: Sequence[str]) -> bytes:
    """The part of the bytes that depends on the sorted join keys alone."""
    parts = [struct.pack("<I", len(join_keys))]
    for key in join_keys:
        encoded = key.encode()
        parts.append(struct.pack("<II", STRING, len(encoded)) + encoded)
    return b"".join(parts)


def serializer(join_key: str, kind: str) -> Callable[[str], bytes]:
    """Return a function from the value of one join key to the row's bytes, everything fixed prepared."""
    if kind == "string":
        head = prefix([join_key]) + struct.pack("<I", STRING)
        pack = struct.Struct("<I").pack

        def of_text(value: str) -> bytes:
            encoded = value.encode()
            return head + pack(len(encoded)) + encoded

        return of_text
    start = prefix([join_key])
    return lambda value: start + _value(kind, value)


def _value(kind: str, value: str) -> bytes:
    if kind == "string":
        encoded = value.encode()
    else:
        try:
            encoded = struct.pack("<i" if kind == "int32" else "<q", int(value))
        except struct.error:
            raise ValueError(f"{value} does not fit {kind}") from None
    return struct.pack("<II", _TYPES[kind], len(encoded)) + encoded
