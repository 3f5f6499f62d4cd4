"""Servers of real models that can be made slow, and clients that hold every answer to what they asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.serving import fuzz_models, fuzz_subject

PATIENCE_S = 60.0
SPINS_AT_LEAST = 9000
"""Of each run: then the server measures that a run costs milliseconds, and runs it beside its event loop. A fast core
makes 3,000 of them in less than the 2 ms up to which a run stays in the loop."""


@dataclass(frozen=True)
class Server:
    """A running server and a client of it."""

    target: fuzz_subject.Target
    client: httpx.Client

    def predict(self, model: str, row: list[float], headers: dict[str, str] | None = None) -> httpx.Response:
        """Score one row by V1."""
        return self.client.post(f"/v1/models/{model}:predict", json={"instances": [row]}, headers=headers)

    def metric(self, name: str, *labels: str) -> float:
        """The value of a metric, of the line that holds all `labels`; 0 where there is none."""
        for line in self.client.get("/metrics").text.splitlines():
            if re.match(rf"{name}[ {{]", line) and all(label in line for label in labels):
                return float(line.rpartition(" ")[2])
        return 0.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool]], None]:
    return wait_until


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of bundles, with options; all are stopped at the end."""
    running: list[Server] = []

    def start(bundles: list[Path], *options: str, **environment: str) -> Server:
        folder = tmp_path / f"server-{len(running)}"
        target = fuzz_subject.start(folder, bundles, *options, environment=environment)
        client = httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=PATIENCE_S)
        running.append(Server(target, client))
        return running[-1]

    yield start
    for server in running:
        server.client.close()
        server.target.child.stop()


def spinning_model() -> bytes:
    """An ONNX model of (spins, x): sigmoid of x, after a loop of so many turns."""
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"turn": TensorProto.INT64, "go": TensorProto.BOOL, "sum": TensorProto.FLOAT}
    kinds |= {"on": TensorProto.BOOL, "more": TensorProto.FLOAT}
    inside = {name: helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "turn",
        [inside["turn"], inside["go"], inside["sum"]],
        [inside["on"], inside["more"]],
    )
    nodes = [
        helper.make_node("Split", ["features"], ["spins", "x"], axis=1, num_outputs=2),
        helper.make_node("ReduceMax", ["spins"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["asked"], to=TensorProto.INT64),
        helper.make_node("Add", ["asked", "least"], ["turns"]),
        helper.make_node("Loop", ["turns", "true", "zero"], ["spun"], body=body),
        helper.make_node("Mul", ["spun", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], ["probability"]),
    ]
    constants = {
        "least": np.array(SPINS_AT_LEAST, dtype=np.int64),
        "true": np.array(True),
        "zero": np.float32(0),
        "one": np.float32(1),
        "flat": np.array([-1], dtype=np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "spinning",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def spinning() -> bytes:
    return spinning_model()


@pytest.fixture(scope="session")
def spins(spinning: bytes) -> Callable[[float], float]:
    """How many turns take so many seconds here, or more."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(spinning, options)
    times = []
    # CPU time of this thread, the shortest of some: a run takes as long as was asked, or longer, whoever else works
    for _ in range(5):
        begun = time.thread_time()
        session.run(None, {"features": np.array([[20_000, 0]], dtype=np.float32)})
        times.append(time.thread_time() - begun)
    each_s = min(times) / (20_000 + SPINS_AT_LEAST)
    return lambda seconds: float(round(seconds / each_s))


@pytest.fixture
def spinning_bundle(tmp_path: Path, spinning: bytes) -> Callable[..., Path]:
    """Write a bundle of the spinning model; any key of its document may be stated."""
    inputs = [{"name": name, "view": None} for name in ("spins", "x")]

    def write(model: str, version: str = "1", **stated: Any) -> Path:
        folder = tmp_path / f"{model}-{version}"
        return fuzz_subject.write_bundle(folder, model, version, spinning, **{"inputs": inputs, **stated})

    return write


@pytest.fixture
def linear_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle of two inputs, `a` and `b`, whose score is the sigmoid of their weighted sum."""
    inputs = [{"name": name, "view": None} for name in ("a", "b")]

    def write(
        model: str, weights: list[float], version: str = "1", at: Path | None = None, **stated: Any
    ) -> Path:
        content = fuzz_models.rows_model(
            np.array(weights, dtype=np.float32).reshape(-1, 1), "Sigmoid", "probability"
        )
        folder = at or tmp_path / f"{model}-{version}"
        return fuzz_subject.write_bundle(folder, model, version, content, **{"inputs": inputs, **stated})

    return write


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.fixture(name="sigmoid")
def sigmoid_fixture() -> Callable[[float], float]:
    return sigmoid
