"""Bundles around real models, written by hand: what an engine is given, and nothing of the exporter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

WIDTH = 4

MakeBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float32]:
    """Rows of four features, some of them missing."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(400, WIDTH)).astype(np.float32)
    made[rng.random(made.shape) < 0.1] = np.nan
    return made


@pytest.fixture(scope="session")
def labels(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """0, 1 or 2."""
    score = np.nan_to_num(rows[:, 0]) + 0.5 * np.nan_to_num(rows[:, 1])
    return np.digitize(score, [-0.4, 0.4])


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Write a bundle: `files` by name, and a document whose fields the other arguments replace (None removes)."""

    def make(files: Mapping[str, bytes], form: str = "onnx", *, at: str = "bundle", **fields: Any) -> Path:
        folder = tmp_path / at
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        folder.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {
            "format_version": 1,
            "model": "m",
            "version": "7",
            "model_file": next(iter(files), None),
            "model_format": form,
            "sha256": {n: hashlib.sha256(c).hexdigest() for n, c in files.items()},
            "entities": [],
            "views": [],
            "feast_project": "windlass",
            "inputs": [{"name": f"f{i}", "view": None} for i in range(WIDTH)],
            "output": "probability",
        }
        document |= fields
        text = json.dumps({k: v for k, v in document.items() if v is not None})
        (folder / "serving.json").write_text(text)
        return folder

    return make


def constant_model(value: float, width: int = WIDTH, output: str = "probability") -> bytes:
    """An ONNX model that answers `value` plus the sum of its features, missing ones as zero."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"zero": np.zeros(1, np.float32), "value": np.array([value], np.float32)}
    nodes = [
        helper.make_node("IsNaN", ["features"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "features"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "axis"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "value"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(v, k) for k, v in {**constants, "axis": np.array([1])}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def model_of() -> Callable[..., bytes]:
    return constant_model
