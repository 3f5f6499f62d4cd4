"""An online store that stops, hangs, speaks nonsense and returns, under a server that is asked all the time."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import redis
import redis_server

from benchmarks.serving import fuzz_subject
from serving.runtime.features import entity_key
from serving.runtime.features.redis_hash import field_name

CLIENTS = 6
ENOUGH = 60
"""Answers that are looked at in each state of the store."""
BUDGET_MS = 10_000
"""Of a request; the store's own is 20 ms. A machine may stall for a while, and that is no fault of the store's."""
KNOWN = {"carrier": "AA", "seat": 7, "hour": 3.0}
ROWS = {
    "carrier": ("carrier_delays", "delay", "string", "AA", 11.5),
    "seat": ("seat_prices", "price", "int64", "7", 100.0),
}
DEFAULTS = [3.1, 10.0, 3.0, 9.0, 0.0]


class Talker(socketserver.ThreadingTCPServer):
    """Says nothing of clients that break off, as they should."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Store:
    """A redis that can be made to fail in every way, on one port."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._port = int(url.rpartition(":")[2].partition("/")[0])
        self._process = psutil.Process(self._client().info()["process_id"])
        # redis writes its own command line anew, so that it is no command any more
        self._command = [self._process.exe(), "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--dir", str(folder)]
        self._again: subprocess.Popen[bytes] | None = None
        self._nonsense: Talker | None = None
        self._write()

    def _client(self) -> Any:
        return redis.Redis.from_url(self.url, socket_timeout=20)

    def _write(self) -> None:
        with self._client() as client:
            for entity, (view, feature, kind, key, value) in ROWS.items():
                stamp = b"\x08" + _varint(int(time.time()))
                fields = {
                    f"_ts:{view}".encode(): stamp,
                    field_name(view, feature): b"\x29" + struct.pack("<d", value),
                }
                client.hset(entity_key.serialize([(entity, kind, key)]) + b"fuzz", mapping=fields)
            client.save()  # one that is started again holds them from the beginning

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        psutil.wait_procs([self._process], timeout=20)

    def answer_nonsense(self) -> None:
        class Nonsense(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while self.request.recv(65536):
                    self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n*-7\r\n$99999999999\r\n" + os.urandom(64))

        self._nonsense = Talker(("127.0.0.1", self._port), Nonsense)
        threading.Thread(target=self._nonsense.serve_forever, args=(0.05,), daemon=True).start()

    def start_again(self) -> None:
        if self._nonsense is not None:
            self._nonsense.shutdown()
            self._nonsense.server_close()
            self._nonsense = None
        self._again = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self._process = psutil.Process(self._again.pid)
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            assert time.monotonic() < deadline, "redis did not come up again"
            time.sleep(0.01)

    def close(self) -> None:
        if self._nonsense is not None:
            self._nonsense.shutdown()
            self._nonsense.server_close()
        if self._again is not None:
            self._again.kill()
            self._again.wait(20)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with redis_server.running(tmp_path) as url:
        running = Store(url, tmp_path)
        yield running
        running.close()


class Load:
    """Closed-loop clients: of each request they keep the row's kind, the tag and what is wrong with the answer."""

    def __init__(self, port: int, scores: dict[str, float]) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.problems: list[str] = []
        self._port = port
        self._scores = scores
        self._numbers = itertools.count()

    @contextmanager
    def running(self) -> Iterator[Load]:
        stop = threading.Event()
        clients = [threading.Thread(target=self._ask, args=(stop,)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            stop.set()
            for client in clients:
                client.join()

    def _ask(self, stop: threading.Event) -> None:
        headers = {"x-envoy-expected-rq-timeout-ms": str(BUDGET_MS)}
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60, headers=headers) as client:
            while not stop.is_set():
                number = next(self._numbers)
                # every second row has been read before, the others never
                kind = "known" if number % 2 else "new"
                row = KNOWN if kind == "known" else {**KNOWN, "carrier": f"new-{number}", "seat": number + 10}
                answer = client.post("/v1/models/keyed:predict", json={"instances": [row]})
                if answer.status_code != 200:
                    self.problems.append(f"{answer.status_code}: {answer.text}")
                    return
                document = answer.json()
                source = document["feature_source"]
                self.seen[kind, source] += 1
                wanted = self._scores["default" if source == "default" else kind]
                if document["predictions"] != pytest.approx([wanted], abs=1e-5):
                    self.problems.append(
                        f"{kind} row, {source}: {document['predictions']}, expected {wanted}"
                    )

    def until(self, wait_until: Callable[..., None], *tags: tuple[str, str]) -> None:
        """Wait until enough rows were answered so from now on."""
        before = Counter(self.seen)
        wait_until(lambda: self.problems or all(self.seen[t] - before[t] >= ENOUGH for t in tags))
        assert self.problems == []


def test_every_request_is_answered_whatever_the_store_does(
    store: Store, serve: Callable[..., Any], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Verify that requests are answered in time and tagged, whatever fails, and online after it."""
    bundles, _ = fuzz_subject.write(tmp_path / "bundles")
    keyed = next(b for b in bundles if b.name == "keyed")
    server = serve([keyed], "--online", store.url)
    online, fallen = [("known", "online"), ("new", "online")], [("known", "cached"), ("new", "default")]
    scores = {
        "known": fuzz_subject.keyed_scores([KNOWN])[0],
        "new": fuzz_subject.keyed_scores([{**KNOWN, "carrier": "none", "seat": 0}])[0],
        "default": fuzz_subject.plain_scores(np.array([DEFAULTS], dtype=np.float32))[0],
    }
    faults: list[tuple[Callable[[], None], Callable[[], None]]] = [
        (store.hang, store.go_on),
        (store.end, store.answer_nonsense),
        (lambda: None, store.start_again),
        (store.hang, store.go_on),
        (store.end, store.start_again),
    ]
    with Load(server.target.port, scores).running() as load:
        load.until(wait_until, *online)
        for fault, remedy in faults:
            fault()
            load.until(wait_until, *fallen)
            remedy()
            load.until(wait_until, *(fallen if remedy == store.answer_nonsense else online))
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert server.client.get(path).status_code == 200
        # a busy machine opens it for a moment at any time, and only who asks closes it
        wait_until(lambda: server.metric("windlass_breaker_state", 'of="store"', 'state="closed"') == 1)
    assert load.problems == []
    assert server.metric("windlass_breaker_opens_total", 'of="store"') >= 3
    assert server.metric("windlass_requests_total", 'code="500"') == 0
    assert "Traceback" not in server.target.child.log.read_text()
