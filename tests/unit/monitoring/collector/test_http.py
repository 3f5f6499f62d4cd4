"""What one client may cost: memory is bounded whatever it sends and whatever it leaves unread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from monitoring.collector.http import LARGEST_BODY, LARGEST_MESSAGE, Connections, Request, Response, listen

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LAST = b"GET /last HTTP/1.1\r\nconnection: close\r\n\r\n"


async def served(
    handle: Callable[[Request], Awaitable[Response]], client: Client, connections: Connections | None = None
) -> None:
    """Run a client against a server of our own."""
    server = await listen(handle, connections or Connections(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        await asyncio.wait_for(client(reader, writer), 60)
    finally:
        writer.close()
        server.close()


def test_a_head_without_end_is_refused() -> None:
    """Verify that headers are counted as bodies are, and that whoever shows metrics is told."""
    told: list[None] = []

    async def handle(request: Request) -> Response:
        raise AssertionError("no request was whole")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nendless: " + b"a" * (LARGEST_MESSAGE + 1))
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")

    asyncio.run(served(handle, client, Connections(refused=lambda: told.append(None))))
    assert len(told) == 1


def test_who_comes_when_all_connections_are_taken_is_told_to_come_again() -> None:
    """Verify that the one beyond the limit is refused before it says anything, counted, and taken once another leaves,
    and that those who are there are served meanwhile."""
    told: list[None] = []
    connections = Connections(most=2, crowded=lambda: told.append(None))

    async def handle(request: Request) -> Response:
        return Response(200, b"{}")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")
        _, second = await asyncio.open_connection(*address)
        while len(connections.open) < 2:
            await asyncio.sleep(0.01)
        refused, third = await asyncio.open_connection(*address)
        answer = (await refused.read()).decode()
        third.close()
        assert answer.startswith("HTTP/1.1 503 ") and "retry-after: 1" in answer
        assert "connection: close" in answer and answer.endswith(
            '{"error":"too many connections are open; send it again"}'
        )
        assert len(told) == 1 and len(connections.open) == 2
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        second.close()
        while len(connections.open) == 2:
            await asyncio.sleep(0.01)
        again, fourth = await asyncio.open_connection(*address)
        fourth.write(LAST)
        assert await again.readline() == b"HTTP/1.1 200 OK\r\n"
        fourth.close()
        assert len(told) == 1

    asyncio.run(served(handle, client, connections))


def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    """Verify that requests wait where their answers would, and are all answered once those are read."""
    handled = 0

    async def handle(request: Request) -> Response:
        nonlocal handled
        handled += 1
        return Response(200, b"y" * 100_000)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(500):
            writer.write(b"GET / HTTP/1.1\r\npadding: " + b"x" * 2000 + b"\r\n\r\n")
            await asyncio.sleep(0)
        writer.write(LAST)
        before = -1
        while before != handled:
            before = handled
            await asyncio.sleep(0.2)
        assert handled < 400
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 501

    asyncio.run(served(handle, client))
    assert handled == 501


def test_bodies_that_wait_for_their_turn_come_to_about_one() -> None:
    """Verify that a client that sends large bodies ahead of its answers is slowed, and answered."""
    free = asyncio.Event()

    async def handle(request: Request) -> Response:
        await free.wait()
        return Response(200, b"")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = bytes(LARGEST_BODY // 2)
        for _ in range(16):
            writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.write(LAST)
        before, left = -1, 0
        while before != left:
            before = left
            await asyncio.sleep(0.2)
            left = writer.transport.get_write_buffer_size()
        assert left > 8 * len(body), "most of it was not taken"
        free.set()
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 17

    asyncio.run(served(handle, client))
