"""A connection without a network: the transport is the test's, the protocol is the server's own."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import uvloop

from serving.runtime import refusal
from serving.runtime.transport.http import HttpProtocol
from serving.runtime.transport.message import Exchange, Response, error

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on the server's event loop: a refused connection sets a timer."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Wire(asyncio.Transport):
    """The transport of one connection: keeps what is written, and what was asked of it.

    Attributes:
        full: whether its client has stopped reading.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False
        self.ended = False
        self.aborted = False
        self.full = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.full else 0


@dataclass
class Echo:
    """An `http.Application` that answers a request with what it read of it, at once or when it is told.

    Attributes:
        read: method, target, headers, body and framing of each request.
        held: bytes of bodies that are held.
        later: the requests that wait for `answer_all`, where it is not None.
    """

    most_body_bytes: int = 1 << 20
    most_held_bytes: int = 1 << 20
    request_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0
    draining: bool = False
    read: list[tuple[object, ...]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    held: int = 0
    later: list[Exchange] | None = None
    connections: set[HttpProtocol] = field(default_factory=set)

    def handle(self, exchange: Exchange) -> None:
        said = (
            exchange.method,
            exchange.target,
            dict(exchange.headers),
            bytes(exchange.body),
            exchange.framing,
        )
        self.read.append(said)
        if self.later is None:
            exchange.answer(Response(200, repr(said).encode()))
        else:
            self.later.append(exchange)

    def answer_all(self, order: Callable[[list[Exchange]], Iterable[Exchange]] = list) -> None:
        waiting, self.later = self.later or [], []
        for exchange in order(waiting):
            exchange.answer(Response(200, exchange.target))

    def holds(self, more: int) -> bool:
        if more > 0 and self.held + more > self.most_held_bytes:
            return False
        self.held += more
        return True

    def refuse(self, problem: refusal.Refusal) -> Response:
        self.refused.append(f"{problem.status} {problem}")
        return error(problem.status, str(problem))

    def opened(self, connection: HttpProtocol) -> None:
        self.connections.add(connection)

    def closed(self, connection: HttpProtocol) -> None:
        self.connections.discard(connection)


@dataclass
class Conversation:
    """One connection to an application."""

    app: Echo = field(default_factory=Echo)
    wire: Wire = field(default_factory=Wire)

    def __post_init__(self) -> None:
        self.protocol = HttpProtocol(self.app)
        self.protocol.connection_made(self.wire)

    def send(self, *pieces: bytes) -> Conversation:
        """Let the pieces arrive, as far as the connection still takes any."""
        for piece in pieces:
            if piece and not self.wire.closing:
                self.protocol.data_received(piece)
        return self

    @property
    def outcome(self) -> tuple[object, ...]:
        """Everything that a client and the application saw; of a refusal, which may find one fault or another
        first, only that it was one."""
        return (
            self.app.read,
            len(self.app.refused),
            self.wire.written if not self.app.refused else b"",
            self.wire.closing,
            self.wire.ended,
            self.app.held,
        )


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces."""
    bounds = [0, *sorted({p % (len(data) + 1) for p in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]
