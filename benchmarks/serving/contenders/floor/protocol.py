"""The floor under every Python server: an asyncio protocol that decodes, predicts and encodes V2 JSON.

It keeps no log, checks nothing and knows one path: what is left when everything that makes a server one is taken away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

import httptools
import uvloop

from benchmarks.serving.contenders.classifier import Classifier, arguments
from benchmarks.serving.contenders.floor.asgi import infer

Handle = Callable[[asyncio.Transport, bytes], None]


class Floor(asyncio.Protocol):
    """One connection; `handle` gets each request's body and sees to the answer."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._body = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._handle(self._transport, body)


def respond(transport: asyncio.Transport, answer: bytes) -> None:
    """Write a JSON answer."""
    transport.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (len(answer), answer)
    )


async def serve(port: int, handle: Handle) -> None:
    """Listen on `port` until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: Floor(handle), "127.0.0.1", port)
    await server.serve_forever()


async def main() -> None:
    told = arguments()
    answer = partial(infer, Classifier(told.model))
    await serve(told.port, lambda transport, body: respond(transport, answer(body)))


if __name__ == "__main__":
    uvloop.run(main())
