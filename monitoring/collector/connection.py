"""Connections of HTTP/1.1: keep-alive, one answer at a time, in order, and no more of them than there are places."""

from __future__ import annotations

import asyncio
import errno
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

import httptools

from monitoring.collector.http import Handler, Request, Response, error
from monitoring.collector.patience import HEAD_S, IDLE_S, LINGER_S, Patience, keep_alive
from windlass.errors import PortInUseError

LARGEST_BODY = 8 * 1024 * 1024
#: a request whose head, trailers and chunks come to this is no request
LARGEST_MESSAGE = 2 * LARGEST_BODY
#: requests of one client that wait for their answers before no more is read from it; nor where they come to a body
MOST_AHEAD = 32
#: connections at a time: half of the files that a process may have open where nobody raised the usual limit
MOST_CONNECTIONS = 512
#: places beyond them, so that whoever asks how it goes is heard when all of them are taken
MOST_GUESTS = 16
GUESTS = frozenset(("/health", "/ready", "/metrics"))
#: connections that were refused and may still read why
MOST_LEAVING = 64


async def listen(handle: Handler, connections: Connections, host: str, port: int) -> asyncio.Server:
    """Serve on an address.

    Raises:
        PortInUseError: somebody else listens there.
    """
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(handle, connections), host, port)
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            raise PortInUseError(f"port {port} on {host} is taken; name another with --port") from failure
        raise
    keep_alive(server)
    return server


@dataclass
class Connections:
    """The open connections, so that a stopping server can let them finish.

    Attributes:
        open: those that are served, guests among them.
        guests: those beyond `most`, `MOST_GUESTS` of them; unless somebody left meanwhile they have one answer, and it
            is 503 but for a path of `GUESTS`.
        leaving: refused, until they have read why.
        refused: told of each request that comes to no handler, being too large, too slow or no HTTP.
        most: so many at a time.
        crowded: told of each request that is answered 503 because of them, and of each connection beyond the guests,
            which is refused before it has said anything.
        idle_s: a connection on which nothing happens for so long is closed.
        head_s: how long the head of a request may take, and a guest to say anything.
    """

    open: set[Connection] = field(default_factory=set)
    guests: set[Connection] = field(default_factory=set)
    leaving: set[Connection] = field(default_factory=set)
    refused: Callable[[], None] = lambda: None
    most: int = MOST_CONNECTIONS
    crowded: Callable[[], None] = lambda: None
    idle_s: float = IDLE_S
    head_s: float = HEAD_S

    @property
    def full(self) -> bool:
        return len(self.open) - len(self.guests) >= self.most

    async def drain(self, timeout: float) -> None:
        """Close what is idle at once and the rest as it finishes, all of it after `timeout` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self.open and asyncio.get_running_loop().time() < deadline:
            for connection in list(self.open):
                connection.close_when_idle()
            await asyncio.sleep(0.01)
        for connection in [*self.open, *self.leaving]:
            connection.close()


class Connection(asyncio.Protocol):
    """One client; requests that are sent ahead of answers wait in a queue."""

    def __init__(self, handle: Handler, connections: Connections) -> None:
        self._handle = handle
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request | Response, bool]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        #: bytes since the last whole request, and those of the bodies that wait
        self._taken = 0
        self._ahead = 0
        self._expects_continue = False
        self._refused = False
        self._paused = False
        self._unheard = False
        self._unread = 0
        self._in_head = False
        self._patience: Patience | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's transport is no subclass of asyncio's
        there = self._connections
        if there.full and len(there.guests) >= MOST_GUESTS:
            self._refused = True
            there.crowded()
            self._send(_CROWDED, keep_alive=False)
            return
        self._patience = Patience(
            there.idle_s, there.head_s, stirred=self._stirred, idle=self._abort, late=self._late
        )
        if there.full:
            there.guests.add(self)
            self._patience.head_begins()
        there.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.end()
        for each in (self._connections.open, self._connections.guests, self._connections.leaving):
            each.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._taken += len(data)
        try:
            self._parser.feed_data(data)
            if self._taken > LARGEST_MESSAGE and not self._refused:
                self._refuse(431, b'{"error":"the request is larger than %d bytes"}' % LARGEST_MESSAGE)
        except httptools.HttpParserUpgrade:
            self._refuse(400, b'{"error":"upgrades are not spoken here"}')
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(400, b'{"error":"not HTTP/1.1: %s"}' % str(error).encode().replace(b'"', b"'"))
        if self._patience is not None:
            self._patience.heard()
            if self._in_head and not self._refused:
                self._patience.head_begins()
            elif self not in self._connections.guests or self._waiting:
                self._patience.head_ends()

    def pause_writing(self) -> None:
        self._unheard = True
        self._unread = self._written()
        self._pace()

    def resume_writing(self) -> None:
        self._unheard = False
        if self._patience is not None:
            self._patience.heard()
        self._pace()

    def on_message_begin(self) -> None:
        self._url, self._body, self._size, self._expects_continue = b"", [], 0, False
        self._headers = {}
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _lower(name)
        self._headers[key] = value.decode("latin-1")
        if key == "expect" and value.lower() == b"100-continue":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        there = self._connections
        if self in there.guests:
            if not there.full:
                there.guests.discard(self)
            elif httptools.parse_url(self._url).path.decode("latin-1") not in GUESTS:
                self._refused = True
                there.crowded()
                self._enqueue(_CROWDED, keep_alive=False)
                return
        if self._expects_continue and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= LARGEST_BODY:
            self._body.append(body)
        elif not self._refused:
            self._refuse(
                413, b'{"error":"the body is larger than %d bytes; send it in parts"}' % LARGEST_BODY
            )

    def on_message_complete(self) -> None:
        if self._refused:
            return
        path = httptools.parse_url(self._url).path.decode("latin-1")
        method = self._parser.get_method().decode()
        self._taken = 0
        request = Request(method, path, b"".join(self._body), self._headers)
        guest = self in self._connections.guests
        self._enqueue(request, self._parser.should_keep_alive() and not guest)

    def _refuse(self, status: int, body: bytes) -> None:
        self._refused = True
        self._connections.refused()
        self._enqueue(Response(status, body), keep_alive=False)

    def _enqueue(self, item: Request | Response, keep_alive: bool) -> None:
        # answers leave in the order of their requests, a refusal after what was asked before it
        self._waiting.append((item, keep_alive))
        self._ahead += len(item.body)
        self._pace()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        try:
            while self._waiting:
                item, keep_alive = self._waiting[0]
                if isinstance(item, Response):
                    self._send(item, keep_alive)
                else:
                    self._send(await self._handled(item), keep_alive, head=item.method == "HEAD")
                self._waiting.popleft()
                self._ahead -= len(item.body)
                self._pace()
        finally:
            self._worker = None

    def _pace(self) -> None:
        """Read nothing more from a client that is far ahead of its answers, or does not take them."""
        most = MOST_AHEAD // 2 if self._paused else MOST_AHEAD
        much = self._unheard or len(self._waiting) >= most or self._ahead > LARGEST_BODY
        if much == self._paused or self._transport is None or self._transport.is_closing():
            return
        if self in self._connections.leaving:
            return
        self._paused = much
        if much:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def _handled(self, request: Request) -> Response:
        try:
            return await self._handle(request)
        except Exception:
            # the caller gets an answer and the connection goes on, whatever was overlooked
            traceback.print_exc()
            return Response(500, b'{"error":"internal error; the log has the details"}')

    def _send(self, response: Response, keep_alive: bool, head: bool = False) -> None:
        if self._transport is None:
            return
        lines = [
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
            f"content-type: {response.content_type}",
            f"content-length: {len(response.body)}",
            *(f"{name}: {value}" for name, value in response.headers),
        ]
        if not keep_alive:
            lines.append("connection: close")
        self._transport.write(
            "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else response.body)
        )
        if keep_alive:
            return
        if self._refused:
            self._leave(self._transport)
        else:
            self._transport.close()

    def _leave(self, transport: asyncio.Transport) -> None:
        """Hang up on somebody who may still be sending: what is unread at the end would throw the answer away."""
        there = self._connections
        there.open.discard(self)
        there.guests.discard(self)
        if len(there.leaving) >= MOST_LEAVING:
            transport.close()
            return
        there.leaving.add(self)
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def _written(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _stirred(self) -> bool:
        """Whether a connection that says nothing waits for us, or takes its answers slowly."""
        before, self._unread = self._unread, self._written()
        return self._unread < before if self._unheard else bool(self._waiting)

    def _late(self) -> None:
        """A head did not end in time, or a guest said nothing."""
        assert self._patience is not None  # noqa: S101 - it is the patience that ended
        self._patience.head_ends()
        if self._paused:
            # it is we who do not read
            self._patience.head_begins()
        elif self._in_head:
            self._refuse(408, b'{"error":"the head of the request took too long; send it again"}')
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        if not self._waiting:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


_CROWDED = Response(
    503, error(503, "too many connections are open; send it again").body, headers=(("retry-after", "1"),)
)


@lru_cache(maxsize=512)
def _lower(name: bytes) -> str:
    """A header's name; requests repeat the same dozen."""
    return name.decode("latin-1").lower()
