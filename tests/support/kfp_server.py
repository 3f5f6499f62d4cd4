"""Kubeflow Pipelines' v2beta1 API of a test's own: real HTTP, experiments and runs, and what was asked of it."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "/apis/v2beta1"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    authorization: str | None


@dataclass
class KfpServer:
    """What tests see of the server.

    Attributes:
        runs: as created, with run_id, state and times.
        asked: every request, oldest first.
        statuses: answers before any other, for the next requests; the status is all there is of them.
        lost: the next creation is carried out and its answer never sent.
    """

    url: str = ""
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lost: bool = False

    def calls(self) -> list[str]:
        return [f"{a.method} {a.path}" for a in self.asked]


@contextlib.contextmanager
def running() -> Iterator[KfpServer]:
    told = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            self._handle(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            self._handle(json.loads(self.rfile.read(length)))

        def _handle(self, body: Any) -> None:
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            path = parts.path.removeprefix(PREFIX)
            told.asked.append(Asked(self.command, path, query, body, self.headers.get("authorization")))
            if told.statuses:
                self._send(told.statuses.pop(0), {"error": "so it was scripted"})
                return
            if (self.command, path) == ("GET", "/healthz"):
                self._send(200, {"multi_user": False})
            elif path in ("/experiments", "/runs"):
                kind = path[1:]
                kept: list[dict[str, Any]] = getattr(told, kind)
                if self.command == "POST":
                    self._create(kind, kept, body)
                else:
                    self._send(200, {kind: [one for one in kept if _matches(one, query)]})
            else:
                self._send(404, {"error": f"{path} is not spoken here"})

        def _create(self, kind: str, kept: list[dict[str, Any]], body: dict[str, Any]) -> None:
            made = {**body, f"{kind[:-1]}_id": f"{kind[0]}{len(kept) + 1}"}
            if kind == "runs":
                made |= {"state": "PENDING", "created_at": "2026-01-01T00:00:00Z"}
            kept.append(made)
            if kind == "runs" and told.lost:
                told.lost = False
                self.close_connection = True
                self.connection.close()
                return
            self._send(200, made)

        def _send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _matches(one: dict[str, Any], query: dict[str, str]) -> bool:
    if query.get("experiment_id") and one.get("experiment_id") != query["experiment_id"]:
        return False
    predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
    # the enumeration's number and its name are the same in JSON of protocol buffers
    assert all(p["operation"] in (1, "EQUALS") for p in predicates)
    return all(one.get(p["key"]) == p["stringValue"] for p in predicates)
