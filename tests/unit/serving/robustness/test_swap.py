"""Versions that take each other's place while clients ask: no request fails, and no answer mixes two of them."""

from __future__ import annotations

import functools
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serving.runtime.protocol import messages

SWAPS = 50
VERSIONS = ("1", "2", "3", "4", "5")
TOKEN = "a-token-of-this-test"  # noqa: S105 - opens a server that lives for seconds
ROWS = [[0.25 * i - 1.0, 0.5] for i in range(16)]
GROWTH_MB = 32.0
PATIENT = ("--queue-ms", "60000", "--deadline-ms", "60000")
"""A busy machine makes a run look long, and then a server sheds or ends requests whatever is swapped."""

Sigmoid = Callable[[float], float]


@dataclass
class Seen:
    """What the clients got: how many answers of each version, and what was wrong with any."""

    answers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def body_of(path: str, rows: list[list[float]]) -> bytes:
    if path.startswith("/v1"):
        return json.dumps({"instances": rows}).encode()
    flat = [value for row in rows for value in row]
    tensor = {"name": "features", "datatype": "FP32", "shape": [len(rows), 2], "data": flat}
    return json.dumps({"inputs": [tensor]}).encode()


@contextmanager
def asked(port: int, paths: list[str], scores: dict[str, list[float]]) -> Iterator[Seen]:
    """Closed-loop clients, one for each path; the scores that an answer holds must be those of its version."""
    seen, stop = Seen(), threading.Event()

    def ask(path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = body_of(path, ROWS)
        try:
            while not stop.is_set():
                connection.request("POST", path, body)
                response = connection.getresponse()
                document = json.loads(response.read())
                if response.status != 200:
                    seen.problems.append(f"{response.status}: {document}")
                    return
                version = str(response.headers["x-windlass-version"])
                seen.answers[version] = seen.answers.get(version, 0) + 1
                given = (
                    document["predictions"] if "predictions" in document else document["outputs"][0]["data"]
                )
                if given != pytest.approx(scores[version], abs=1e-5):
                    seen.problems.append(f"version {version} answered {given}")
                if document.get("model_version", version) != version:
                    seen.problems.append(f"header says {version}, body {document['model_version']}")
        except (OSError, http.client.HTTPException) as error:
            seen.problems.append(repr(error))
        finally:
            connection.close()

    clients = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        stop.set()
        for client in clients:
            client.join()


@contextmanager
def asked_by_grpc(port: int, scores: dict[str, list[float]]) -> Iterator[Seen]:
    """The same by two gRPC clients, each over a connection of its own."""
    import grpc

    seen, stop = Seen(), threading.Event()
    classes = messages.load()
    request = classes["inference.ModelInferRequest"](model_name="m")
    request.inputs.add(name="features", datatype="FP32", shape=[len(ROWS), 2])
    request.raw_input_contents.append(np.array(ROWS, dtype="<f4").tobytes())
    body = request.SerializeToString()

    def ask() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            grpc.channel_ready_future(channel).result(60)
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while not stop.is_set():
                try:
                    answer = classes["inference.ModelInferResponse"].FromString(call(body, timeout=60))
                except grpc.RpcError as error:
                    seen.problems.append(repr(error))
                    return
                version = answer.model_version
                seen.answers[version] = seen.answers.get(version, 0) + 1
                given = np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()
                if given != pytest.approx(scores[version], abs=1e-5):
                    seen.problems.append(f"version {version} answered {given}")

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        stop.set()
        for client in clients:
            client.join()


def load(server: Any, version: str | None, model: str = "m") -> Any:
    body = {} if version is None else {"parameters": {"version": version}}
    headers = {"authorization": f"Bearer {TOKEN}"}
    return server.client.post(f"/v2/repository/models/{model}/load", json=body, headers=headers)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def test_fifty_swaps_fail_no_request_and_mix_no_versions(
    shelf: Path, linear_bundle: Callable[..., Path], serve: Callable[..., Any], sigmoid: Sigmoid,
    wait_until: Callable[..., None],
) -> None:  # fmt: skip
    """Verify that each answer is of one version while versions take turns, and that the old ones leave nothing."""
    scores = {}
    for version in VERSIONS:
        weight = float(version)
        linear_bundle("m", [weight, -weight / 2], version, at=shelf / "m" / version)
        scores[version] = [sigmoid(weight * a - weight / 2 * b) for a, b in ROWS]
    log = shelf.parent / "log.jsonl"
    options = ("--repository", str(shelf), "--log", str(log), *PATIENT)
    server = serve([], *options, WINDLASS_REPOSITORY_TOKEN=TOKEN)
    assert load(server, "1").json() == {"name": "m", "version": "1", "state": "READY"}
    process = psutil.Process(server.target.child.pid)
    paths = ["/v1/models/m:predict", "/v2/models/m/infer"] * 2
    with (
        asked(server.target.port, paths, scores) as seen,
        asked_by_grpc(server.target.grpc_port, scores) as seen_by_grpc,
    ):

        def seen_by_all(version: str) -> bool:
            problems = seen.problems + seen_by_grpc.problems
            return bool(problems) or (version in seen.answers and version in seen_by_grpc.answers)

        wait_until(lambda: seen_by_all("1"))
        for swap in range(SWAPS):
            version = VERSIONS[(swap + 1) % len(VERSIONS)]
            assert load(server, version).json()["version"] == version
            wait_until(functools.partial(seen_by_all, version))
            if swap == len(VERSIONS):  # each was there once
                memory_mb = process.memory_info().rss / 2**20
                files = process.num_fds()
    assert seen.problems == seen_by_grpc.problems == []
    assert set(seen.answers) == set(seen_by_grpc.answers) == set(VERSIONS)
    assert process.memory_info().rss / 2**20 < memory_mb + GROWTH_MB
    server.client.close()
    wait_until(lambda: process.num_fds() <= files)


def test_a_version_that_is_at_work_finishes_it(
    shelf: Path, spinning_bundle: Callable[..., Path], linear_bundle: Callable[..., Path],
    serve: Callable[..., Any], spins: Callable[[float], float], sigmoid: Sigmoid, wait_until: Callable[..., None],
) -> None:  # fmt: skip
    """Verify that a request which the old version has in its thread is answered by it, after the new one took over."""
    old = spinning_bundle("m", "1")
    inputs = [{"name": name, "view": None} for name in ("spins", "x")]
    linear_bundle("m", [0.0, 2.0], "2", at=shelf / "m" / "2", inputs=inputs)
    server = serve([old], "--repository", str(shelf), *PATIENT, WINDLASS_REPOSITORY_TOKEN=TOKEN)
    process = psutil.Process(server.target.child.pid)
    slow = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=60)
    slow.request("POST", "/v1/models/m:predict", body_of("/v1", [[spins(1.0), 0.5]]))
    wait_until(lambda: server.metric("windlass_pending_requests") == 1)
    threads = process.num_threads()
    assert load(server, None).json()["version"] == "2"
    answer = server.predict("m", [0.0, 0.5])
    assert answer.headers["x-windlass-version"] == "2"
    assert answer.json()["predictions"] == pytest.approx([sigmoid(1.0)], abs=1e-5)
    late = slow.getresponse()
    assert (late.status, late.headers["x-windlass-version"]) == (200, "1")
    assert json.loads(late.read())["predictions"] == pytest.approx([sigmoid(0.5)], abs=1e-5)
    slow.close()
    # its thread ends with it; loading has a thread of its own, which stays
    wait_until(lambda: process.num_threads() <= threads + 1)


def test_a_new_version_that_was_tampered_with_is_refused(
    shelf: Path, linear_bundle: Callable[..., Path], serve: Callable[..., Any], sigmoid: Sigmoid
) -> None:
    """Verify that a changed byte is named, nothing of the new version is served, and the old one never stops."""
    good = linear_bundle("m", [1.0, 0.0], "1", at=shelf / "m" / "1")
    bad = linear_bundle("m", [9.0, 0.0], "2", at=shelf / "m" / "2")
    content = bytearray((bad / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "model.onnx").write_bytes(content)
    server = serve([good], "--repository", str(shelf), WINDLASS_REPOSITORY_TOKEN=TOKEN)
    scores = {"1": [sigmoid(a) for a, _ in ROWS]}
    with asked(server.target.port, ["/v1/models/m:predict", "/v2/models/m/infer"], scores) as seen:
        for version in ("2", None, "2"):
            refused = load(server, version)
            assert refused.status_code == 400
            assert "model.onnx" in refused.json()["error"]
        assert load(server, "7").status_code == 404
        assert load(server, "1", model="other").status_code == 404
    assert seen.problems == []
    assert set(seen.answers) == {"1"}
    assert server.client.get("/v2/models/m").json()["versions"] == ["1"]


def test_swaps_need_the_token(
    shelf: Path, linear_bundle: Callable[..., Path], serve: Callable[..., Any]
) -> None:
    """Verify that nobody swaps a version without the server's token."""
    good = linear_bundle("m", [1.0, 0.0], "1", at=shelf / "m" / "1")
    server = serve([good], "--repository", str(shelf), WINDLASS_REPOSITORY_TOKEN=TOKEN)
    for headers in ({}, {"authorization": "Bearer another"}, {"authorization": TOKEN}):
        answer = server.client.post("/v2/repository/models/m/unload", headers=headers)
        assert answer.status_code == 401
    assert server.predict("m", [0.0, 0.0]).status_code == 200
