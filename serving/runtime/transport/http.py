"""HTTP/1.1 on a connection: framing, limits and order; what a request means is the application's business.

Requests are answered in the order of their arrival, pipelined ones too, and a request that fails leaves its
connection usable. Only broken framing closes a connection, because nobody can say where the next request
starts; then the refusal is still delivered before the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import Protocol, cast

import httptools

from serving.runtime import refusal
from serving.runtime.transport.message import Exchange, Framing, Response, serialize
from serving.runtime.transport.simple import PlainRequests

READ_HEADERS = frozenset(
    (
        b"x-request-id",
        b"x-windlass-at",
        b"x-windlass-route",
        b"x-windlass-unit",
        b"host",
        b"expect",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
        b"content-type",
        b"accept-encoding",
        b"authorization",
        b"x-envoy-expected-rq-timeout-ms",
    )
)
MOST_TARGET = 2048
MOST_HEADER_BYTES = 16 * 1024
MOST_HEADERS = 100
MOST_OUTSTANDING = 128
LINGER_S = 1.0
_KEEP = Framing()
_PLAIN = PlainRequests(READ_HEADERS, MOST_HEADERS)


class Application(Protocol):
    """What a connection needs of the server."""

    most_body_bytes: int
    request_timeout_s: float
    idle_timeout_s: float
    draining: bool

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, now or later; never raises."""
        ...

    def holds(self, more: int) -> bool:
        """Count bytes of bodies that are held (negative: given back); False where there is no room for `more`."""
        ...

    def refuse(self, problem: refusal.Refusal) -> Response:
        """Answer what could not be read as a request."""
        ...

    def opened(self, connection: HttpProtocol) -> None: ...

    def closed(self, connection: HttpProtocol) -> None: ...


class HttpProtocol(asyncio.Protocol):
    """One connection.

    A subclass may override `write_response`, the one way by which every answer leaves: it may be called with
    the same bytes later (a delay, a fault under test) as long as the order stays. A drain and a closing
    connection wait for what it holds back.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.waiting = 0
        """Responses that were handed to `write_response` and have not left yet."""
        self._parser = httptools.HttpRequestParser(self)
        self._receiving = False
        self._ending = False
        self._lingering = False
        self._refused: refusal.Refusal | None = None
        self._complete: list[Exchange] = []
        self._outstanding: deque[Exchange] = deque()
        self._unhandled: deque[Exchange] = deque()
        self._paused = False
        self._unread = False
        self._held = 0
        self._last_activity = time.monotonic()
        self._body: bytes | bytearray = b""
        self._reset()

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.app.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._outstanding.clear()
        self._unhandled.clear()
        self._give_back()
        # the parser and this connection hold each other, and the collector comes by rarely: what it held goes now
        self._body = b""
        self._parser = None
        self.app.closed(self)

    def data_received(self, data: bytes) -> None:
        self._last_activity = time.monotonic()
        if self._ending:
            return
        if not self._receiving:
            head = _PLAIN.head(data)
            if head is not None and len(data) - head[3] <= self.app.most_body_bytes:
                exchange = Exchange(
                    head[0], head[1], head[2], data[head[3] :], _KEEP, time.perf_counter(), self._answered
                )
                self._outstanding.append(exchange)
                self.app.handle(exchange)
                if len(self._outstanding) > MOST_OUTSTANDING:
                    self._pause()
                return
        problem: refusal.Refusal | None = None
        upgrade = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            upgrade = True
        except httptools.HttpParserError as found:
            problem = self._refused or refusal.BadRequest(f"this is not HTTP/1.1: {found}")
        if self._receiving and problem is None:
            problem = self._hold()
        if self._complete:
            self._answer()
        if problem is not None and not self._ending:
            self._refuse(problem)
        elif upgrade:
            # the request itself was answered as if it had not asked; what follows is no HTTP/1.1
            self._close_when_written()

    def eof_received(self) -> bool:
        """Keep our side open for the answers to a client that only stopped sending."""
        if self._receiving and not self._ending:
            self._refuse(refusal.BadRequest(f"the body ends after {len(self._body)} bytes, before its end"))
        else:
            self._close_when_written()
        return True

    def pause_writing(self) -> None:
        # a client that does not read its answers gets no further ones computed
        self._unread = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        self._hand_on()
        self._resume()

    # ---- the parser's side

    def on_message_begin(self) -> None:
        self._reset()
        self._receiving = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MOST_TARGET:
            self._stop(refusal.TargetTooLong(f"the target exceeds {MOST_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES or self._header_count > MOST_HEADERS:
            self._stop(
                refusal.HeadersTooLarge(
                    f"the headers exceed {MOST_HEADER_BYTES} bytes or {MOST_HEADERS} lines"
                )
            )
        name = name.lower()
        if name in READ_HEADERS:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        headers = self._headers
        if int(headers.get(b"content-length", b"0")) > self.app.most_body_bytes:
            self._stop(self._too_large())
        due = self._complete or self._unwritten()
        if headers.get(b"expect", b"").lower() == b"100-continue" and not due:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > self.app.most_body_bytes:
            self._stop(self._too_large())

    def on_message_complete(self) -> None:
        self._receiving = False
        self._give_back()
        parser = self._parser
        method = parser.get_method()
        keep: bool = parser.should_keep_alive()
        framing = _KEEP
        if not keep or method == b"HEAD" or parser.get_http_version() != "1.1":
            framing = Framing(keep, parser.get_http_version() == "1.0", method == b"HEAD")
        self._complete.append(
            Exchange(
                method, self._target, self._headers, self._body, framing, time.perf_counter(), self._answered
            )
        )
        self._body = b""  # a connection may be idle for an hour

    # ---- the answer

    def _answer(self) -> None:
        """Hand on what one turn of the event loop brought."""
        complete, self._complete = self._complete, []
        for i, exchange in enumerate(complete):
            if not exchange.framing.keep_alive:
                self._ending = True
                del complete[i + 1 :]
                break
        # all are in line before one is handled: one that is answered at once must see who stands behind it
        self._outstanding.extend(complete)
        self._unhandled.extend(complete)
        self._hand_on()

    def _hand_on(self) -> None:
        """Hand on requests in their order, as long as their answers are read: one read may bring thousands."""
        while self._unhandled and not self._unread:
            self.app.handle(self._unhandled.popleft())
        if len(self._outstanding) > MOST_OUTSTANDING and not self._ending:
            self._pause()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def _resume(self) -> None:
        if not (self._paused or self._unread or self._ending):
            self.transport.resume_reading()

    def _answered(self, exchange: Exchange) -> None:
        """Write every response whose turn it is; in a drain the last one says that it is the last."""
        outstanding = self._outstanding
        while outstanding and (response := outstanding[0].response) is not None:
            framing = outstanding.popleft().framing
            if self.app.draining and not outstanding and not self._receiving:
                framing = replace(framing, keep_alive=False)
            if not framing.keep_alive:
                self._ending = True
                outstanding.clear()
                self._unhandled.clear()
            self.waiting += 1
            self.write_response(serialize(response, framing))
        if self._paused and len(outstanding) <= MOST_OUTSTANDING // 2:
            self._paused = False
            self._resume()

    def write_response(self, data: bytes) -> None:
        """Send one complete response; an override calls this once for each, when it shall leave."""
        self.waiting -= 1
        if not self.transport.is_closing():
            self.transport.write(data)
            if self._ending and not self._unwritten():
                self._end()

    def _unwritten(self) -> bool:
        return bool(self.waiting or self._outstanding)

    def _refuse(self, problem: refusal.Refusal) -> None:
        """Answer what cannot be framed, and close: where the next request starts is unknown."""
        self._ending = self._lingering = True
        self._receiving = False
        last = Exchange(b"", b"", {}, b"", Framing(keep_alive=False), 0.0, self._answered)
        self._outstanding.append(last)
        last.answer(self.app.refuse(problem))

    def _end(self) -> None:
        if not self._lingering:
            self.transport.close()
            return
        # closing with unread bytes resets the connection, and the client would never read why
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def _close_when_written(self) -> None:
        self._ending = True
        if not self._unwritten():
            self.transport.close()

    # ---- the server's side

    def drain(self) -> None:
        """Close as soon as what was received is answered."""
        if not self._receiving:
            self._close_when_written()

    def check_time(self, now: float) -> None:
        """Close a connection on which nothing happens; called every second or so with the monotonic time."""
        patience = self.app.request_timeout_s
        if self._receiving and now - self._began > patience:
            self._refuse(refusal.TimedOut(f"the request did not arrive completely within {patience:.0f} s"))
            return
        # a client that does not read its answer is not merely idle
        unread = self._ending or self.transport.get_write_buffer_size()
        limit = patience if unread else self.app.idle_timeout_s
        if now - self._last_activity > limit and not self._unwritten():
            self.transport.abort()

    def _reset(self) -> None:
        self._began = time.monotonic()
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = self._header_bytes = 0
        self._body = b""

    def _hold(self) -> refusal.Refusal | None:
        """Count what is held of a body until the rest of it comes."""
        more = len(self._body) - self._held
        if not self.app.holds(more):
            return refusal.Overloaded("the server holds as many unfinished requests as it may; try again")
        self._held += more
        return None

    def _give_back(self) -> None:
        if self._held:
            self.app.holds(-self._held)
            self._held = 0

    def _stop(self, problem: refusal.Refusal) -> None:
        self._refused = problem
        raise problem  # the parser stops and reports it as its own error

    def _too_large(self) -> refusal.Refusal:
        return refusal.TooLarge(f"the body is larger than {self.app.most_body_bytes} bytes")
