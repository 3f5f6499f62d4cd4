"""An HTTP/1.1 client that costs less than any server it asks: callbacks on a transport, no task, no future.

It knows what the contenders send: a status line, headers with a length or chunks, one answer for each request.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

CHUNKED_END = b"\r\n0\r\n\r\n"


class Caller(Protocol):
    """Whoever sends requests; told of each answer."""

    def opened(self, connection: Connection) -> None: ...

    def answered(self, connection: Connection, status: int, sent: float, now: float) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way.

    Attributes:
        intended: when the request under way should have been sent, seconds of `time.perf_counter`.
        sent: when it was sent; 0 while there is none.
        content: the last answer's body as it came, in chunks where `chunked`.
    """

    __slots__ = ("_buffer", "_caller", "chunked", "content", "intended", "sent", "transport")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._buffer = b""
        self.intended = self.sent = 0.0
        self.content = b""
        self.chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._caller.opened(self)

    def body(self) -> bytes:
        """The last answer's body."""
        if not self.chunked:
            return self.content
        body, rest = b"", self.content
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            body += rest[:length]
            rest = rest[length + 2 :]
        return body

    def send(self, request: bytes, intended: float, now: float) -> None:
        self.intended = intended
        self.sent = now
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        self._buffer = b""
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            # both spellings are met, and lowering the case of every head would cost more than the second search
            at = data.find(b"ontent-length: ", 0, end)
            if at < 0:
                at = data.find(b"ontent-Length: ", 0, end)
            if at < 0:
                complete = data.endswith(CHUNKED_END)
            else:
                complete = len(data) >= end + 4 + int(data[at + 15 : data.find(b"\r", at)])
            if complete:
                self.chunked = at < 0
                self.content = data[end + 4 :]
                sent, self.sent = self.sent, 0.0
                self._caller.answered(self, int(data[9:12]), sent, time.perf_counter())
                return
        self._buffer = data

    def connection_lost(self, problem: Exception | None) -> None:
        self._caller.lost(self)
