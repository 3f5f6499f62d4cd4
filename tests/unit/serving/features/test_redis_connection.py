"""Answers come to the question that asked for them, in time or not at all, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.runtime.bundle import Bundle
from serving.runtime.features import redis_connection
from serving.runtime.features.reader import StoreBusyError, StoreError, StoreLostError, StoreTimeoutError
from serving.runtime.features.redis_reader import RedisReader

from .conftest import NOW, command, double, playing, reply, stamp, store

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ROW = {"carrier": "UA", "origin": "JFK"}
LONG = 30.0


async def read(reader: RedisReader, *rows: Mapping[str, str], budget_s: float = LONG) -> Any:
    """What `begin` calls back with."""
    answered = asyncio.get_running_loop().create_future()
    reader.begin(rows, [NOW] * len(rows), budget_s, answered.set_result)
    return await answered


def answer(words: list[bytes], value: float = 1.0) -> bytes:
    """A full reply to an HMGET of the bundle's hashes; to anything else, OK."""
    if words[0] != b"HMGET":
        return b"+OK\r\n"
    return reply([stamp(NOW), *[double(value)] * (len(words) - 3)])


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(answer(await command(reader)))


def test_an_answer_in_single_bytes_is_an_answer(run: Run, described: Bundle) -> None:
    async def bytewise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            for byte in answer(await command(reader), 2.5):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

    async def main() -> None:
        async with playing(bytewise) as url:
            reader = RedisReader(url, described)
            assert await read(reader, ROW) == [[2.5, 2.5, 2.5]]
            reader.close()

    run(main())


def test_rows_with_the_same_key_ask_once(run: Run, described: Bundle) -> None:
    asked: list[bytes] = []

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            words = await command(reader)
            asked.extend(words[1:2] if words[0] == b"HMGET" else [])
            writer.write(answer(words))

    async def main() -> None:
        async with playing(counting) as url:
            reader = RedisReader(url, described)
            rows = await read(reader, ROW, {**ROW, "origin": "LGA"}, ROW)
            assert rows == [[1.0, 1.0, 1.0]] * 3
            reader.close()
        assert len(asked) == len(set(asked)) == 3

    run(main())


def test_a_late_reply_is_never_the_answer_to_another_question(run: Run, described: Bundle) -> None:
    """Verify that a question whose time is over stays in line behind one that has time, and is dropped there."""
    patient = asyncio.Event()
    connections = 0

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for value in (1.0, 2.0, 3.0):
            for _ in range(2):  # two entities
                words = await command(reader)
                while words[0] != b"HMGET":
                    writer.write(answer(words))
                    words = await command(reader)
                if value == 1.0:
                    await patient.wait()
                writer.write(answer(words, value))
        await reader.read()

    async def main() -> None:
        async with playing(late) as url:
            reader = RedisReader(url, described)
            first = asyncio.ensure_future(read(reader, ROW))
            await asyncio.sleep(0)
            second = await read(reader, ROW, budget_s=0.2)
            assert isinstance(second, StoreTimeoutError)
            third = asyncio.ensure_future(read(reader, ROW))
            await asyncio.sleep(0)
            patient.set()
            assert await first == [[1.0, 1.0, 1.0]]
            assert await third == [[3.0, 3.0, 3.0]]
            reader.close()
        assert connections == 1

    run(main())


def test_a_connection_whose_oldest_question_is_overdue_is_replaced(run: Run, described: Bundle) -> None:
    connections = 0

    async def first_hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.read()
        await answering(reader, writer)

    async def main() -> None:
        async with playing(first_hangs) as url:
            reader = RedisReader(url, described)
            hanging = await read(reader, ROW, budget_s=0.2)
            assert isinstance(hanging, StoreTimeoutError)
            assert "secret" not in str(hanging)
            assert await read(reader, ROW) == [[1.0, 1.0, 1.0]]
            reader.close()
        assert connections == 2

    run(main())


def test_a_question_whose_time_has_come_already_does_not_fail_the_next(run: Run, described: Bundle) -> None:
    """Verify with two in one turn of the loop: uvloop's handle of a moment that is over knows no moment."""

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with playing(hangs) as url:
            reader = RedisReader(url, described)
            asked = [
                asyncio.ensure_future(read(reader, ROW, budget_s=budget_s)) for budget_s in (0.0, 0.01, 0.0)
            ]
            found = await asyncio.gather(*asked)
            assert [type(outcome) for outcome in found] == [StoreTimeoutError] * 3
            reader.close()

    run(main())


@pytest.mark.parametrize(
    ("resets", "recovers"), [pytest.param(1, True, id="once"), pytest.param(9, False, id="always")]
)
def test_a_reset_is_retried_once(run: Run, described: Bundle, resets: int, recovers: bool) -> None:
    connections = 0

    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections <= resets:
            while (words := await command(reader))[0] != b"HMGET":
                writer.write(answer(words))
            # one of two replies and a half: neither may become part of the next answer
            writer.write(answer(words, 666.0) + answer(words, 666.0)[:20])
            await writer.drain()
            writer.close()
            return
        await answering(reader, writer)

    async def main() -> None:
        async with playing(resetting) as url:
            reader = RedisReader(url, described)
            outcome = await read(reader, ROW)
            if recovers:
                assert outcome == [[1.0, 1.0, 1.0]]
            else:
                assert isinstance(outcome, StoreLostError)
            reader.close()
        assert connections == 2

    run(main())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error", id="another-protocol"),
        pytest.param(b"\x00\xff" * 50, "Protocol error", id="noise"),
        pytest.param(b"+OK\r\n" * 2, "expected 3 values", id="a-reply-of-another-kind"),
        pytest.param(b"*1\r\n$1\r\na\r\n" * 2, "expected 3 values", id="too-few-values"),
        pytest.param(b"*-1\r\n" * 2, "expected 3 values", id="nothing"),
        pytest.param(b"*99999999999\r\n", "out of range", id="an-endless-list"),
        pytest.param(b"$99999999\r\n" + b"x" * (2 << 20), "larger than", id="a-large-reply"),
        pytest.param(b"-LOADING Redis is loading the dataset in memory\r\n" * 2, "LOADING", id="loading"),
        pytest.param(b"-NOAUTH Authentication required.\r\n" * 2, "NOAUTH", id="not-entered"),
        pytest.param(
            b"-MOVED 42 10.0.0.1:6379\r\n" * 2, "Redis Cluster, which is not read here", id="a-cluster"
        ),
    ],
)
def test_garbage_is_a_failure_that_names_the_store(
    run: Run, described: Bundle, said: bytes, message: str
) -> None:
    async def garbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (words := await command(reader))[0] != b"HMGET":
            writer.write(answer(words))
        writer.write(said)
        await reader.read()

    async def main() -> None:
        async with playing(garbling) as url:
            reader = RedisReader(url, described)
            with pytest.raises(StoreError, match=message) as failure:
                outcome = await read(reader, ROW)
                assert isinstance(outcome, StoreError), outcome
                raise outcome
            assert f"online store redis://127.0.0.1:{urlsplit(url).port}/0" in str(failure.value)
            assert "secret" not in str(failure.value)
            reader.close()

    run(main())


def test_a_reply_to_nothing_replaces_the_connection(run: Run, described: Bundle) -> None:
    connections = 0

    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await command(reader)  # AUTH
        writer.write(b"+OK\r\n" + answer(await command(reader)) + answer(await command(reader)))
        writer.write(reply([stamp(NOW), double(666.0)]))
        await reader.read()

    async def main() -> None:
        async with playing(chatty) as url:
            reader = RedisReader(url, described)
            for _ in range(3):
                assert await read(reader, ROW) == [[1.0, 1.0, 1.0]]
            reader.close()
        assert connections == 3

    run(main())


def test_what_is_under_way_is_bounded(run: Run, described: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "MOST_COMMANDS", 5)
    release = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answering(reader, writer)

    async def main() -> None:
        async with playing(waiting) as url:
            reader = RedisReader(url, described)
            under_way = [asyncio.ensure_future(read(reader, ROW)) for _ in range(2)]  # two commands each
            await asyncio.sleep(0)
            refused = await read(reader, ROW)
            assert isinstance(refused, StoreBusyError)
            release.set()
            assert await asyncio.gather(*under_way) == [[[1.0, 1.0, 1.0]]] * 2
            assert await read(reader, ROW) == [[1.0, 1.0, 1.0]]
            reader.close()

    run(main())


def test_a_store_that_is_not_there_fails_at_once_and_is_found_when_it_comes(
    run: Run, described: Bundle
) -> None:
    async def main() -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))  # a port where nobody listens, and that nobody else gets meanwhile
        reader = RedisReader(f"redis://:secret@127.0.0.1:{listener.getsockname()[1]}/0", described)
        outcome = await read(reader, ROW)
        assert isinstance(outcome, StoreLostError)
        assert "refused" in str(outcome) or "Connect call failed" in str(outcome)
        server = await asyncio.start_server(answering, sock=listener)
        assert await read(reader, ROW) == [[1.0, 1.0, 1.0]]
        reader.close()
        server.close()

    run(main())


def test_a_connection_that_is_given_up_as_it_opens_is_not_kept(
    run: Run, described: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify it for a machine that stalls just then: uvloop closes what it has announced, and tells nobody."""
    monkeypatch.setattr(redis_connection, "CONNECT_TIMEOUT_S", 0.05)
    opened = redis_connection.RedisConnection.opened
    stalls = [0.2]

    def stalled(self: redis_connection.RedisConnection, wire: Any) -> None:
        opened(self, wire)
        if stalls:
            time.sleep(stalls.pop())
            # those after it have their time, however busy the machine is
            monkeypatch.setattr(redis_connection, "CONNECT_TIMEOUT_S", LONG)

    monkeypatch.setattr(redis_connection.RedisConnection, "opened", stalled)

    async def main() -> None:
        async with playing(answering) as url:
            reader = RedisReader(url, described)
            waiting = asyncio.ensure_future(read(reader, ROW))
            while stalls:
                if waiting.done():  # the machine stalled before it opened
                    waiting = asyncio.ensure_future(read(reader, ROW))
                await asyncio.sleep(0)
            asked_meanwhile = await read(reader, ROW)
            # asyncio's own loop keeps such a connection
            assert isinstance(await waiting, StoreLostError) or asked_meanwhile == [[1.0, 1.0, 1.0]]
            assert [await read(reader, ROW) for _ in range(3)] == [[[1.0, 1.0, 1.0]]] * 3
            reader.close()

    run(main())


def test_closing_fails_what_is_under_way(run: Run, described: Bundle) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with playing(silent) as url:
            reader = RedisReader(url, described)
            under_way = asyncio.ensure_future(read(reader, ROW))
            await asyncio.sleep(0)
            reader.close()
            assert isinstance(await under_way, StoreLostError)

    run(main())


# ---- a real redis


@pytest.fixture
def written(redis_url: str) -> str:
    store(redis_url, "carrier_delays", "carrier", "UA", {"delay_1h": double(11.5), "late_share": double(0.4)})
    store(redis_url, "origin_load", "origin", "JFK", {"departures": double(31.0)})
    return redis_url


@pytest.mark.parametrize(
    "entry", [pytest.param("", id="default-user"), pytest.param("reader", id="named-user")]
)
def test_enters_with_user_and_password(run: Run, described: Bundle, written: str, entry: str) -> None:
    import redis

    admin = redis.Redis.from_url(written, single_connection_client=True)  # stays entered whatever changes
    if entry:
        admin.execute_command("ACL", "SETUSER", entry, "on", ">s3cr3t!", "~*", "+@all")
    else:
        admin.execute_command("CONFIG", "SET", "requirepass", "s3cr3t!")
    port = urlsplit(written).port
    try:

        async def main() -> None:
            right = RedisReader(f"redis://{entry}:s3cr3t%21@127.0.0.1:{port}/0", described, budget_s=LONG)
            assert await read(right, ROW) == [[11.5, 0.4, 31.0]]
            assert right.read(ROW, NOW) == [11.5, 0.4, 31.0]
            right.close()
            wrong = RedisReader(f"redis://{entry}:wrong-word@127.0.0.1:{port}/0", described, budget_s=LONG)
            outcome = await read(wrong, ROW)
            assert isinstance(outcome, StoreError)
            assert "AUTH was refused" in str(outcome)
            assert "wrong-word" not in str(outcome)
            with pytest.raises(StoreError, match="refused"):
                wrong.read(ROW, NOW)
            wrong.close()

        run(main())
    finally:
        admin.execute_command("CONFIG", "SET", "requirepass", "")
        admin.close()


def test_reads_the_database_that_is_named(run: Run, described: Bundle, written: str) -> None:
    other = written.removesuffix("/0") + "/5"
    store(other, "origin_load", "origin", "JFK", {"departures": double(99.0)})

    async def main() -> None:
        reader = RedisReader(other, described, budget_s=LONG)
        [values] = await read(reader, ROW)
        assert values[2] == reader.read(ROW, NOW)[2] == 99.0
        reader.close()

    run(main())


@contextlib.asynccontextmanager
async def before(redis_url: str, **listen: Any) -> AsyncIterator[None]:
    """Another door to a redis: everything is passed on."""
    port = urlsplit(redis_url).port

    async def passed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed(reader, behind_writer), passed(behind, writer))

    if "path" in listen:
        server = await asyncio.start_unix_server(serve, **listen)
    else:
        server = await asyncio.start_server(serve, **listen)
    try:
        yield
    finally:
        server.close()


def test_reads_over_a_socket_in_the_file_system(
    run: Run, described: Bundle, written: str, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "redis.sock"
        async with before(written, path=str(path)):
            reader = RedisReader(f"unix://{path}", described, budget_s=LONG)
            assert await read(reader, ROW) == [[11.5, 0.4, 31.0]]
            assert await asyncio.to_thread(reader.read, ROW, NOW) == [11.5, 0.4, 31.0]
            reader.close()

    run(main())


def certificate(folder: Path) -> Path:
    """A key and a certificate of its own for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_reads_over_tls_and_trusts_only_whom_it_was_told_to(
    run: Run, described: Bundle, written: str, tmp_path: Path
) -> None:
    file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        async with before(written, sock=listener, ssl=context):
            trusting = RedisReader(
                f"rediss://localhost:{port}/0?ssl_ca_certs={file}", described, budget_s=LONG
            )
            assert await read(trusting, ROW) == [[11.5, 0.4, 31.0]]
            assert await asyncio.to_thread(trusting.read, ROW, NOW) == [11.5, 0.4, 31.0]
            trusting.close()
            strange = RedisReader(f"rediss://localhost:{port}/0", described)
            outcome = await read(strange, ROW)
            assert isinstance(outcome, StoreLostError)
            assert "verif" in str(outcome).lower()
            strange.close()

    run(main())


def test_a_redis_that_hangs_stops_neither_the_event_loop_nor_the_answers_after_it(
    run: Run, described: Bundle, written: str
) -> None:
    import redis

    with redis.Redis.from_url(written) as client:
        process = client.info("server")["process_id"]

    async def main() -> None:
        reader = RedisReader(written, described)
        assert await read(reader, ROW) == [[11.5, 0.4, 31.0]]
        os.kill(process, signal.SIGSTOP)
        try:
            turns = 0
            waiting = asyncio.ensure_future(read(reader, ROW, budget_s=0.5))
            while not waiting.done():
                turns += 1
                await asyncio.sleep(0.001)
            assert isinstance(waiting.result(), StoreTimeoutError)
            assert turns > 1
        finally:
            os.kill(process, signal.SIGCONT)
        # the late answer about JFK must not become the one about an origin that is not there
        [values] = await read(reader, {"carrier": "UA", "origin": "none"})
        assert values[:2] == [11.5, 0.4]
        assert values[2] != values[2]
        reader.close()

    run(main())
