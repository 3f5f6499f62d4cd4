"""Shared by the release tests: a document that is valid, and a real Envoy before real HTTP servers."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serving.release.envoy.backend import Endpoints, EnvoyBackend
from serving.release.envoy.process import free_port


@dataclass
class Server:
    """A tiny model server that remembers what it was asked.

    Attributes:
        status: of its answers.
        hold: where set, no answer is given before the event is.
    """

    version: str
    port: int = 0
    status: int = 200
    hold: threading.Event | None = None
    seen: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def requests(self, *, mirrored: bool) -> list[dict[str, str]]:
        with self.lock:
            return [r for r in self.seen if r["host"].endswith("-shadow") is mirrored]


def _serve(server: Server) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write an answer: no waiting of small packets for each other
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            with server.lock:
                server.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            if server.hold is not None:
                server.hold.wait(60)
            body = server.version.encode()
            self.send_response(server.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the name is the library's

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    listener = Quiet(("127.0.0.1", 0), Handler)
    server.port = listener.server_address[1]
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    return listener


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str]


class Caller:
    """One keep-alive connection to the proxy."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path: str = "/v1/models/flights:predict", **headers: str | bytes) -> Answer:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self._connection.request("POST", path, body=b"{}", headers=named)
        response = self._connection.getresponse()
        body = response.read().decode()
        return Answer(response.status, body, {k.lower(): v for k, v in response.getheaders()})

    def close(self) -> None:
        self._connection.close()


@dataclass
class Proxy:
    """Envoy before versions 12 and 13 of flights; 12 has all the traffic."""

    backend: EnvoyBackend
    servers: dict[str, Server]
    listeners: list[http.server.ThreadingHTTPServer]

    def serve(self, version: str, model: str = "flights", **how: Any) -> Server:
        """Start one more server and make it known."""
        server = self.servers[version] = Server(version, **how)
        self.listeners.append(_serve(server))
        self.backend.set_server(model, version, server.address)
        return server

    def caller(self) -> Caller:
        return Caller(self.backend.endpoints.listener)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    servers = {name: Server(name) for name in ("12", "13", "collector")}
    listeners = [_serve(server) for server in servers.values()]
    backend = EnvoyBackend(
        tmp_path / "envoy",
        Endpoints(free_port(), free_port(), tmp_path / "logs" / "access.jsonl"),
        confirm_within=60.0,  # what Envoy refuses is told by its counters, at once
    )
    for version in ("12", "13"):
        backend.set_server("flights", version, servers[version].address)
    backend.set_weights("flights", {"12": 100})
    backend.start()
    try:
        yield Proxy(backend, servers, listeners)
    finally:
        backend.stop()
        for server in servers.values():
            if server.hold is not None:
                server.hold.set()
        for listener in listeners:
            listener.shutdown()
            listener.server_close()


@pytest.fixture
def document() -> dict[str, Any]:
    """A Release that uses every metric."""
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            "candidate": "13",
            "champion": "12",
            "backend": "local",
            "strategy": {
                "type": "canary",
                "mirror": True,
                "steps": [
                    {"weight": 10, "minSamples": 50, "minDuration": "10m"},
                    {"weight": 50, "minSamples": 100},
                ],
            },
            "checks": [
                {
                    "name": "errors",
                    "kind": "guardrail",
                    "metric": "errorRate",
                    "source": "envoy",
                    "relativeToChampion": True,
                },
                {
                    "name": "p99",
                    "kind": "guardrail",
                    "metric": "latencyP99",
                    "source": "envoy",
                    "bound": "50ms",
                    "relativeToChampion": True,
                },
                {
                    "name": "skew",
                    "kind": "guardrail",
                    "metric": "featureSkew",
                    "source": "predictions",
                    "bound": 2,
                },
                {
                    "name": "brier",
                    "kind": "decision",
                    "metric": "brier",
                    "source": "feedback",
                    "margin": 0.01,
                },
            ],
            "inconclusiveAfter": "24h",
        },
    }
