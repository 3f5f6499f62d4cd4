"""What our server spends on a request beyond decoding, predicting and encoding.

Starts the floor (`floor.py`) and our runtime on the same model, interleaves them in rounds, and prints the
servers' CPU seconds per 1,000 requests and their ratios to the floor. Only ratios of one run mean anything.
The contenders of ours look features up in a sqlite store in Feast's layout, and log every prediction:

    python benchmarks/serving/runtime_overhead.py [--requests N] [--rounds N] [--concurrency N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import re
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper

from serving.runtime.features import entity_key

NOW = 1_360_000_000
ENTITIES = ("carrier", "origin", "dest", "tailnum")
# six views of four entities with 32 features, and three request fields: what the flights workload asks for
VIEWS = {
    "carrier_delays": ("carrier", 5),
    "origin_delays": ("origin", 6),
    "origin_weather": ("origin", 6),
    "dest_delays": ("dest", 5),
    "dest_weather": ("dest", 5),
    "tail_delays": ("tailnum", 5),
}
FIELDS = ("distance", "hour", "month")
KEYS = 500
HIDDEN = 64


@dataclass(frozen=True)
class Contender:
    """A server, the bodies it is asked with, and what it has cost so far."""

    name: str
    process: psutil.Process
    port: int
    path: str
    bodies: list[bytes]
    cpu_ms: list[float]
    latency_ms: list[float]


def features_of(view: str, count: int) -> list[str]:
    return [f"{view}_{i}" for i in range(count)]


def model_bytes(width: int) -> bytes:
    """A small network: cheap, so that what surrounds it shows."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(0, 0.1, (width, HIDDEN)).astype(np.float32),
        "w2": rng.normal(0, 0.1, (HIDDEN, 1)).astype(np.float32),
        "zero": np.zeros(1, dtype=np.float32),
        "flat": np.array([-1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "w1"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "w2"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def write_store(path: Path) -> None:
    rng = np.random.default_rng(1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for view, (entity, count) in VIEWS.items():
            table = f"windlass_{view}"
            connection.execute(
                f"CREATE TABLE {table} (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, "
                "vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
            )
            connection.execute(f"CREATE INDEX {table}_ek ON {table} (entity_key)")
            columns = "entity_key, feature_name, value, value_text, event_ts"
            insert = f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - our own names
            for key in range(KEYS):
                raw = entity_key.serialize([(entity, "string", f"{entity}{key}")])
                values = rng.normal(size=count)
                connection.executemany(
                    insert,
                    [
                        (raw, feature, b"\x29" + struct.pack("<d", value), str(value), NOW)
                        for feature, value in zip(features_of(view, count), values, strict=True)
                    ],
                )
    connection.close()


def write_bundle(folder: Path, *, with_views: bool) -> int:
    """Write a bundle; without views every input comes with the request. Returns the number of inputs."""
    views = VIEWS if with_views else {}
    inputs: list[dict[str, Any]] = [
        {"name": f, "view": v if with_views else None}
        for v, (_, n) in VIEWS.items()
        for f in features_of(v, n)
    ]
    inputs += [{"name": name, "view": None} for name in FIELDS]
    model = model_bytes(len(inputs))
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    document = {
        "format_version": 1,
        "model": "flights",
        "version": "1",
        "model_file": "model.onnx",
        "model_format": "onnx",
        "sha256": {"model.onnx": hashlib.sha256(model).hexdigest()},
        "feature_service": "flights_v1",
        "feast_project": "windlass",
        "entities": list(ENTITIES) if with_views else [],
        "views": [
            {"name": v, "entity": e, "ttl_seconds": 86_400, "features": features_of(v, n)}
            for v, (e, n) in views.items()
        ],
        "inputs": inputs,
        "output": "probability",
    }
    (folder / "serving.json").write_text(json.dumps(document))
    return len(inputs)


@contextmanager
def started(command: list[str]) -> Iterator[tuple[psutil.Process, int]]:
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)$", line.strip())
        if found is None:
            raise SystemExit(f"{command}: {line}{process.stderr.read()}")
        yield psutil.Process(process.pid), int(found[1])
    finally:
        process.terminate()
        process.wait(20)


def request(path: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: 0f8fad5b-d9cb-469f-a165-70867728950e\r\n"
        f"x-windlass-at: {NOW}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def ask(contender: Contender, requests: int, concurrency: int) -> None:
    """Ask from `concurrency` connections, each waiting for its answer before it asks again."""
    messages = [request(contender.path, body) for body in contender.bodies]
    left = iter(range(requests))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
        for i in left:
            begun = time.perf_counter()
            writer.write(messages[i % len(messages)])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{contender.name}: {head.decode()}{(await reader.read(1000)).decode()}")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            contender.latency_ms.append((time.perf_counter() - begun) * 1000)
        writer.close()

    before = sum(contender.process.cpu_times()[:2])
    await asyncio.gather(*(connection() for _ in range(concurrency)))
    spent = sum(contender.process.cpu_times()[:2]) - before
    contender.cpu_ms.append(spent * 1000 / requests)


def bodies(make: Any) -> list[bytes]:
    rng = np.random.default_rng(2)
    return [json.dumps(make(rng)).encode() for _ in range(KEYS)]


def tensors(rng: Any) -> dict[str, Any]:
    columns: list[tuple[str, str, Any]] = [(e, "BYTES", f"{e}{rng.integers(KEYS)}") for e in ENTITIES]
    columns += [(f, "FP64", float(rng.integers(3000))) for f in FIELDS]
    return {"inputs": [{"name": n, "datatype": d, "shape": [1], "data": [x]} for n, d, x in columns]}


def instance(rng: Any) -> dict[str, Any]:
    keys = {e: f"{e}{rng.integers(KEYS)}" for e in ENTITIES}
    return {"instances": [{**keys, **{f: float(rng.integers(3000)) for f in FIELDS}}]}


def run(requests: int, rounds: int, concurrency: int) -> dict[str, Any]:
    """Measure all contenders; returns the object that `windlass bench` prints."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_store(folder / "online.db")
        width = write_bundle(folder / "with-views", with_views=True)
        write_bundle(folder / "without-views", with_views=False)
        names = [
            i["name"] for i in json.loads((folder / "without-views" / "serving.json").read_text())["inputs"]
        ]

        def ours(bundle: str) -> list[str]:
            log = str(folder / f"{bundle}.jsonl")
            return [
                *("-m", "serving.runtime", "--bundle", str(folder / bundle), "--port", "0", "--log", log),
                *("--online", f"sqlite:{folder / 'online.db'}", "--replay-clock"),
            ]

        floor = stack.enter_context(
            started(
                [
                    str(Path(__file__).with_name("floor.py")),
                    "--model",
                    str(folder / "with-views" / "model.onnx"),
                ]
            )
        )
        with_views = stack.enter_context(started(ours("with-views")))
        without_views = stack.enter_context(started(ours("without-views")))
        v1, v2 = "/v1/models/flights:predict", "/v2/models/flights/infer"
        vectors = bodies(lambda rng: {"instances": [rng.normal(size=width).round(6).tolist()]})

        def whole(rng: Any) -> dict[str, Any]:
            return {"instances": [dict(zip(names, rng.normal(size=width).round(6).tolist(), strict=True))]}

        named = bodies(whole)
        contenders = [
            Contender("floor", *floor, "/", vectors, [], []),
            Contender("runtime, no views (V1)", *without_views, v1, named, [], []),
            Contender("runtime, 6 views 32 features (V1)", *with_views, v1, bodies(instance), [], []),
            Contender("runtime, 6 views 32 features (V2)", *with_views, v2, bodies(tensors), [], []),
        ]
        for contender in contenders:
            asyncio.run(ask(contender, 500, concurrency))
            contender.cpu_ms.clear()
            contender.latency_ms.clear()
        for number in range(rounds):
            sys.stderr.write(f"round {number + 1} of {rounds}\n")
            for contender in contenders:
                asyncio.run(ask(contender, requests, concurrency))
        return report(contenders)


def report(contenders: list[Contender]) -> dict[str, Any]:
    base = contenders[0]
    measurements = []
    for c in contenders:
        # a ratio within each round: what slows the machine down slows both sides of it
        ratio = statistics.median(mine / theirs for mine, theirs in zip(c.cpu_ms, base.cpu_ms, strict=True))
        ordered = sorted(c.latency_ms)
        for name, value, unit in (
            ("cpu per 1,000 requests", statistics.median(c.cpu_ms), "s"),
            ("ratio to the floor", ratio, "1"),
            ("latency p50", ordered[len(ordered) // 2], "ms"),
            ("latency p99", ordered[len(ordered) * 99 // 100], "ms"),
        ):
            measurements.append({"name": name, "contender": c.name, "value": round(value, 4), "unit": unit})
    full = next(c for c in contenders if "(V1)" in c.name and "6 views" in c.name)
    value = statistics.median(full.cpu_ms)
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }
    target = {
        "name": "cpu per request with features, ms",
        "value": round(value, 4),
        "target": 0.5,
        "op": "<=",
    }
    return {
        "bench": "runtime-overhead",
        "machine": machine,
        "measurements": measurements,
        "targets": [{**target, "holds": value <= 0.5}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000, help="requests of a contender in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = run(arguments.requests, arguments.rounds, arguments.concurrency)
    if arguments.json:
        print(json.dumps(result))
        return
    names = list(dict.fromkeys(m["contender"] for m in result["measurements"]))
    print(f"{'':36}{'CPU s per 1,000':>16}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}")
    for name in names:
        cpu, ratio, p50, p99 = (m["value"] for m in result["measurements"] if m["contender"] == name)
        print(f"{name:36}{cpu:16.3f}{ratio:8.2f}{p50:9.3f}{p99:9.3f}")


if __name__ == "__main__":
    main()
