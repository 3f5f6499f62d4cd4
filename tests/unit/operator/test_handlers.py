"""Watching by kopf, through an API server whose connections die silently."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_http import Listener

from serving.release.cluster.kinds import RELEASE
from windlass.operator import handlers
from windlass.operator.reconciler import Watched

WAIT_S = 60.0
NAMESPACE = "team"
LIST = f"/apis/{RELEASE.group}/{RELEASE.version}/namespaces/{NAMESPACE}/{RELEASE.plural}"
OBJECT = {
    "apiVersion": f"{RELEASE.group}/{RELEASE.version}",
    "kind": "Release",
    "metadata": {"name": "flights-13", "namespace": NAMESPACE, "uid": "1", "resourceVersion": "2"},
}
ANSWERS: dict[str, Any] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "resources": [
            {"name": "namespaces", "singularName": "namespace", "kind": "Namespace", "namespaced": False,
             "verbs": ["get", "list", "watch"]}
        ]
    },
    "/apis": {
        "groups": [
            {
                "name": RELEASE.group,
                "versions": [
                    {"groupVersion": f"{RELEASE.group}/{RELEASE.version}", "version": RELEASE.version}
                ],
                "preferredVersion": {"version": RELEASE.version},
            }
        ]
    },
    f"/apis/{RELEASE.group}/{RELEASE.version}": {
        "resources": [
            {"name": RELEASE.plural, "singularName": "release", "kind": "Release", "namespaced": True,
             "verbs": ["get", "list", "patch", "watch"]}
        ]
    },
    LIST: {"kind": "ReleaseList", "metadata": {"resourceVersion": "1"}, "items": []},
}  # fmt: skip


@dataclass
class Silent:
    """Answers everything but its first watch: that one is accepted and then forgotten, as by a router that lost it.

    Attributes:
        watches: the queries of the watches, oldest first.
    """

    watches: list[dict[str, list[str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        silent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                address = urllib.parse.urlparse(self.path)
                query = urllib.parse.parse_qs(address.query)
                if "watch" in query:
                    self._watch(query)
                elif address.path in ANSWERS:
                    body = json.dumps(ANSWERS[address.path]).encode()
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                else:
                    self.send_error(404)

            def _watch(self, query: dict[str, list[str]]) -> None:
                silent.watches.append(query)
                first = len(silent.watches) == 1
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("connection", "close")
                self.end_headers()
                if not first:
                    self.wfile.write(json.dumps({"type": "ADDED", "object": OBJECT}).encode() + b"\n")
                    self.wfile.flush()
                silent.over.wait(WAIT_S)
                self.close_connection = True

            def log_message(self, *words: object) -> None:
                pass

        return Handler


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Silent, Path]]:
    """The server, and a kubeconfig that leads to it."""
    silent = Silent()
    listening = Listener(("127.0.0.1", 0), silent.handler())
    serving = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    serving.start()
    file = tmp_path / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{listening.server_port}"}}],
        "users": [{"name": "it", "user": {"token": "none"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": NAMESPACE}}],
    }
    file.write_text(yaml.safe_dump(content))
    try:
        yield silent, file
    finally:
        silent.over.set()
        listening.shutdown()
        listening.server_close()


def test_a_watch_that_fell_silent_is_opened_again(
    server: tuple[Silent, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a connection which says nothing and never ends is given up: else no Release is heard of again."""
    silent, kubeconfig = server
    assert handlers.SERVER_TIMEOUT_S < handlers.CLIENT_TIMEOUT_S < 600
    monkeypatch.setattr(handlers, "CLIENT_TIMEOUT_S", 1)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    heard: list[tuple[str | None, str]] = []
    stop = threading.Event()
    watching = threading.Thread(
        target=handlers.watch,
        args=([Watched(RELEASE)], [NAMESPACE]),
        kwargs={
            "heard": lambda kind, what, body: heard.append((what, body["metadata"]["name"])),
            "stop": stop,
            "kubeconfig": kubeconfig,
        },
        daemon=True,
    )
    watching.start()
    try:
        deadline = time.monotonic() + WAIT_S
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        watching.join(WAIT_S)
    assert ("ADDED", "flights-13") in heard, silent.watches
    # the server is asked to end it, too, and sooner
    assert [each["timeoutSeconds"] for each in silent.watches][:2] == [[str(handlers.SERVER_TIMEOUT_S)]] * 2
    assert not watching.is_alive()
