"""Models that hang, more requests than can be answered, and what answers instead."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

STATIC = 0.125
MIB = 1 << 20
HELD_MB = 256
GROWTH_MB = 32
PATIENT_MS = "60000"
"""For who waits behind a run: on a busy machine one of a second takes some."""
SPIN_INPUTS = [{"name": name, "view": None} for name in ("spins", "x")]

Bundle = Callable[..., Path]
Serve = Callable[..., Any]
Spins = Callable[[float], float]
Sigmoid = Callable[[float], float]


def asked_by_header(server: Any, model: str, row: list[float], timeout_ms: int) -> Any:
    return server.predict(model, row, {"x-envoy-expected-rq-timeout-ms": str(timeout_ms)})


def asked_by_parameter(server: Any, model: str, row: list[float], timeout_ms: int) -> Any:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": row}
    body = {"inputs": [tensor], "parameters": {"timeout": timeout_ms * 1000}}
    return server.client.post(f"/v2/models/{model}/infer", json=body)


def hung(server: Any, ask: Callable[..., Any], model: str, row: list[float], timeout_ms: int) -> list[Any]:
    """Ask until the model is at it, and return the answers: where a busy server comes to a request when its time is
    over, it is not run."""
    answers: list[Any] = []
    while not answers or server.metric("windlass_pending_requests", f'model="{model}"') == 0:
        assert len(answers) < 20, "it is not at it any more"
        answers.append(ask(server, model, row, timeout_ms))
    return answers


def answer_of(response: Any) -> tuple[str, float]:
    """What answered, and its score."""
    assert response.status_code == 200, response.text
    document = response.json()
    if "predictions" in document:
        return document["answered_by"], document["predictions"][0]
    return document["parameters"]["answered_by"], document["outputs"][0]["data"][0]


# ---- deadlines


@pytest.mark.parametrize(
    "ask", [pytest.param(asked_by_header, id="header"), pytest.param(asked_by_parameter, id="parameter")]
)
def test_a_deadline_is_kept_while_the_model_hangs(
    ask: Callable[..., Any], spinning_bundle: Bundle, linear_bundle: Bundle, serve: Serve, spins: Spins,
    sigmoid: Sigmoid,
) -> None:  # fmt: skip
    """Verify that the caller gets what the bundle states, or a 504, and that the rest of the server does not notice."""
    backed = spinning_bundle("backed", fallback="fallback")
    linear_bundle("backed", [0.0, -1.0], at=backed / "fallback", inputs=SPIN_INPUTS)
    stated = spinning_bundle("stated", static_answer=STATIC)
    bundles = [backed, stated, spinning_bundle("bare"), linear_bundle("other", [1.0, 0.0])]
    server = serve(bundles, "--deadline-ms", PATIENT_MS)
    expected = {"backed": ("fallback", pytest.approx(sigmoid(-0.5))), "stated": ("static", STATIC)}
    for name in ("backed", "stated", "bare"):
        answers = hung(server, ask, name, [spins(1.0), 0.5], 50)
        for answer in answers:
            if name == "bare":
                assert answer.status_code == 504
                assert "bare" in answer.json()["error"]
            else:
                assert answer_of(answer) == expected[name]
        for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"):
            assert server.client.get(path).status_code == 200
        assert answer_of(server.predict("other", [2.0, 0.0])) == ("model", pytest.approx(sigmoid(2.0)))
        # who asks with more patience waits for its turn
        assert answer_of(server.predict(name, [0.0, 1.0])) == ("model", pytest.approx(sigmoid(1.0)))
        assert server.metric("windlass_shed_total", f'model="{name}"', "deadline") == len(answers)


def test_a_stuck_model_costs_nobody_its_patience(
    spinning_bundle: Bundle,
    linear_bundle: Bundle,
    serve: Serve,
    spins: Spins,
    sigmoid: Sigmoid,
    wait_until: Any,
) -> None:
    """Verify that requests are answered at once, by what stands in, while a run does not come back; and by it again."""
    backed = spinning_bundle("backed", fallback="fallback")
    linear_bundle("backed", [0.0, -1.0], at=backed / "fallback", inputs=SPIN_INPUTS)
    server = serve([backed, spinning_bundle("bare")], "--deadline-ms", PATIENT_MS)
    hang = [spins(3.5), 0.5]
    for name in ("backed", "bare"):
        hung(server, asked_by_header, name, hang, 20)
    refused: list[Any] = []

    def is_stuck() -> bool:
        refused[:] = [asked_by_header(server, "bare", [0.0, 1.0], 50)]
        # before that it is the queue that is too long: 503 as well
        return "has not come back" in refused[0].text

    wait_until(is_stuck)
    assert refused[0].status_code == 503
    assert int(refused[0].headers["retry-after"]) >= 1
    # no deadline: it is the run that does not come back which is not waited for
    answered = [answer_of(server.predict("backed", [0.0, 1.0])) for _ in range(20)]
    assert answered == [("fallback", pytest.approx(sigmoid(-1.0)))] * 20
    assert server.metric("windlass_pending_requests", 'model="backed"') == 1
    for name in ("backed", "bare"):
        wait_until(lambda name=name: server.metric("windlass_pending_requests", f'model="{name}"') == 0)  # type: ignore[misc]
        assert answer_of(server.predict(name, [0.0, 1.0])) == ("model", pytest.approx(sigmoid(1.0)))


def test_what_cannot_be_asked_is_refused_while_the_model_hangs(
    spinning_bundle: Bundle, linear_bundle: Bundle, serve: Serve, spins: Spins
) -> None:
    """Verify that a missing value is refused by name at the deadline too, where the fallback model would be asked."""
    inputs = [{"name": "spins", "view": None}, {"name": "x", "view": None, "missing": False}]
    backed = spinning_bundle("backed", fallback="fallback", inputs=inputs)
    linear_bundle("backed", [0.0, -1.0], at=backed / "fallback", inputs=inputs)
    server = serve([backed], "--deadline-ms", PATIENT_MS)
    assert answer_of(asked_by_header(server, "backed", [spins(0.5), 0.5], 50))[0] == "fallback"
    body = b'{"instances": [[0.0, NaN]]}'
    headers = {"x-envoy-expected-rq-timeout-ms": "50"}
    refused = server.client.post("/v1/models/backed:predict", content=body, headers=headers)
    assert refused.status_code == 400
    assert ".x: got null" in refused.json()["error"]
    assert answer_of(server.predict("backed", [0.0, 0.5]))[0] == "model"
    assert server.metric("windlass_pending_requests") == 0


# ---- overload


def test_what_cannot_be_answered_in_time_is_refused(
    spinning_bundle: Bundle, serve: Serve, spins: Spins, sigmoid: Sigmoid
) -> None:
    """Verify that what does not fit the queue gets 503 with Retry-After, and the rest their answers."""
    server = serve([spinning_bundle("busy")], "--queue-ms", "20")
    together = threading.Barrier(32)

    def ask(number: int) -> Any:
        together.wait()
        return server.predict("busy", [spins(0.02), number])

    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(ask, range(32)))
    served = [(n, a) for n, a in enumerate(answers) if a.status_code == 200]
    shed = [a for a in answers if a.status_code == 503]
    assert len(served) + len(shed) == 32
    assert served
    assert shed
    for number, answer in served:
        assert answer_of(answer) == ("model", pytest.approx(sigmoid(number)))
    for answer in shed:
        assert int(answer.headers["retry-after"]) >= 1
        assert "busy" in answer.json()["error"]
    assert server.metric("windlass_shed_total", "slow") == len(shed)
    assert answer_of(server.predict("busy", [0.0, 3.0])) == ("model", pytest.approx(sigmoid(3.0)))


def test_a_server_without_a_file_left_serves_whom_it_has(
    linear_bundle: Bundle, serve: Serve, wait_until: Any
) -> None:
    """Verify that connections beyond the limit of open files cost no other, and new ones come in after it."""
    server = serve([linear_bundle("m", [1.0, 0.0])])
    process = psutil.Process(server.target.child.pid)
    assert server.predict("m", [0.0, 0.0]).status_code == 200
    limits, files = process.rlimit(psutil.RLIMIT_NOFILE), process.num_fds()
    process.rlimit(psutil.RLIMIT_NOFILE, (files + 8, limits[1]))
    crowd = [socket.create_connection(("127.0.0.1", server.target.port)) for _ in range(64)]
    for _ in range(50):
        assert server.predict("m", [0.0, 0.0]).status_code == 200
    for connection in crowd:
        connection.close()
    # who comes before it has seen them go is cut off as one of them
    wait_until(lambda: process.num_fds() <= files)
    with httpx.Client(timeout=60) as another:
        url = f"http://127.0.0.1:{server.target.port}/v1/models/m:predict"
        assert another.post(url, json={"instances": [[0.0, 0.0]]}).status_code == 200


def test_bodies_that_never_end_are_held_up_to_a_limit_and_given_back(
    linear_bundle: Bundle, serve: Serve, wait_until: Any
) -> None:
    """Verify that who holds up more than the server may keep is refused, and that nothing of it is left behind."""
    server = serve([linear_bundle("m", [1.0, 0.0])])
    process = psutil.Process(server.target.child.pid)
    assert server.predict("m", [0.0, 0.0]).status_code == 200
    memory_mb = process.memory_info().rss / MIB
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {4 * MIB}\r\n\r\n".encode()
    crowd = []
    for _ in range(HELD_MB // 4 + 8):
        connection = socket.create_connection(("127.0.0.1", server.target.port), timeout=60)
        connection.sendall(head + b" " * (4 * MIB - 1))
        connection.setblocking(False)
        crowd.append(connection)
    refusals: list[bytes] = []

    def some_are_refused() -> bool:
        for connection in crowd:
            with contextlib.suppress(BlockingIOError):
                refusals.append(connection.recv(1000))
        return bool(refusals)

    wait_until(some_are_refused)
    assert refusals[0].startswith(b"HTTP/1.1 503")
    assert b"unfinished requests" in refusals[0]
    assert server.predict("m", [0.0, 0.0]).status_code == 200
    assert process.memory_info().rss / MIB < memory_mb + 2 * HELD_MB
    for connection in crowd:
        connection.close()
    wait_until(lambda: process.memory_info().rss / MIB < memory_mb + GROWTH_MB)


# ---- the breaker


def test_the_breaker_of_a_model_opens_and_closes(
    spinning_bundle: Bundle, serve: Serve, spins: Spins, sigmoid: Sigmoid, wait_until: Any
) -> None:
    """Verify that a model whose runs nobody could wait for is left alone, then tried, and trusted again."""
    server = serve([spinning_bundle("m", static_answer=STATIC)])

    def idle() -> bool:
        return server.metric("windlass_pending_requests") == 0

    while server.metric("windlass_breaker_opens_total", 'of="model"') == 0:
        runs = server.metric("windlass_model_runs_total")
        assert runs < 20, "the breaker does not open"
        assert answer_of(asked_by_header(server, "m", [spins(0.1), 0.5], 30)) == ("static", STATIC)
        wait_until(idle)
    assert server.metric("windlass_breaker_state", 'of="model"', 'state="open"') == 1
    answers: list[tuple[str, float]] = []

    def answers_by_model() -> bool:
        answers.append(answer_of(server.predict("m", [0.0, 0.5])))
        return answers[-1][0] == "model"

    wait_until(answers_by_model)
    assert answers[-1][1] == pytest.approx(sigmoid(0.5))
    assert all(answer == ("static", STATIC) for answer in answers[:-1])
    assert server.metric("windlass_breaker_state", 'of="model"', 'state="closed"') == 1


# ---- what is stated in a bundle


def test_the_same_inputs_get_the_same_answer_for_a_while(
    linear_bundle: Bundle, serve: Serve, sigmoid: Sigmoid, wait_until: Any
) -> None:
    """Verify that the cache answers for its keys and its time to live, and says so."""
    cache = {"ttl_seconds": 3.0, "keys": ["a"], "entries": 100}
    server = serve([linear_bundle("m", [1.0, 1.0], cache=cache)])

    def ask(a: float, b: float) -> tuple[str, float]:
        return answer_of(server.predict("m", [a, b]))

    assert ask(1.0, 1.0) == ("model", pytest.approx(sigmoid(2.0)))
    assert ask(1.0, 5.0) == ("cache", pytest.approx(sigmoid(2.0)))  # b is no key
    assert ask(2.0, 5.0) == ("model", pytest.approx(sigmoid(7.0)))
    assert ask(-0.0, 1.0) == ("model", pytest.approx(sigmoid(1.0)))
    assert ask(0.0, 1.0)[0] == "cache"
    mixed = server.client.post("/v1/models/m:predict", json={"instances": [[1.0, 0.0], [9.0, 0.0]]}).json()
    assert mixed["answered_by"] == "model"  # a request is answered as a whole
    wait_until(lambda: ask(1.0, 3.0)[0] == "model")
    assert ask(1.0, 1.0) == ("cache", pytest.approx(sigmoid(4.0)))
    assert server.metric("windlass_cache_lookups_total", "hit") >= 3


def test_models_and_versions_share_a_process(linear_bundle: Bundle, serve: Serve, sigmoid: Sigmoid) -> None:
    """Verify that each is found by its name, the newest where no version is named, an ensemble among them."""
    ensemble = linear_bundle(
        "both", [0.0, 0.0], model_format="ensemble", model_file=None, combine="mean",
        members=[{"folder": "members/0", "weight": 3}, {"folder": "members/1", "weight": 1}],
    )  # fmt: skip
    linear_bundle("first", [1.0, 0.0], at=ensemble / "members" / "0")
    linear_bundle("second", [0.0, 1.0], at=ensemble / "members" / "1")
    server = serve([linear_bundle("m", [1.0, 0.0], "1"), linear_bundle("m", [2.0, 0.0], "2"), ensemble])
    document = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1.0, -1.0]}]}

    def score(path: str) -> tuple[str, float]:
        answer = server.client.post(f"/v2/models/{path}/infer", json=document).json()
        return answer["model_version"], answer["outputs"][0]["data"][0]

    assert score("m/versions/1") == ("1", pytest.approx(sigmoid(1.0)))
    assert score("m/versions/2") == ("2", pytest.approx(sigmoid(2.0)))
    assert score("m") == ("2", pytest.approx(sigmoid(2.0)))
    assert score("both") == ("1", pytest.approx(0.75 * sigmoid(1.0) + 0.25 * sigmoid(-1.0)))
    assert server.client.get("/v1/models").json() == {"models": ["m", "both"]}
    unknown = server.client.post("/v2/models/m/versions/3/infer", json=document)
    assert unknown.status_code == 404
    assert "'1', '2'" in unknown.json()["error"]
