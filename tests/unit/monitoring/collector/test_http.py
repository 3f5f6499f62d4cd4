"""What one client may cost: memory is bounded whatever it sends and whatever it leaves unread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from monitoring.collector.connection import LARGEST_BODY, LARGEST_MESSAGE, MOST_GUESTS, Connections, listen
from monitoring.collector.http import Request, Response

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


async def crowd(address: tuple[str, int], connections: Connections, count: int) -> list[asyncio.StreamWriter]:
    """Connections that say nothing, and are there."""
    before = len(connections.open)
    made = [(await asyncio.open_connection(*address))[1] for _ in range(count)]
    while len(connections.open) < before + count:
        await asyncio.sleep(0.01)
    return made


def test_who_comes_when_all_connections_are_taken_is_told_to_come_again() -> None:
    """Verify that the one beyond the limit is refused, counted, and taken once another leaves, that it reads so though
    most of what it sent is not read, and that those who are there are served meanwhile."""
    told: list[None] = []
    connections = Connections(most=2, crowded=lambda: told.append(None))

    async def handle(request: Request) -> Response:
        return Response(200, b"{}")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")
        (second,) = await crowd(address, connections, 1)
        for body in (b"", bytes(LARGEST_BODY)):
            refused, third = await asyncio.open_connection(*address)
            third.write(b"POST /events HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await third.drain()
            answer = (await refused.read()).decode()
            third.close()
            assert answer.startswith("HTTP/1.1 503 ") and "retry-after: 1" in answer
            assert "connection: close" in answer and answer.endswith(
                '{"error":"too many connections are open; send it again"}'
            )
        assert len(told) == 2 and len(connections.open) == 2
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        again, fourth = await asyncio.open_connection(*address)
        second.close()
        while len(connections.open) > len(connections.guests) + 1:
            await asyncio.sleep(0.01)
        for _ in range(2):
            fourth.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await again.readuntil(b"{}") and not connections.guests, (
                "it has the place that became free"
            )
        fourth.close()
        assert len(told) == 2

    asyncio.run(served(handle, client, connections))


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_who_asks_how_it_goes_is_heard_when_all_connections_are_taken(path: str) -> None:
    """Verify that probes and scrapes have places of their own, of which each gives its own back."""
    told: list[None] = []
    connections = Connections(most=2, crowded=lambda: told.append(None))

    async def handle(request: Request) -> Response:
        return Response(200, request.path.encode())

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")
        silent = await crowd(address, connections, MOST_GUESTS)
        for _ in range(2 * MOST_GUESTS):
            asked, asker = await asyncio.open_connection(*address)
            asker.write(b"GET %s HTTP/1.1\r\n\r\n" % path.encode())
            answer = await asked.read()
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(path.encode())
            asker.close()
        assert told == []
        silent += await crowd(address, connections, 1)
        beyond, last = await asyncio.open_connection(*address)
        assert (await beyond.read()).startswith(b"HTTP/1.1 503 ")
        assert len(told) == 1
        for each in (*silent, last):
            each.close()

    asyncio.run(served(handle, client, connections))


def test_a_guest_who_says_nothing_gives_its_place_back() -> None:
    connections = Connections(most=1, head_s=0.2)

    async def handle(request: Request) -> Response:
        raise AssertionError("nobody asked")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not connections.open:
            await asyncio.sleep(0.01)
        silent, guest = await asyncio.open_connection(*writer.get_extra_info("peername"))
        assert await silent.read() == b""
        guest.close()
        assert len(connections.open) == 1 and not connections.guests

    asyncio.run(served(handle, client, connections))


def test_a_head_that_does_not_end_is_refused() -> None:
    """Verify that time counts from where the head began, however much of it keeps coming, and that what was asked
    before is answered before."""
    told: list[None] = []

    async def handle(request: Request) -> Response:
        return Response(200, b"{}")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def drip() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.05)

        writer.write(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nendless: ")
        dripping = asyncio.create_task(drip())
        try:
            answers = await reader.read()
        finally:
            dripping.cancel()
        assert answers.startswith(b"HTTP/1.1 200 ") and answers.count(b"HTTP/1.1 408 ") == 1
        assert answers.endswith(b'send it again"}')

    asyncio.run(served(handle, client, Connections(head_s=0.3, refused=lambda: told.append(None))))
    assert len(told) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="a-request-once"),
        pytest.param(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf", id="half-a-body"),
    ],
)
def test_a_connection_on_which_nothing_happens_is_closed(said: bytes) -> None:
    """Verify that one whose answer takes longer than that is none of those."""
    connections = Connections(idle_s=0.3)

    async def handle(request: Request) -> Response:
        await asyncio.sleep(1.0)
        return Response(200, b"slow")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        answers = await reader.read()
        assert answers.endswith(b"slow") if said.startswith(b"GET") else answers == b""
        while connections.open:
            await asyncio.sleep(0.01)

    asyncio.run(served(handle, client, connections))


def test_whoever_leaves_its_answer_unread_is_closed() -> None:
    connections = Connections(idle_s=0.3)

    async def handle(request: Request) -> Response:
        return Response(200, bytes(64 * 1024 * 1024))

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        while not connections.open:
            await asyncio.sleep(0.01)
        while connections.open:
            await asyncio.sleep(0.01)

    asyncio.run(served(handle, client, connections))


def test_the_kernel_probes_connections() -> None:
    """Verify that a client whose machine is gone is found though an answer is being made for it."""
    import socket

    async def handle(request: Request) -> Response:
        raise AssertionError("nobody asked")

    async def probed() -> None:
        connections = Connections()
        server = await listen(handle, connections, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        while not connections.open:
            await asyncio.sleep(0.01)
        (connection,) = connections.open
        assert connection._transport is not None
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        writer.close()
        server.close()

    asyncio.run(probed())


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
