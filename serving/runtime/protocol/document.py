"""Reading a JSON body: fast where it is JSON, and with the numbers that other languages' clients write."""

from __future__ import annotations

import json
from typing import Any

import orjson

from serving.runtime.refusal import BadRequest, FieldError

_INFINITE = "number is infinity"
"""How orjson names a number beyond a double; it is JSON all the same."""


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
    # infinities become values too, as 1e400 does: whoever checks a field can then name it
    if b"NaN" in body or b"Infinity" in body or error.msg.startswith(_INFINITE):
        try:
            document = json.loads(body)
            if b"\\ud" in body.lower():  # half of a surrogate pair is no text, and could not be logged
                json.dumps(document, ensure_ascii=False).encode()
            return document
        except UnicodeEncodeError:
            raise BadRequest("the body: a string in it holds half of a surrogate pair") from None
        except (ValueError, RecursionError):
            pass
    raise BadRequest(f"the body is not JSON: {error}") from None


def check_count(where: str, count: int, most: int) -> None:
    """Refuse a request without rows or with more than are scored at once."""
    if not 0 < count <= most:
        raise BadRequest(f"{where}: holds {count} rows, expected 1 to {most}")
