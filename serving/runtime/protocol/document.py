"""Reading a JSON body: fast where it is JSON, and with the numbers that other languages' clients write."""

from __future__ import annotations

import json
from typing import Any

import orjson

from serving.runtime.refusal import BadRequest, FieldError


def parse(body: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Parse a JSON object; NaN, which is no JSON, is read all the same: clients write a missing value so.

    Raises:
        BadRequest: the body is no JSON, or no object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _with_constants(bytes(body), error)
    if document.__class__ is not dict:
        raise FieldError("the body", document, "a JSON object")
    result: dict[str, Any] = document
    return result


def _with_constants(body: bytes, error: orjson.JSONDecodeError) -> Any:
    if b"NaN" in body or b"Infinity" in body:
        try:
            # infinities become values too: whoever checks a field can then name it
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise BadRequest(f"the body is not JSON: {error}") from None


def check_count(where: str, count: int, most: int) -> None:
    """Refuse a request without rows or with more than are scored at once."""
    if not 0 < count <= most:
        raise BadRequest(f"{where}: holds {count} rows, expected 1 to {most}")
