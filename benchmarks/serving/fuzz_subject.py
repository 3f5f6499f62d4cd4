"""The models that are fuzzed, what they must answer, and the server that serves them.

Each is a formula that numpy states in a line, so that a mutation which leaves a request valid is held to its scores
and not only to its status. Inputs are clipped inside the models: no finite number makes them overflow.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sqlite3
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.release.envoy_process import free_port
from serving.runtime.features import entity_key
from windlass.local import processes

FEATURES, REQUIRED = 30, 5
"""Inputs of the plain model, and how many of them, the first ones, may not be missing."""
CLASSES = ("low", "middle", "high")
CLASS_FEATURES = 6
LABELS = {"a": 1.0, "b": 2.0}
OTHER_LABEL = -1.0
CARRIERS = {"AA": 11.5, "UA": 4.0}
SEATS = {7: 100.0, -(1 << 40): 3.0}
DESTINATIONS = ("ATL", "BOS", "JFK")
LIMIT = 1000.0
"""The models take anything beyond it for this much."""

Rows = NDArray[np.float32]


def weights_of(rows: int, columns: int) -> Rows:
    """Weights that nothing else looks like."""
    return np.random.default_rng(rows * columns).normal(size=(rows, columns)).astype(np.float32) * np.float32(
        0.1
    )


def plain_scores(rows: Rows) -> list[float]:
    """What the plain model answers: a missing value counts as nothing."""
    filled = np.clip(np.nan_to_num(rows, nan=0.0), -LIMIT, LIMIT)
    logit = (filled.astype(np.float64) @ weights_of(rows.shape[1], 1)).reshape(-1)
    return [float(score) for score in 1 / (1 + np.exp(-logit))]


def class_scores(rows: Rows) -> list[float]:
    """What the classifier answers, row after row."""
    logits = np.clip(np.nan_to_num(rows, nan=0.0), -LIMIT, LIMIT).astype(np.float64) @ weights_of(
        CLASS_FEATURES, len(CLASSES)
    )
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return [float(p) for p in (raised / raised.sum(axis=1, keepdims=True)).reshape(-1)]


def keyed_scores(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the model with entity keys answers for valid rows."""
    vectors = []
    for row in rows:
        hour, distance = row["hour"], row.get("distance", 9.0)
        destination = row.get("dest", DESTINATIONS[0])
        position = DESTINATIONS.index(destination) if destination in DESTINATIONS else np.nan
        vector = [
            CARRIERS.get(row["carrier"], np.nan),
            SEATS.get(row["seat"], np.nan),
            hour,
            distance,
            position,
        ]
        vectors.append([np.nan if value is None else value for value in vector])
    return plain_scores(np.array(vectors, dtype=np.float32))


def tensor_totals(
    image: Rows, counts: NDArray[np.int32], labels: Sequence[str], flags: Sequence[bool]
) -> list[float]:
    """The first output of the model of tensors."""
    known = [LABELS.get(label, OTHER_LABEL) for label in labels]
    totals = (
        np.clip(image, -LIMIT, LIMIT).sum(axis=(1, 2))
        + counts.sum(axis=1)
        + np.array(known)
        + np.array(flags)
    )
    return [float(total) for total in totals]


def write(folder: Path) -> tuple[list[Path], Path]:
    """Write the bundles and the online store; returns them."""
    sent = [{"name": f"f{i}", "view": None, "missing": i >= REQUIRED} for i in range(FEATURES)]
    logistic = rows_model(weights_of(FEATURES, 1), "Sigmoid", "probability")
    views = [
        {"name": "carrier_delays", "entity": "carrier", "ttl_seconds": 0, "features": ["delay"]},
        {"name": "seat_prices", "entity": "seat", "ttl_seconds": 0, "features": ["price"]},
    ]
    keyed = {
        "entities": ["carrier", "seat"],
        "entity_types": {"carrier": "string", "seat": "int64"},
        "views": views,
        "inputs": [
            {"name": "delay", "view": "carrier_delays", "default": 3.1},
            {"name": "price", "view": "seat_prices", "default": 10.0},
            {"name": "hour", "view": None, "missing": False},
            {"name": "distance", "view": None, "default": 9.0},
            {"name": "dest", "view": None, "categories": list(DESTINATIONS), "default": DESTINATIONS[0]},
        ],
    }
    classes = {
        "inputs": [{"name": f"c{i}", "view": None} for i in range(CLASS_FEATURES)],
        "classes": list(CLASSES),
    }
    many = rows_model(weights_of(CLASS_FEATURES, len(CLASSES)), "Softmax", "probabilities")
    bundles = [
        write_bundle(folder / "plain-1", "plain", "1", logistic, inputs=sent),
        write_bundle(folder / "plain-2", "plain", "2", logistic, inputs=sent),
        write_bundle(
            folder / "keyed", "keyed", "1", rows_model(weights_of(5, 1), "Sigmoid", "probability"), **keyed
        ),
        write_bundle(folder / "tensors", "tensors", "1", _tensors_model(), tensors=TENSORS),
        write_bundle(folder / "classes", "classes", "1", many, **classes, output="probabilities"),
    ]
    store = folder / "online.db"
    with sqlite3.connect(store) as connection:
        for view, feature, entity, kind, values in (
            ("carrier_delays", "delay", "carrier", "string", CARRIERS),
            ("seat_prices", "price", "seat", "int64", SEATS),
        ):
            connection.execute(
                f"CREATE TABLE fuzz_{view} (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, "
                "vector_value BLOB, event_ts timestamp, created_ts timestamp)"
            )
            for key, value in values.items():
                row = (
                    entity_key.serialize([(entity, kind, str(key))]),
                    feature,
                    b"\x29" + struct.pack("<d", value),
                )
                connection.execute(
                    f"INSERT INTO fuzz_{view} (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?)",  # noqa: S608
                    (*row, int(time.time())),
                )
    connection.close()
    return bundles, store


def write_bundle(folder: Path, model: str, version: str, content: bytes, **stated: Any) -> Path:
    """Write a bundle of one ONNX model; any key of its document may be stated, and None leaves it out."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    document = {
        "format_version": 1,
        "model": model,
        "version": version,
        "model_file": "model.onnx",
        "model_format": "onnx",
        "sha256": {"model.onnx": hashlib.sha256(content).hexdigest()},
        "feature_service": "fuzz_v1",
        "feast_project": "fuzz",
        "entities": [],
        "views": [],
        **stated,
    }
    if "tensors" not in stated:
        document.setdefault("output", "probability")
    (folder / "serving.json").write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return folder


def rows_model(weights: Rows, link: str, output: str) -> bytes:
    """An ONNX model of rows, float32 [N, len(weights)]: weighted, a missing one as nothing, and a link function."""
    from onnx import TensorProto, helper, numpy_helper

    single = weights.shape[1] == 1
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("Clip", ["filled", "least", "most"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "weights"], ["logit"]),
        helper.make_node(link, ["logit"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], [output]),
    ]
    constants = {
        "zero": np.float32(0),
        "least": np.float32(-LIMIT),
        "most": np.float32(LIMIT),
        "weights": weights,
        "flat": np.array([-1] if single else [-1, weights.shape[1]], dtype=np.int64),
    }
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(weights)])
    shape = ["N"] if single else ["N", weights.shape[1]]
    given = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "rows", [taken], [given], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@dataclass
class Target:
    """A running server; `grpc_port` is None where it does not speak gRPC."""

    child: processes.Child
    port: int
    grpc_port: int | None


def start(
    folder: Path, bundles: Sequence[Path], *options: str, environment: Mapping[str, str] | None = None
) -> Target:
    """Start a server of `bundles` and wait until it is ready.

    Raises:
        WindlassError: it ended, or did not get ready in time.
    """
    port, grpc_port = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "serving.runtime",
        "--port",
        str(port),
        "--grpc-port",
        str(grpc_port),
        *options,
    ]
    for bundle in bundles:
        command += ["--bundle", str(bundle)]
    child = processes.start("server", command, folder / "server.log", environment)
    processes.wait_ready(child, f"http://127.0.0.1:{port}/v2/health/ready")
    with socket.socket() as probe:
        speaks_grpc = probe.connect_ex(("127.0.0.1", grpc_port)) == 0
    return Target(child, port, grpc_port if speaks_grpc else None)


TENSORS = {
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]},
        {"name": "counts", "datatype": "INT32", "shape": [-1, 2]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
    ],
    "outputs": [
        {"name": "total", "datatype": "FP32", "shape": [-1]},
        {"name": "wide", "datatype": "INT64", "shape": [-1, 2]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ],
}


def _tensors_model() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Clip", ["image", "least", "most"], ["clipped"]),
        helper.make_node("ReduceSum", ["clipped", "pixels"], ["bright"], keepdims=0),
        helper.make_node("Cast", ["counts"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Cast", ["counts"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "columns"], ["many"], keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["label"],
            ["known"],
            domain="ai.onnx.ml",
            keys_strings=list(LABELS),
            values_floats=list(LABELS.values()),
            default_float=OTHER_LABEL,
        ),
        helper.make_node("Identity", ["label"], ["text"]),
        helper.make_node("Cast", ["flag"], ["raised"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["bright", "many", "known", "raised"], ["total"]),
    ]
    kinds = {
        "FP32": TensorProto.FLOAT,
        "INT32": TensorProto.INT32,
        "INT64": TensorProto.INT64,
        "BYTES": TensorProto.STRING,
        "BOOL": TensorProto.BOOL,
    }
    described = {
        side: [
            helper.make_tensor_value_info(
                str(t["name"]), kinds[str(t["datatype"])], ["N", *list(t["shape"])[1:]]
            )
            for t in TENSORS[side]
        ]
        for side in ("inputs", "outputs")
    }
    constants = {
        "least": np.float32(-LIMIT),
        "most": np.float32(LIMIT),
        "pixels": np.array([1, 2], dtype=np.int64),
        "columns": np.array([1], dtype=np.int64),
    }
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "tensors", described["inputs"], described["outputs"], initial)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
