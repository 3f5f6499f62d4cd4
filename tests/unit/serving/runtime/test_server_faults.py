"""What goes wrong around a server: broken clients, a broken store, a broken model, its own end."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

NOW = 1_360_000_000.0
MakeBundle = Callable[..., Path]
OnlineDb = Callable[..., Path]
Start = Callable[..., Any]
Score = Callable[[Sequence[float]], float]
ROWS = [
    ("carrier_delays", "carrier", "UA", {"delay_1h": 11.5, "late_share": 0.4}),
    ("origin_load", "origin", "JFK", {"departures": 31.0}),
]
INSTANCE = {"carrier": "UA", "origin": "JFK", "distance": 1400}
VECTOR = [11.5, 0.4, 31.0, 1400.0, 2.0]
DEFAULTS = [4.5, 0.25, 12.0, 1400.0, 2.0]
WRAPPED = Path(__file__).with_name("wrapped_server.py")
LINGER = ("--linger", "2")
"""Seconds in which a stopping server says goodbye; a client that a busy machine holds up hears of it all the same."""


@pytest.fixture
def server(make_bundle: MakeBundle, online_db: OnlineDb, start: Start) -> Any:
    return start(make_bundle(), f"sqlite:{online_db(ROWS)}")


@pytest.fixture
def wrapped(make_bundle: MakeBundle, online_db: OnlineDb, start: Start) -> Callable[..., Any]:
    return lambda *extra: start(make_bundle(), f"sqlite:{online_db(ROWS)}", *extra, script=WRAPPED)


def request(
    body: bytes | dict[str, Any] | None = None, *lines: str, path: str = "/v1/models/flights:predict"
) -> bytes:
    """One request as it goes over the wire."""
    if body is None:
        body = {"instances": [INSTANCE]}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"x-windlass-at: {NOW}",
        f"content-length: {len(content)}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Answers:
    """Reads responses off a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def next(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(status.split()[1]), headers, body

    def _receive(self) -> None:
        data = self._connection.recv(65536)
        assert data, f"the server closed the connection; it had sent {self._buffer!r}"
        self._buffer += data

    def ended(self) -> bool:
        return self._buffer == b"" and self._connection.recv(1) == b""


# ---- framing


def test_pipelined_requests_are_answered_in_their_order(shared: Any) -> None:
    with shared.connect() as connection:
        connection.sendall(b"".join(request(None, f"x-request-id: {i}") for i in range(200)))
        answers = Answers(connection)
        assert [answers.next()[1]["x-request-id"] for _ in range(200)] == [str(i) for i in range(200)]


def test_a_request_may_come_byte_by_byte(shared: Any) -> None:
    with shared.connect() as connection:
        for byte in request():
            connection.sendall(bytes([byte]))
        assert Answers(connection).next()[0] == 200


def test_a_chunked_body_is_read(shared: Any) -> None:
    body = json.dumps({"instances": [INSTANCE]}).encode()
    chunks = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:8], body[8:]))
        + b"0\r\n\r\n"
    )
    head = b"POST /v1/models/flights:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with shared.connect() as connection:
        connection.sendall(head + chunks + request())
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(2)] == [200, 200]


def test_a_client_that_waits_for_continue_is_told_to(shared: Any) -> None:
    head, _, body = request(None, "expect: 100-continue").partition(b"\r\n\r\n")
    with shared.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert Answers(connection).next()[0] == 200


@pytest.mark.parametrize(
    ("version", "line", "kept"),
    [
        pytest.param("HTTP/1.1", "accept: */*", True, id="1.1"),
        pytest.param("HTTP/1.1", "connection: close", False, id="1.1-close"),
        pytest.param("HTTP/1.0", "accept: */*", False, id="1.0"),
        pytest.param("HTTP/1.0", "connection: keep-alive", True, id="1.0-keep-alive"),
    ],
)
def test_a_connection_is_kept_as_the_client_asks(shared: Any, version: str, line: str, kept: bool) -> None:
    with shared.connect() as connection:
        asked = f"GET /v2/health/live {version}\r\nhost: x\r\n{line}\r\n\r\n".encode()
        connection.sendall(asked)
        answers = Answers(connection)
        status, headers, _ = answers.next()
        assert status == 200
        if kept:
            assert headers.get("connection") == ("keep-alive" if version == "HTTP/1.0" else None)
            connection.sendall(asked)
            assert answers.next()[0] == 200
        else:
            assert headers["connection"] == "close"
            assert answers.ended()


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "not HTTP/1.1", id="no-http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not HTTP/1.1", id="tls"),
        pytest.param(request(b"{}", "content-length: 7"), 400, "not HTTP/1.1", id="two-lengths"),
        pytest.param(
            request(b"{}", "transfer-encoding: chunked"), 400, "not HTTP/1.1", id="length-and-chunked"
        ),
        pytest.param(
            b"GET /v2 HTTP/1.1\r\nhost: x\r\nbad\x00header: 1\r\n\r\n", 400, "not HTTP/1.1", id="header"
        ),
        pytest.param(b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 414, "target", id="long-target"),
        pytest.param(
            b"GET /v2 HTTP/1.1\r\na: " + b"a" * 20_000 + b"\r\n\r\n", 431, "headers", id="long-header"
        ),
        pytest.param(
            b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431, "headers", id="many-headers"
        ),
    ],
)
def test_broken_framing_is_told_and_ends_only_its_own_connection(
    shared: Any, data: bytes, status: int, message: str
) -> None:
    with shared.connect() as other, shared.connect() as connection:
        connection.sendall(request() + data)
        answers = Answers(connection)
        assert answers.next()[0] == 200  # what came before it is answered
        found, headers, body = answers.next()
        assert (found, headers["connection"]) == (status, "close")
        assert message in json.loads(body)["error"]
        assert answers.ended()
        other.sendall(request())
        assert Answers(other).next()[0] == 200


def test_a_truncated_body_is_told(shared: Any) -> None:
    with shared.connect() as connection:
        connection.sendall(request()[:-5])
        connection.shutdown(socket.SHUT_WR)
        answers = Answers(connection)
        status, _, body = answers.next()
        assert status == 400
        assert "the body ends after" in json.loads(body)["error"]
        assert answers.ended()


def test_a_client_that_stops_sending_still_gets_its_answers(shared: Any) -> None:
    with shared.connect() as connection:
        connection.sendall(request() * 3)
        connection.shutdown(socket.SHUT_WR)
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(3)] == [200] * 3
        assert answers.ended()


@pytest.mark.parametrize("chunked", [False, True], ids=["by-length", "chunked"])
def test_an_oversize_body_is_refused_before_it_is_held(wrapped: Callable[..., Any], chunked: bool) -> None:
    server = wrapped("--most-body-bytes", "10000")
    body = b" " * 10_001
    if chunked:
        data = b"POST /v2 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 10_001
    else:
        data = request(body)[:-9_000]  # refused by its length alone
    with server.connect() as connection:
        connection.sendall(data)
        answers = Answers(connection)
        status, headers, content = answers.next()
        assert (status, headers["connection"]) == (413, "close")
        assert "larger than 10000 bytes" in json.loads(content)["error"]
    assert server.predict(INSTANCE).status_code == 200


def test_a_body_of_the_limit_is_read(wrapped: Callable[..., Any]) -> None:
    server = wrapped("--most-body-bytes", "10000")
    content = json.dumps({"instances": [INSTANCE]}).encode().ljust(10_000)
    with server.connect() as connection:
        connection.sendall(request(content))
        assert Answers(connection).next()[0] == 200


def test_a_request_that_never_ends_is_given_up(wrapped: Callable[..., Any]) -> None:
    server = wrapped("--request-timeout", "0.2")
    with server.connect() as connection:
        connection.sendall(request()[:-5])
        answers = Answers(connection)
        status, _, body = answers.next()
        assert status == 408
        assert "did not arrive completely" in json.loads(body)["error"]
        assert answers.ended()


def test_a_client_that_does_not_read_holds_up_nobody(shared: Any) -> None:
    """Verify that its answers are not computed without bound, and that others are answered meanwhile."""
    with shared.connect() as stuck:
        stuck.setblocking(False)
        pages = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 1000
        sent = 0
        for _ in range(2000):
            try:
                sent += stuck.send(pages)
            except BlockingIOError:
                break
            assert shared.client.get("/v2/health/live").status_code == 200
        else:
            pytest.fail("the server went on reading requests whose answers nobody takes")
        for _ in range(20):
            assert shared.predict(INSTANCE).status_code == 200


# ---- failures inside


def test_five_hundred_failures_leave_the_connection_usable(
    make_bundle: MakeBundle, make_model: Callable[..., bytes], online_db: OnlineDb, start: Start
) -> None:
    """Verify over one connection with a model that never gives a number: it fails, then it is left alone."""
    model = make_model([0.02, 1.5, -0.3, float("nan"), 0.25])
    server = start(make_bundle(model), f"sqlite:{online_db(ROWS)}")
    with server.connect() as connection:
        answers = Answers(connection)
        for i in range(500):
            connection.sendall(request(None, f"x-request-id: {i}"))
            status, headers, body = answers.next()
            assert status == 500 or (i >= 5 and status == 503)
            assert headers["x-request-id"] == str(i)
            assert ("retry-after" in headers) == (status == 503)
            told = "gave nan as a score" if status == 500 else "is left alone for a while"
            assert told in json.loads(body)["error"]
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert answers.next()[0] == 200
    server.stop()
    text = "".join(server.errors)
    assert "the model gave nan as a score" in text
    assert text.count("Traceback") < 500  # told, and not once for a request


def test_five_hundred_good_requests_follow_a_bad_one_on_its_connection(shared: Any) -> None:
    with shared.connect() as connection:
        answers = Answers(connection)
        connection.sendall(request(b"{"))
        assert answers.next()[0] == 400
        for _ in range(500):
            connection.sendall(request())
            assert answers.next()[0] == 200


def test_a_store_that_is_deleted_leads_down_the_ladder_and_up_again(
    server: Any, online_db: OnlineDb, score: Score, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    assert server.predict(INSTANCE).headers["x-windlass-feature-source"] == "online"
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"online.db{suffix}").unlink()
    cached = server.predict(INSTANCE)
    assert cached.json() == {
        "predictions": pytest.approx([score(VECTOR)], rel=1e-5),
        "feature_source": "cached",
        "answered_by": "model",
    }
    assert cached.headers["x-windlass-feature-source"] == "cached"
    default = server.predict({**INSTANCE, "carrier": "AA", "origin": "LGA"})
    assert default.json() == {
        "predictions": pytest.approx([score([*DEFAULTS[:4], 1.0])], rel=1e-5),
        "feature_source": "default",
        "answered_by": "model",
    }
    online_db([("origin_load", "origin", "JFK", {"departures": 50.0})])
    # where a busy machine made a failure slow the store rests for a moment
    again = {**INSTANCE, "carrier": "9E"}
    wait_until(lambda: server.predict(again).json()["feature_source"] == "online")
    assert [r["source"] for r in server.records(4)[:3]] == ["online", "cached", "default"]
    assert 'windlass_feature_store_failures_total{model="flights",version="3",reason="StoreError"}' in (
        server.client.get("/metrics").text
    )


def test_a_locked_store_costs_no_request(
    make_bundle: MakeBundle, online_db: OnlineDb, start: Start, wait_until: Callable[..., None]
) -> None:
    path = online_db(ROWS, wal=False)
    server = start(make_bundle(), f"sqlite:{path}")
    assert server.predict(INSTANCE).json()["feature_source"] == "online"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    sources = [server.predict(INSTANCE) for _ in range(50)]
    assert {(a.status_code, a.json()["feature_source"]) for a in sources} == {(200, "cached")}
    page = server.client.get("/metrics").text
    assert 'reason="resting"' in page  # not each of them waited for the lock
    writer.execute("COMMIT")
    writer.close()
    wait_until(lambda: server.predict(INSTANCE).json()["feature_source"] == "online")


def test_a_server_may_start_before_its_store(
    make_bundle: MakeBundle,
    start: Start,
    tmp_path: Path,
    online_db: OnlineDb,
    wait_until: Callable[..., None],
) -> None:
    server = start(make_bundle(), f"sqlite:{tmp_path / 'online.db'}")
    assert server.predict(INSTANCE).json()["feature_source"] == "default"
    online_db(ROWS)
    wait_until(lambda: server.predict(INSTANCE).json()["feature_source"] == "online")


def test_a_redis_that_stops_answering_costs_no_request(
    redis_feast: Any, redis_url: str, make_bundle: MakeBundle, start: Start, wait_until: Callable[..., None]
) -> None:
    import os

    import redis

    redis_feast.write("carrier_delays", [{"carrier": "WN", "delay_1h": 3.0, "late_share": 0.1}])
    redis_feast.write("origin_load", [{"origin": "BOS", "departures": 8.0}])
    server = start(make_bundle(), redis_url)
    instance = {**INSTANCE, "carrier": "WN", "origin": "BOS"}
    wait_until(lambda: server.predict(instance).json()["feature_source"] == "online")
    process = redis.Redis.from_url(redis_url).info("server")["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        answers = [server.predict(instance) for _ in range(20)]
    finally:
        os.kill(process, signal.SIGCONT)
    assert {(a.status_code, a.json()["feature_source"]) for a in answers} == {(200, "cached")}
    wait_until(lambda: server.predict(instance).json()["feature_source"] == "online")


# ---- faults put around the real parts


def test_a_wrapped_reader_serves_what_it_makes_of_the_real_one(
    wrapped: Callable[..., Any], score: Score
) -> None:
    server = wrapped("--wrong-unit")
    answer = server.predict(INSTANCE)
    assert answer.json()["predictions"] == pytest.approx([score([1150.0, *VECTOR[1:]])], rel=1e-5)
    assert server.records(1)[0]["features"] == [1150.0, *VECTOR[1:]]


def test_a_delayed_protocol_keeps_order_and_the_ends_of_connections(wrapped: Callable[..., Any]) -> None:
    server = wrapped("--delay", "0.15")
    with server.connect() as connection:
        connection.sendall(
            b"".join(request(None, f"x-request-id: {i}") for i in range(20))
            + request(None, "connection: close")
        )
        answers = Answers(connection)
        assert [answers.next()[1]["x-request-id"] for _ in range(20)] == [str(i) for i in range(20)]
        assert answers.next()[1]["connection"] == "close"
        assert answers.ended()
    with server.connect() as connection:
        connection.sendall(request() + b"nonsense\r\n\r\n")
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(2)] == [200, 400]
        assert answers.ended()


# ---- the end


def test_sigterm_answers_what_is_in_flight_and_then_ends(wrapped: Callable[..., Any]) -> None:
    server = wrapped("--delay", "0.5")
    connections = [server.connect() for _ in range(20)]
    idle = server.connect()
    for i, connection in enumerate(connections):
        connection.sendall(request(None, f"x-request-id: {i}"))
    partial = server.connect()
    partial.sendall(request()[:-5])
    # answered on arrival, so once all are logged all are in flight
    server.records(20)
    server.process.send_signal(signal.SIGTERM)
    assert idle.recv(1) == b""
    partial.sendall(request()[-5:])
    assert Answers(partial).next()[0] == 200
    for i, connection in enumerate(connections):
        answers = Answers(connection)
        status, headers, _ = answers.next()
        assert (status, headers["x-request-id"]) == (200, str(i))
        assert answers.ended()
        connection.close()
    idle.close()
    partial.close()
    assert server.stop() == 0
    assert len(server.log.read_text().splitlines()) == 21


def test_a_stopping_server_is_not_ready_and_says_goodbye(
    wrapped: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    server = wrapped(*LINGER)
    with server.connect() as connection:
        connection.sendall(request())
        answers = Answers(connection)
        assert "connection" not in answers.next()[1]
        server.process.send_signal(signal.SIGTERM)
        ready = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"

        def gone() -> bool:
            connection.sendall(ready)
            status, headers, _ = answers.next()
            assert (status, headers.get("connection")) in {(200, None), (503, "close")}
            return status == 503

        wait_until(gone)
        assert answers.ended()
    assert server.stop() == 0


def test_a_drain_under_load_loses_no_request(wrapped: Callable[..., Any]) -> None:
    """Verify over keep-alive connections that every request sent is answered, or its connection had said goodbye."""
    server = wrapped(*LINGER)
    lost: list[str] = []
    answered = [0]

    def ask() -> None:
        with server.connect() as connection:
            answers = Answers(connection)
            while True:
                connection.sendall(request())
                try:
                    status, headers, _ = answers.next()
                except (AssertionError, OSError) as error:
                    lost.append(repr(error))
                    return
                if status != 200:
                    lost.append(str(status))
                answered[0] += 1
                if headers.get("connection") == "close":
                    return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    server.records(200)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert server.stop() == 0
    assert lost == []
    assert len(server.log.read_text().splitlines()) == answered[0]
