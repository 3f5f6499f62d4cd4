"""The fast reader of plain requests reads what the parser reads, or leaves it to the parser."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.runtime.transport.http import MOST_HEADERS, READ_HEADERS
from serving.runtime.transport.simple import MOST_LINES, PlainRequests

from .conftest import Conversation, cut

THOROUGH = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.sampled_from(
    [*sorted(READ_HEADERS), b"x-unknown", b"accept", b"connection", b"te", b"trailer", b"upgrade",
     b"transfer-encoding", b"keep-alive", b"proxy-connection", b"content_length", b"content-lengt", b"x", b""]
)  # fmt: skip
CASES = st.sampled_from([bytes.lower, bytes.upper, bytes.title])
LENGTHS = st.sampled_from(
    [b"0", b"5", b"005", b"+5", b"-5", b"5,5", b"5, 5", b"5 ", b" 5", b"5\t", b"0x5", b"5.0", b"", b"5 5", b"1e1",
     b"99999999999", b"99999999999999999999", b"\xb2"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([b"", b" ", b"\t", b"close", b"keep-alive", b"Keep-Alive", b"chunked", b"identity",
                     b"100-continue", b"h2c", b"a b", b"a\tb", b"\xff", b"a\x00b", b"a\rb", b"a\nb", b"x" * 600]),
    LENGTHS,
    st.binary(max_size=6),
)  # fmt: skip
AFTER_NAME = st.sampled_from([b": ", b":", b":  ", b":\t", b" : ", b" :", b"", b": \r\n ", b":\r\n\t"])
LINE_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\t\r\n", b"\r\n "])
STARTS = st.one_of(
    st.sampled_from([b"GET / HTTP/1.1", b"POST /v2/models/m/infer HTTP/1.1"]),
    st.builds(
        lambda *parts: b"".join(parts),
        st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"get", b"PRI", b"CONNECT", b"", b" GET", b"\r\nGET"]),
        st.sampled_from([b" ", b"  ", b"\t", b""]),
        st.sampled_from([b"/", b"*", b"/a?b=c#d", b"http://h/p", b"//h", b"/%00", b"/\x7f", b"/\xc3\xa4", b"/a b",
                         b"h:80", b"/a#b#c", b"/" + b"x" * 1023, b"/" + b"x" * 2047, b"/" + b"x" * 2048, b""]),
        st.sampled_from([b" ", b"  ", b"\t", b""]),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b""]),
    ),
)  # fmt: skip
# mostly lines as clients write them, so that a request gets past its first one
LINES = st.one_of(
    st.builds(lambda n, v, case: case(n) + b": " + v + b"\r\n", NAMES, VALUES, CASES),
    st.builds(
        lambda n, case: case(n) + b": plain\r\n", st.sampled_from([b"host", b"x-unknown", b"Accept"]), CASES
    ),
    st.builds(
        lambda n, sep, v, case, end: case(n) + sep + v + end, NAMES, AFTER_NAME, VALUES, CASES, LINE_ENDS
    ),
)
BODIES = st.sampled_from(
    [b"", b"abcde", b"abcd", b"abcdef", b"5\r\nabcde\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\x00" * 5]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request that is right, or nearly."""
    lines = draw(st.lists(LINES, max_size=5))
    body = draw(BODIES)
    if draw(st.booleans()):
        stated = draw(st.one_of(st.just(b"%d" % len(body)), LENGTHS))
        lines.insert(draw(st.integers(0, len(lines))), b"Content-Length: %s\r\n" % stated)
    if draw(st.integers(0, 7)) == 0:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    head = draw(STARTS) + draw(LINE_ENDS) + b"".join(lines)
    return head + draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"", b"\r\n\r\n"])) + body


ODDITIES = st.sampled_from(
    [b"", b"Connection: close", b"Proxy-Connection: close", b"Connection: keep-alive", b"Connection: x, close",
     b"Expect: 100-continue", b"Upgrade: h2c", b"Transfer-Encoding: chunked", b"TE: trailers", b"Keep-Alive: max=1",
     b"Content-Length: 5", b"Content-Length: 0", b"content-length: +5", b"Content-Length : 5", b"X-Request-Id: twice",
     b"X-Request-Id:", b"X-Request-Id:  two spaces", b"X-Request-Id:\ttab", b"X-Request-Id: end ",
     b"X-Request-Id: a\x00b",
     b"X-Request-Id: a\xffb", b"X-Request-Id: a\rb", b"X-Request-Id: a\nHost: b", b"X-Request-Id : space", b" folded",
     b"\tfolded", b"no colon", b": no name", b"X (y): z", b"X-Unknown : space", b"X-Unknown: a\x00b",
     b"X-Unknown: a\rb", b"X-Unknown: a\nConnection: close", b"X-Unknown: a\n b", b"X_Unknown: a"]
)  # fmt: skip
STATED = st.one_of(st.sampled_from([b"5", b"5", b"5", b"0005", b"4", b"6"]), LENGTHS)


@st.composite
def odd_requests(draw: st.DrawFn) -> bytes:
    """A plain request but for one or two things, so that nothing else leaves it to the parser."""
    start = draw(
        st.sampled_from([b"POST /p HTTP/1.1", b"GET /p HTTP/1.1", b"POST /p HTTP/1.0", b"HEAD /p HTTP/1.1"])
    )
    lines = [b"Host: a", b"Content-Length: " + draw(STATED), b"X-Request-Id: once"]
    for odd in draw(st.lists(ODDITIES, max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), odd)
    return b"\r\n".join([start, *lines, b"", b"abcde"])


requests = st.one_of(odd_requests(), odd_requests(), messages())
streams = st.lists(requests, min_size=1, max_size=3).map(b"".join)
LEAVE = b"HTTP/1.1 100 Continue\r\n\r\n"
POST = b"POST /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabcde"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def outcome(*pieces: bytes) -> tuple[object, ...]:
    """What a connection makes of the pieces; in an event loop, since a refusal sets a timer."""

    async def converse() -> tuple[object, ...]:
        return Conversation().send(*pieces).outcome

    return asyncio.run(converse())


def by_parser(data: bytes) -> tuple[object, ...]:
    """What a connection makes of `data` where nothing is plain: one byte is no request."""
    return outcome(*(data[i : i + 1] for i in range(len(data))))


@THOROUGH
@given(data=requests)
@example(data=POST)
@example(data=GET)
@example(data=b"GET / HTTP/1.1\r\nx-request-id:\r\n\r\n")
@example(data=b"POST / HTTP/1.1\r\ncontent-length: 0000005\r\nConnection: Keep-Alive\r\n\r\nabcde")
@example(data=b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MOST_HEADERS + 1) + b"\r\n")
@example(data=b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * MOST_HEADERS + b"\r\n")
@example(data=b"GET / HTTP/1.1\r\nx: " + b"y" * 8192 + b"\r\n\r\n")
def test_a_request_that_is_read_without_the_parser_reads_as_with_it(data: bytes) -> None:
    """Verify that one piece of bytes means the same whether it is plain or not."""
    assert outcome(data) == by_parser(data)


@THOROUGH
@given(data=streams, places=st.lists(st.integers(0, 4096), max_size=4))
@example(data=POST + GET, places=[len(POST)])
@example(data=POST + GET, places=[len(POST) - 1])
@example(data=b"\r\n" + GET, places=[2])
@example(data=b"P" + POST, places=[1])
@example(data=b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n" + GET, places=[37])
def test_it_does_not_matter_where_a_stream_is_cut(data: bytes, places: list[int]) -> None:
    """Verify that several requests, however they arrive, are those that the parser finds in the whole stream."""
    # a client is given leave to send unless an answer is due just then, which depends on what came together
    cut_up, whole = (
        [w.replace(LEAVE, b"") if isinstance(w, bytes) else w for w in seen]
        for seen in (outcome(*cut(data, places)), by_parser(data))
    )
    assert cut_up == whole


@THOROUGH
@given(data=requests)
def test_what_is_plain_is_one_whole_request(data: bytes) -> None:
    """Verify that a head is given only for a request that is complete, alone and of a stated length."""
    head = PlainRequests(READ_HEADERS, MOST_HEADERS).head(data)
    if head is None:
        return
    method, target, headers, begin, length = head
    assert len(data) == begin + length
    assert data.startswith(method + b" " + target + b" HTTP/1.1\r\n")
    assert headers.keys() <= READ_HEADERS
    assert length == int(headers.get(b"content-length", b"0"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST, id="post"),
        pytest.param(GET, id="get"),
        pytest.param(POST.replace(b"host", b"x-request-id: 1\r\nhost"), id="an-id"),
        pytest.param(POST.replace(b"host", b"Connection: keep-alive\r\nhost"), id="keep-alive"),
        pytest.param(POST.replace(b"host: a", b"HOST:a"), id="no-space"),
    ],
)
def test_what_clients_send_is_plain(data: bytes) -> None:
    """Verify that the common requests take the fast way, the first one and the next."""
    reader = PlainRequests(READ_HEADERS, MOST_HEADERS)
    first, again = reader.head(data), reader.head(data)
    assert first is not None
    assert first == again


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Connection: close", id="close"),
        pytest.param(b"Connection: keep-alive, close", id="a-list"),
        pytest.param(b"Transfer-Encoding: chunked", id="chunked"),
        pytest.param(b"Expect: 100-continue", id="expect"),
        pytest.param(b"Upgrade: h2c", id="upgrade"),
        pytest.param(b"Content-Length: +5", id="sign"),
        pytest.param(b"Content-Length: 5, 5", id="a-list-of-lengths"),
        pytest.param(b"Content-Length : 5", id="space-before-the-colon"),
        pytest.param(b"Content-Length:\t5", id="tab"),
        pytest.param(b"Host: b", id="a-read-header-twice"),
        pytest.param(b" folded", id="obs-fold"),
        pytest.param(b"x: a\x00b", id="nul"),
        pytest.param(b"x: \xff", id="not-ascii"),
        pytest.param(b"no colon", id="no-colon"),
    ],
)
def test_a_line_that_could_be_read_in_two_ways_is_left_to_the_parser(line: bytes) -> None:
    """Verify that such a line makes its request the parser's, when it is new and when it is known."""
    data = b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\nContent-Length: 5\r\n\r\nabcde"
    reader = PlainRequests(READ_HEADERS, MOST_HEADERS)
    assert reader.head(data) is None
    assert reader.head(data) is None


def test_what_is_remembered_is_bounded_and_stays_right() -> None:
    """Verify that lines that never come again push others out, and that each request is still read as it is."""
    reader = PlainRequests(READ_HEADERS, MOST_HEADERS)
    for i in range(3 * MOST_LINES):
        body = b"x" * (i % 7)
        data = b"POST /%d HTTP/1.1\r\nhost: h%d\r\ntraceparent: %d\r\ncontent-length: %d\r\n\r\n%s" % (
            i, i, i, len(body), body,
        )  # fmt: skip
        head = reader.head(data)
        assert head is not None
        assert head[:3] == (
            b"POST", b"/%d" % i, {b"host": b"h%d" % i, b"content-length": b"%d" % len(body)},
        )  # fmt: skip
        assert data[head[3] :] == body
    assert all(len(kept) <= MOST_LINES for kept in vars(reader).values() if isinstance(kept, dict))


def test_a_body_of_another_length_is_not_the_request_that_was_remembered() -> None:
    """Verify that a head that is known by heart is compared with what follows it, each time."""
    reader = PlainRequests(READ_HEADERS, MOST_HEADERS)
    assert reader.head(POST) is not None
    for wrong in (POST[:-1], POST + b"x", POST + GET, re.sub(rb"abcde$", b"", POST)):
        assert reader.head(wrong) is None
    assert reader.head(POST) is not None
