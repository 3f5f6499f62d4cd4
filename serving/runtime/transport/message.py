"""A request as it was read and a response as it will be written, without anything of the connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

JSON = b"application/json"

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_STATUS_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request.

    Attributes:
        headers: the ones that `http.READ_HEADERS` names, lower case; the last of a name counts.
        started: `time.perf_counter()` when it was complete.
    """

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes | bytearray
    started: float


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer; `headers` are complete lines, each ended by CR LF."""

    status: int
    body: bytes
    headers: bytes = b""
    content_type: bytes = JSON


@dataclass(frozen=True, slots=True)
class Framing:
    """What the connection adds to a response."""

    keep_alive: bool = True
    http_1_0: bool = False
    head: bool = False


def error(status: int, message: str, headers: bytes = b"") -> Response:
    """Answer with KServe's error document."""
    return Response(status, orjson.dumps({"error": message}), headers)


def serialize(response: Response, framing: Framing) -> bytes:
    """Put a response on the wire."""
    if not framing.keep_alive:
        connection = b"connection: close\r\n"
    else:
        connection = b"connection: keep-alive\r\n" if framing.http_1_0 else b""
    return b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
        _STATUS_LINES[response.status],
        response.content_type,
        len(response.body),
        response.headers,
        connection,
        b"" if framing.head else response.body,
    )
