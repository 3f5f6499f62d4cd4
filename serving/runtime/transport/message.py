"""A request as it was read and a response as it will be written, and the place where the two meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
    401: b"Unauthorized",
    403: b"Forbidden",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
_STATUS_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()}


class Response(NamedTuple):
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


class Exchange:
    """A complete request and, once there is one, its response.

    Whoever handles it calls `answer` once, at once or later; the connection writes responses in the order of the
    requests, however long each of them takes.

    Attributes:
        headers: the ones that `http.READ_HEADERS` names, lower case; the last of a name counts.
        started: `time.perf_counter()` when the request was complete.
    """

    __slots__ = ("_written", "body", "framing", "headers", "method", "response", "started", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        body: bytes | bytearray,
        framing: Framing,
        started: float,
        written: Callable[[Exchange], None],
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.framing = framing
        self.started = started
        self.response: Response | None = None
        self._written = written

    def answer(self, response: Response) -> None:
        """Hand over the response."""
        self.response = response
        self._written(self)


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
