"""The replay's HTTP client against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from windlass.local.client import Answer, Client

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(handler: Handler, use: Callable[[str], Awaitable[list[Answer]]]) -> list[Answer]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await use(f"http://127.0.0.1:{port}/x")
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(
        next(line for line in head.split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
    )
    return head, await reader.readexactly(length)


def answer(body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def test_connections_are_kept_and_bounded() -> None:
    """Verify that forty requests use at most the four connections allowed, and each gets its own answer."""
    opened = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            try:
                _, body = await read_request(reader)
            except asyncio.IncompleteReadError:
                return
            await asyncio.sleep(0.001)
            writer.write(answer(body, b"X-Version: 3\r\n"))

    async def use(url: str) -> list[Answer]:
        client = Client(url, connections=4)
        answers = await asyncio.gather(*(client.post("/x", b"%d" % i) for i in range(40)))
        client.close()
        return answers

    answers = asyncio.run(with_server(handler, use))
    assert [a.body for a in answers] == [b"%d" % i for i in range(40)]
    assert {a.status for a in answers} == {200}
    assert answers[0].headers["x-version"] == "3"
    assert opened <= 4


def test_a_cut_connection_is_status_zero_and_costs_only_its_request() -> None:
    """Verify that a failed exchange is reported, never retried, and the next request works."""
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_request(reader)
        seen.append(body)
        if body == b"cut":
            writer.close()
            return
        writer.write(answer(b"ok"))

    async def use(url: str) -> list[Answer]:
        client = Client(url, connections=1)
        return [await client.post("/x", b"cut"), await client.post("/x", b"fine")]

    first, second = asyncio.run(with_server(handler, use))
    assert first.status == 0
    assert second.status == 200
    assert seen == [b"cut", b"fine"]


def test_a_silent_server_is_given_up() -> None:
    """Verify that a request has an end even if no answer comes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def use(url: str) -> list[Answer]:
        return [await Client(url, timeout=0.05).post("/x", b"hello")]

    assert asyncio.run(with_server(handler, use))[0].status == 0
