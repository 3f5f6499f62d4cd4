"""A real HTTP receiver that can be slow, hang, reset, fail or be gone."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Received:
    """One POST as it came over the wire; header names in lower case."""

    target: str
    headers: Mapping[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """Keeps every message it accepts.

    Attributes:
        asked: requests that arrived, whatever became of them.
        statuses: what it answers next; 202 where there is none left.
        always: what it answers instead of all that.
        delay_s: what it takes for each request.
        hold: while cleared, no request is answered.
        reset: whether connections are reset instead of answered.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        self.accepted: list[Received] = []
        self.asked = 0
        self.connections = 0
        self.statuses: list[int] = []
        self.always: int | None = None
        self.delay_s = 0.0
        self.reset = False
        self.hold = threading.Event()
        self.hold.set()
        super().__init__(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/events"

    def stop(self) -> None:
        self.hold.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that goes away is part of what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        server.asked += 1
        time.sleep(server.delay_s)
        server.hold.wait()
        if server.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        status = server.always or (server.statuses.pop(0) if server.statuses else 202)
        if status < 300:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.accepted.append(Received(self.path, headers, body))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@pytest.fixture(autouse=True)
def logs_end_with_their_test() -> Iterator[None]:
    """A log that was closed without waiting for it complains later: not into what the next test captures."""
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread.name == "payload-log" and thread not in before:
            thread.join(60)
            assert not thread.is_alive(), "the test left its log open"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture
def receiver_at() -> Iterator[Callable[[int], Receiver]]:
    """Starts a receiver at a port that nobody listened at."""
    started: list[Receiver] = []

    def start(port: int) -> Receiver:
        started.append(Receiver(port))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.002)

    return wait


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Makes a record as the server does."""

    def make(number: int = 0, **changes: Any) -> dict[str, Any]:
        return {
            "request_id": f"r-{number}",
            "model": "flights",
            "version": "3",
            "at": 1_360_000_000.25,
            "entities": {"carrier": "AA"},
            "request": {"distance": 1400.5, "tail": None},
            "features": [0.1 + number, float("nan"), 1e-300],
            "score": 0.1234567890123,
            "latency_ms": 0.25,
            "source": "online",
            "answered_by": "model",
            "mirrored": False,
            **changes,
        }

    return make
