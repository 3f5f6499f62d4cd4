"""The models that are fuzzed, what they must answer, and the server that serves them.

Each is a formula that numpy states in a line, so that a mutation which leaves a request valid is held to its scores
and not only to its status.
"""

from __future__ import annotations

import hashlib
import json
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

from benchmarks.serving.fuzz_models import (
    LABELS,
    LIMIT,
    OTHER_LABEL,
    TENSORS,
    Rows,
    rows_model,
    tensors_model,
)
from serving.release.envoy.process import free_port
from serving.runtime.features import entity_key
from windlass.local import processes

FEATURES, REQUIRED = 30, 5
"""Inputs of the plain model, and how many of them, the first ones, may not be missing."""
CLASSES = ("low", "middle", "high")
CLASS_FEATURES = 6
CARRIERS = {"AA": 11.5, "UA": 4.0}
SEATS = {7: 100.0, -(1 << 40): 3.0}
DESTINATIONS = ("ATL", "BOS", "JFK")
TOKEN = "fuzz"  # noqa: S105 - opens a server that lives for minutes
DAMAGED = "damaged"
"""A model of the repository whose file is not the one that was registered."""


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
        write_bundle(folder / "tensors", "tensors", "1", tensors_model(), tensors=TENSORS),
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
                    f"INSERT INTO fuzz_{view} (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?)",  # noqa: S608 - our own names
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


@dataclass
class Target:
    """A running server."""

    child: processes.Child
    port: int
    grpc_port: int


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
    return Target(child, port, grpc_port)


def start_all(folder: Path) -> Target:
    """Start a server of every model here, with a store, a log, and a repository that holds a damaged bundle.

    Raises:
        WindlassError: it ended, or did not get ready in time.
    """
    bundles, store = write(folder)
    model = rows_model(weights_of(FEATURES, 1), "Sigmoid", "probability")
    inputs = [{"name": f"f{i}", "view": None} for i in range(FEATURES)]
    damaged = write_bundle(folder / "repository" / DAMAGED / "1", DAMAGED, "1", model, inputs=inputs)
    (damaged / "model.onnx").write_bytes(model[:-1])
    options = ["--online", f"sqlite:{store}", "--log", str(folder / "predictions.jsonl")]
    options += ["--repository", str(folder / "repository")]
    return start(folder, bundles, *options, environment={"WINDLASS_REPOSITORY_TOKEN": TOKEN})
