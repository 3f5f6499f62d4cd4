"""Serving bundles of real models, written by hand as docs/serving-bundle.md says, and what their models answer."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.features import entity_key

NOW = 1_360_000_000.0
DAY = 86_400
PROJECT = "windlass"
STORED = {"delay_1h": 11.5, "late_share": 0.4}
"""Of the carrier "UA"; the store holds no other."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, rows to ask its model for, and the scores that the model's own library gives them."""

    folder: Path
    rows: NDArray[np.float32]
    scores: list[float]


def plain(folder: Path, model: str = "tumours", version: str = "1") -> Bundle:
    """A classifier of 30 sent numbers, by XGBoost on scikit-learn's breast cancer data."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    rows = data.data.astype(np.float32)
    inputs = [{"name": f"f{i}", "view": None, "default": None} for i in range(rows.shape[1])]
    return _of_xgboost(folder, rows, data.target, model=model, version=version, inputs=inputs)


def with_features(folder: Path) -> Bundle:
    """A classifier of two features of the online store, a sent number and a sent category.

    Its rows are for the carrier "UA": what the store holds of it, then the two sent values.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 4)).astype(np.float32)
    labels = (rows[:, 0] + rows[:, 2] > 0).astype(int)
    rows[:50, :2] = list(STORED.values())
    rows[:50, 3] = rng.integers(0, 2, 50)
    return _of_xgboost(
        folder,
        rows,
        labels,
        model="flights",
        version="3",
        entities=["carrier"],
        views=[{"name": "delays", "entity": "carrier", "ttl_seconds": DAY, "features": list(STORED)}],
        inputs=[
            *({"name": name, "view": "delays", "default": 1.0} for name in STORED),
            {"name": "distance", "view": None, "default": 900.0},
            {"name": "origin", "view": None, "categories": ["JFK", "LGA"], "default": None},
        ],
    )


def tensors(folder: Path) -> Path:
    """A model of three named tensors: text comes back, counts one higher, doubles halved."""
    from onnx import TensorProto, checker, helper, numpy_helper

    kinds = {"text": TensorProto.STRING, "count": TensorProto.INT64, "amount": TensorProto.DOUBLE}
    nodes = [
        helper.make_node("Identity", ["text"], ["text_out"]),
        helper.make_node("Add", ["count", "one"], ["count_out"]),
        helper.make_node("Mul", ["amount", "half"], ["amount_out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tensors",
        [helper.make_tensor_value_info(n, k, ["N", 2]) for n, k in kinds.items()],
        [helper.make_tensor_value_info(f"{n}_out", k, ["N", 2]) for n, k in kinds.items()],
        [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.array([0.5]), "half"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    datatypes = {"text": "BYTES", "count": "INT64", "amount": "FP64"}
    specs = [{"name": n, "datatype": d, "shape": [-1, 2]} for n, d in datatypes.items()]
    document = {
        "model": "kinds",
        "version": "1",
        "model_file": "model.onnx",
        "model_format": "onnx",
        "tensors": {"inputs": specs, "outputs": [{**s, "name": f"{s['name']}_out"} for s in specs]},
    }
    _write(folder, document, "model.onnx", bytes(model.SerializeToString()))
    return folder


def write_store(path: Path) -> None:
    """Write `STORED` at `NOW` into a store in Feast's sqlite layout (another test holds our reader to Feast's own)."""
    # sqlite's adapter takes the naive UTC time that Feast gives it for a local one
    at = int(datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None).timestamp())
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            f"CREATE TABLE {PROJECT}_delays (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, "
            "vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
        key = entity_key.serialize([("carrier", "string", "UA")])
        connection.executemany(
            f"INSERT INTO {PROJECT}_delays (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?)",  # noqa: S608 - our own names
            [(key, name, b"\x29" + struct.pack("<d", value), at) for name, value in STORED.items()],
        )
    connection.close()


def _of_xgboost(
    folder: Path, rows: NDArray[np.float32], labels: Any, *, inputs: Sequence[dict[str, Any]], **changes: Any
) -> Bundle:
    import xgboost

    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 0},
        xgboost.DMatrix(rows, label=labels),
        num_boost_round=20,
    )
    document = {
        "model_file": "model.ubj",
        "model_format": "xgboost",
        "output": "probability",
        "inputs": inputs,
        "entities": [],
        "views": [],
        "feature_service": f"{changes['model']}_v1",
        "feast_project": PROJECT,
        **changes,
    }
    _write(folder, document, "model.ubj", bytes(booster.save_raw("ubj")))
    asked = rows[:50]
    return Bundle(folder, asked, booster.predict(xgboost.DMatrix(asked)).tolist())


def _write(folder: Path, document: dict[str, Any], file: str, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)
    digests = {file: hashlib.sha256(content).hexdigest()}
    (folder / "serving.json").write_text(json.dumps({"format_version": 1, "sha256": digests, **document}))
