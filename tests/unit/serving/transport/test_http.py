"""A connection: the order of answers, limits, and what ends it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtime.transport.http import (
    MOST_HEADER_BYTES,
    MOST_HEADERS,
    MOST_OUTSTANDING,
    MOST_TARGET,
    HttpProtocol,
)
from serving.runtime.transport.message import Framing, Response, serialize

from .conftest import Conversation, Echo, Wire, cut, on_loop

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
PARSED = b"GET /%d HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, x\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (
        b"".join(h + b"\r\n" for h in headers), len(body), body,
    )  # fmt: skip


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks)
    return b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def bodies(written: bytes) -> list[bytes]:
    """The bodies of all responses, by their stated lengths."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append(rest[:length])
        written = rest[length:]
    return found


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 1000), places=st.lists(st.integers(0, 4096), max_size=5))
def test_answers_leave_in_the_order_of_the_requests(count: int, seed: int, places: list[int]) -> None:
    """Verify that pipelined requests, answered in any order, get their own answers in theirs."""
    talk = Conversation(Echo(later=[]))
    data = b"".join((GET if i % 3 else PARSED) % i for i in range(count))
    talk.send(*cut(data, places))
    talk.app.answer_all(lambda waiting: random.Random(seed).sample(waiting, len(waiting)))
    assert bodies(talk.wire.written) == [b"/%d" % i for i in range(count)]
    assert talk.protocol.waiting == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(post(b"x" * 101), 413, id="stated-length"),
        pytest.param(chunked(b"x" * 60, b"x" * 41), 413, id="chunks"),
        pytest.param(chunked(b"x" * 101), 413, id="one-chunk"),
        pytest.param(b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * MOST_TARGET), 414, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\na: %s\r\n\r\n" % (b"x" * MOST_HEADER_BYTES), 431, id="header-bytes"),
        pytest.param(b"GET / HTTP/1.1\r\n%s\r\n" % (b"a: b\r\n" * (MOST_HEADERS + 1)), 431, id="headers"),
        pytest.param(b"NONSENSE\r\n\r\n", 400, id="no-http"),
    ],
)
@on_loop
async def test_what_is_over_a_limit_is_refused_and_the_connection_ends(data: bytes, status: int) -> None:
    """Verify that the refusal is delivered, nothing after it is read, and the client may still read why."""
    talk = Conversation(Echo(most_body_bytes=100)).send(data, GET % 1)
    assert talk.wire.written.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in talk.wire.written
    assert talk.app.read == []
    assert talk.wire.ended and not talk.wire.closing


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(post(b"x" * 100), id="plain"),
        pytest.param(post(b"x" * 100, b"te: x"), id="parsed"),
        pytest.param(chunked(b"x" * 60, b"x" * 40), id="chunks"),
    ],
)
def test_what_is_within_the_limits_is_answered(data: bytes) -> None:
    """Verify that the largest body is read, however it comes."""
    talk = Conversation(Echo(most_body_bytes=100)).send(*cut(data, range(0, len(data), 7)), data, GET % 1)
    assert [read[3] for read in talk.app.read] == [b"x" * 100, b"x" * 100, b""]
    assert talk.app.held == 0


@on_loop
async def test_unfinished_bodies_share_a_bound() -> None:
    """Verify that bodies which have not arrived completely are counted, all of them, and given back at the end."""
    app = Echo(most_held_bytes=100)
    data = post(b"x" * 80, b"te: x")
    first, second = Conversation(app), Conversation(app)
    first.send(data[:-30])
    assert app.held == 50
    second.send(data[:-20])
    assert second.wire.written.startswith(b"HTTP/1.1 503 ")
    assert app.held == 50
    first.send(data[-30:])
    assert app.held == 0
    third = Conversation(app).send(data[:-30])
    third.protocol.connection_lost(None)
    assert app.held == 0


def test_a_connection_that_waits_keeps_no_body() -> None:
    """Verify that nothing of a request is kept once it was answered: an idle connection costs next to nothing."""
    talk = Conversation(Echo()).send(post(b"x" * 50_000, b"te: x"))
    talk.app.read.clear()
    talk.wire.written = b""
    kept = [v for v in vars(talk.protocol).values() if isinstance(v, bytes | bytearray | dict | list)]
    assert sum(map(len, kept)) < 1000


def test_a_client_that_does_not_read_gets_no_further_answers() -> None:
    """Verify that nothing more is read from it until it reads, however many requests wait behind each other."""
    talk = Conversation(Echo(later=[]))
    talk.send(b"".join(PARSED % i for i in range(2 * MOST_OUTSTANDING)))
    assert not talk.wire.reading
    talk.protocol.pause_writing()
    talk.app.answer_all()
    assert not talk.wire.reading
    talk.protocol.resume_writing()
    assert talk.wire.reading


def test_too_many_requests_behind_each_other_wait() -> None:
    """Verify that a connection whose requests wait is read again when half of them are answered."""
    talk = Conversation(Echo(later=[]))
    for i in range(MOST_OUTSTANDING + 1):
        assert talk.wire.reading
        talk.send(GET % i)
    assert not talk.wire.reading
    waiting = list(talk.app.later or ())
    for i, exchange in enumerate(waiting):
        exchange.answer(Response(200, b""))
        assert talk.wire.reading == (len(waiting) - i - 1 <= MOST_OUTSTANDING // 2)


@pytest.mark.parametrize(
    ("request_bytes", "closes", "line"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", False, None, id="1.1"),
        pytest.param(
            b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", True, b"connection: close", id="1.1-close"
        ),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", True, b"connection: close", id="1.0"),
        pytest.param(
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            False,
            b"connection: keep-alive",
            id="1.0-keep",
        ),
    ],
)
def test_a_connection_stays_as_long_as_its_client_wants(
    request_bytes: bytes, closes: bool, line: bytes | None
) -> None:
    """Verify that the answer says whether the connection stays, and that it does."""
    talk = Conversation().send(request_bytes, request_bytes)
    assert talk.wire.closing == closes
    assert len(talk.app.read) == (1 if closes else 2)
    head = talk.wire.written.partition(b"\r\n\r\n")[0]
    assert (b"connection:" in head) == (line is not None)
    assert line is None or line in head


def test_an_answer_to_head_has_no_body() -> None:
    """Verify that HEAD gets the headers of the answer alone."""
    talk = Conversation().send(b"HEAD / HTTP/1.1\r\n\r\n")
    head, _, body = talk.wire.written.partition(b"\r\n\r\n")
    assert int(head.partition(b"content-length: ")[2].split()[0]) > 0
    assert body == b""


def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    """Verify that Expect: 100-continue is answered before the body comes, and not while an answer is due."""
    head, body = post(b"abc", b"expect: 100-continue")[:-3], b"abc"
    talk = Conversation().send(head)
    assert talk.wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.send(body)
    assert talk.app.read[0][3] == body
    behind = Conversation(Echo(later=[])).send((GET % 1) + head)
    assert behind.wire.written == b""


@on_loop
async def test_the_end_of_a_body_that_never_comes_is_an_error() -> None:
    """Verify that a client which stops in the middle is told so, and one that has only sent all is answered."""
    broken = Conversation().send(post(b"abc")[:-1])
    assert broken.protocol.eof_received() is True
    assert broken.wire.written.startswith(b"HTTP/1.1 400 ")
    whole = Conversation(Echo(later=[])).send(GET % 7)
    whole.protocol.eof_received()
    assert not whole.wire.closing
    whole.app.answer_all()
    assert bodies(whole.wire.written) == [b"/7"]
    assert whole.wire.closing


@on_loop
async def test_a_connection_has_its_time() -> None:
    """Verify that a request which does not arrive ends in 408, an idle connection in silence, a busy one not."""
    slow = Conversation().send(post(b"abc")[:-1])
    slow.protocol.check_time(slow.protocol._last_activity + slow.app.request_timeout_s - 1)
    assert slow.app.refused == []
    slow.protocol.check_time(slow.protocol._last_activity + slow.app.request_timeout_s + 1)
    assert slow.wire.written.startswith(b"HTTP/1.1 408 ")

    idle, busy = Conversation().send(GET % 1), Conversation(Echo(later=[])).send(GET % 1)
    for talk in (idle, busy):
        talk.protocol.check_time(talk.protocol._last_activity + talk.app.idle_timeout_s + 1)
    assert idle.wire.aborted and not busy.wire.aborted

    unread = Conversation(wire=Wire()).send(GET % 1)
    unread.wire.full = True
    unread.protocol.check_time(unread.protocol._last_activity + unread.app.request_timeout_s + 1)
    assert unread.wire.aborted


def test_a_drain_answers_what_was_received_and_says_that_it_was_the_last() -> None:
    """Verify that a connection closes once its requests are answered, at once where there are none."""
    app = Echo(later=[])
    busy, idle = Conversation(app).send((GET % 1) + (GET % 2)), Conversation(app)
    app.draining = True
    for talk in (busy, idle):
        talk.protocol.drain()
    assert idle.wire.closing and not busy.wire.closing
    app.answer_all()
    assert bodies(busy.wire.written) == [b"/1", b"/2"]
    assert busy.wire.written.count(b"connection: close") == 1
    assert busy.wire.closing
    busy.protocol.connection_lost(None)
    assert busy.protocol not in app.connections


def test_an_answer_that_comes_after_its_client_has_gone_is_dropped() -> None:
    """Verify that nothing is written to a connection that ended."""
    talk = Conversation(Echo(later=[])).send(GET % 1)
    talk.wire.close()
    talk.protocol.connection_lost(None)
    talk.app.answer_all()
    assert talk.wire.written == b""


def test_a_protocol_may_hold_answers_back() -> None:
    """Verify that what `write_response` holds is waited for before a connection closes."""

    class Held(HttpProtocol):
        kept: bytes | None = None

        def write_response(self, data: bytes) -> None:
            self.kept = data

    app, wire = Echo(), Wire()
    protocol = Held(app)
    protocol.connection_made(wire)
    protocol.data_received(GET % 1)
    protocol.drain()
    assert protocol.waiting == 1 and not wire.closing
    HttpProtocol.write_response(protocol, protocol.kept or b"")
    assert wire.closing


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 431, 500, 503, 504])
def test_every_status_has_its_line(status: int) -> None:
    """Verify that an answer of each status is complete."""
    written = serialize(Response(status, b"{}", b"a: b\r\n"), Framing())
    assert written.startswith(b"HTTP/1.1 %d " % status)
    assert written.endswith(b"content-length: 2\r\na: b\r\n\r\n{}")
