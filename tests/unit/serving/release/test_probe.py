"""Smoke requests: a version is held to its answers before anybody else asks it."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import planes
import pytest

from serving.release.envoy.process import free_port
from serving.release.evidence import Smoke
from serving.release.probe import DirectProber, Probing
from serving.release.release import SmokeRequest

V1, V2 = {"instances": [{"a": 1}]}, {"inputs": [{"name": "a", "shape": [1], "datatype": "FP64", "data": [1]}]}


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, str]]

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).seen.append((self.path, self.headers["host"], self.headers["x-windlass-route"]))
        said = str(body)
        broken = "fails" in said and ("from" not in said or len(type(self).seen) >= 5)
        self._answer(400 if "bad" in said else 500 if broken else 200)

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers["host"], self.headers["x-windlass-route"]))
        self._answer(200)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    handler = type("Handler", (Model,), {"seen": []})
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.server_address[1]}", handler.seen
    listener.shutdown()
    listener.server_close()
    thread.join()


def smoke(address, requests, warm_up=0, example=None):
    return DirectProber("m", address, example).smoke(requests, warm_up)


@pytest.mark.parametrize(
    ("request_", "passed", "detail"),
    [
        pytest.param(SmokeRequest(V1), 1, "", id="v1"),
        pytest.param(SmokeRequest(V2), 1, "", id="v2"),
        pytest.param(
            SmokeRequest({"instances": [{"a": "bad"}]}, status=400), 1, "", id="an-error-that-is-right"
        ),
        pytest.param(SmokeRequest(V1, status=400), 0, "status 200 instead of 400", id="another-status"),
        pytest.param(
            SmokeRequest(V1, max_latency=timedelta(0)), 0, "at most 0 ms are allowed", id="too-slow"
        ),
    ],
)
def test_an_answer_is_held_to_what_is_stated(server, request_, passed, detail):
    found = smoke(server[0], [request_])
    assert (found.passed, found.failed) == (passed, 1 - passed)
    assert detail in found.detail


def test_warm_up_comes_first_and_counts_nothing(server):
    address, seen = server
    found = smoke(address, [SmokeRequest(None)], warm_up=3, example=V1)
    assert (found.passed, found.failed, found.warmed) == (1, 0, 3)
    assert len(seen) == 4
    # a model server logs a copy as nobody's prediction, and knows one by this ending
    assert all(host.endswith("-shadow") for _, host, _ in seen)
    # and counts it as chosen, not as what the version's share of the callers got
    assert {route for *_, route in seen} == {"match"}


def test_without_smoke_requests_the_server_must_be_ready(server):
    address, seen = server
    assert smoke(address, []).failed == 0
    assert seen == [("/v2/models/m/ready", "windlass-smoke-shadow", "match")]


def test_a_server_that_is_dead_fails():
    found = smoke(f"127.0.0.1:{free_port()}", [SmokeRequest(V1)])
    assert found.failed == 1
    assert "status 0 instead of 200" in found.detail


@pytest.mark.parametrize(
    ("requests", "warm_up"),
    [pytest.param([SmokeRequest(None)], 0, id="smoke"), pytest.param([], 10, id="warm-up")],
)
def test_where_nothing_can_be_sent_nothing_passed_and_nothing_failed(server, requests, warm_up):
    found = smoke(server[0], requests, warm_up)
    assert (found.passed, found.failed, found.warmed, found.tried) == (0, 0, 0, False)
    assert "smoke[].body is not stated" in found.detail


@pytest.mark.parametrize(
    ("example", "warmed", "said"),
    [
        pytest.param("fails", 0, "3 of the last 3 requests failed, 10 of 10 in all; status 500", id="all"),
        pytest.param("fails from the sixth on", 4, "6 of 10 in all", id="the-last-ones"),
        pytest.param("bad", 0, "status 400", id="not-understood"),
    ],
)
def test_a_warm_up_that_fails_is_a_failure(server, example, warmed, said):
    """Verify that a server that is ready and answers no request gets no traffic."""
    found = smoke(server[0], [], warm_up=10, example={"instances": [{"a": example}]})
    assert (found.failed, found.warmed) == (1, warmed)
    assert said in found.detail


def test_a_request_that_is_to_fail_warms_nothing_up_where_there_is_a_better_one(server):
    refused = SmokeRequest({"instances": [{"a": "bad"}]}, status=400)
    assert smoke(server[0], [refused], warm_up=3).failed == 0
    assert smoke(server[0], [refused], warm_up=3, example=V1) == Smoke(1, 0, "", 3)


def test_a_server_that_never_answers_is_given_up(server):
    address, seen = server
    found = smoke(address, [], warm_up=10_000, example={"instances": [{"a": "fails"}]})
    assert found.failed == 1
    assert len(seen) < 100


def test_a_server_that_hangs_holds_up_nobody():
    """Verify that the run goes on beside its caller, and ends when it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        probing = Probing(DirectProber("m", address, V1), [], 10_000)
        asked, _ = silent.accept()
        assert probing.found is None
        probing.stop()
        asked.close()
        silent.close()
        probing._thread.join(planes.WAIT_S)
        assert probing.found is not None
        assert probing.found.failed == 2
