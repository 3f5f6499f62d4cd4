"""A small HTTP/1.1 client for many small requests to one loopback address.

General clients cost about a millisecond of CPU a request, more than the whole server side of ours; the replay
sends tens of thousands. Keep-alive, one request at a time on a connection, a bounded pool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True)
class Answer:
    """One response; `status` 0 means that the connection failed before an answer came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101 - uvloop's own class
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(exc or ConnectionError("closed by the peer"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        waiting, self._waiting = self._waiting, None
        if not self._parser.should_keep_alive():
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result((self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def exchange(self, data: bytes) -> asyncio.Future[tuple[int, dict[str, str], bytes]]:
        assert self._transport is not None  # noqa: S101 - set by connection_made
        self._headers, self._body = {}, []
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._waiting

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Client:
    """A pool of at most `connections` connections to the host of `base_url`."""

    def __init__(self, base_url: str, *, connections: int = 16, timeout: float = 10.0) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[_Connection] = []
        self._slots = asyncio.Semaphore(connections)
        self._timeout = timeout

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """POST `body` as JSON. Never retries: a failed exchange is reported as status 0."""
        lines = [
            f"POST {path} HTTP/1.1",
            f"host: {self._host}:{self._port}",
            "content-type: application/json",
        ]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines.append(f"content-length: {len(body)}\r\n\r\n")
        message = "\r\n".join(lines).encode("latin-1") + body
        async with self._slots:
            started = time.perf_counter()
            try:
                connection = await self._connection()
                status, received, content = await asyncio.wait_for(
                    connection.exchange(message), self._timeout
                )
            except (OSError, TimeoutError) as error:
                return Answer(0, {}, str(error).encode(), time.perf_counter() - started)
            if not connection.closed:
                self._free.append(connection)
            return Answer(status, received, content, time.perf_counter() - started)

    async def _connection(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if not connection.closed:
                return connection
        _, protocol = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return protocol

    def close(self) -> None:
        for connection in self._free:
            connection.close()
        self._free.clear()
