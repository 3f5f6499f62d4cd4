"""A local server that answers queries with what a test gives it, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from local_http import Listener


@dataclass
class Answering:
    """Answers to the next queries, oldest first; the last one stays.

    Attributes:
        listened: what is answered where a source asks whether Prometheus was there; None answers as to any query.
        first: those questions.
    """

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hang: bool = False
    listened: bool | None = True
    first: list[dict[str, str]] = field(default_factory=list)

    def gives(self, *results: list[dict[str, Any]], **more: Any) -> None:
        """Matrices, one for each of the next queries."""
        self.answers = [
            (
                200,
                json.dumps(
                    {"status": "success", "data": {"resultType": "matrix", "result": r}, **more}
                ).encode(),
            )
            for r in results
        ]


def series(metric: str, *values: tuple[float, float | str], **labels: str) -> dict[str, Any]:
    """One series as Prometheus writes it."""
    labels = {"instance": "10.0.0.1:8080", "job": "models", **labels}
    return {"metric": {"__name__": metric, **labels}, "values": [[at, str(value)] for at, value in values]}


def _vector(anything: bool) -> bytes:
    result = [{"metric": {}, "value": [0, "3"]}] if anything else []
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.fixture
def answering() -> Iterator[Answering]:
    state, ended = Answering(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            asked = {"path": parts.path, **dict(urllib.parse.parse_qsl(parts.query))}
            if state.listened is not None and asked["query"].startswith("count("):
                state.first.append(asked)
                self.send(200, _vector(state.listened))
                return
            state.asked.append(asked)
            state.headers.append(dict(self.headers))
            if state.hang:
                ended.wait()
                return
            self.send(*(state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]))

        def send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = Listener(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(name="series")
def series_fixture() -> Any:
    return series
