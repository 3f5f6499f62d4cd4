"""Models that went wrong: the artifact of a version, changed as a broken export or a broken disk would.

Where the change is to look like the exporter's own, the bundle gets its digests and its signature again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import atomic
from windlass.settings import Settings

if TYPE_CHECKING:
    import onnx

SIDE = 1100
"""Of the square matrix that a slow model multiplies by itself: 2.7 GFLOP a time."""


def flip(bundle: Path) -> str:
    """Turn one bit of the model file over, as a disk does; returns the file's name."""
    path = bundle / _file(bundle)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    atomic.write_bytes(path, bytes(content))
    return path.name


def slow(settings: Settings, bundle: Path, times: int) -> None:
    """Have every run multiply large matrices `times` times, to no effect on the score."""
    import numpy as np
    from onnx import helper, numpy_helper

    def nodes(given: str, score: str, out: str) -> tuple[list[Any], list[Any]]:
        made = [
            helper.make_node("ReduceMax", [given], ["drill_most"], keepdims=0),
            helper.make_node("Mul", ["drill_most", "drill_zero"], ["drill_nothing"]),
            # of the input, so that nobody computes it once and for all
            helper.make_node("Add", ["drill_ones", "drill_nothing"], ["drill_0"]),
        ]
        for i in range(times):
            made.append(helper.make_node("MatMul", [f"drill_{i}", "drill_ones"], [f"drill_{i + 1}"]))
        made += [
            helper.make_node("ReduceMean", [f"drill_{times}"], ["drill_mean"], keepdims=0),
            helper.make_node("Mul", ["drill_mean", "drill_zero"], ["drill_again"]),
            helper.make_node("Add", [score, "drill_again"], [out]),
        ]
        constants = {
            "drill_zero": np.float32(0),
            "drill_ones": np.full((SIDE, SIDE), 1 / SIDE, dtype=np.float32),
        }
        return made, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]

    _append(settings, bundle, nodes)


def failing(settings: Settings, bundle: Path) -> None:
    """Have every run of a real row look into a table at a place that it does not have: it loads, and cannot be run."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def nodes(given: str, score: str, out: str) -> tuple[list[Any], list[Any]]:
        made = [
            helper.make_node("ReduceMax", [given], ["drill_most"], keepdims=0),
            # false of the row of NaN that a server tries when it loads a model
            helper.make_node("Greater", ["drill_most", "drill_limit"], ["drill_real"]),
            helper.make_node("Cast", ["drill_real"], ["drill_index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["drill_table", "drill_index"], ["drill_found"], axis=0),
            helper.make_node("Add", [score, "drill_found"], [out]),
        ]
        constants = {"drill_limit": np.float32(5), "drill_table": np.zeros(1, dtype=np.float32)}
        return made, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]

    _append(settings, bundle, nodes)


def _append(settings: Settings, bundle: Path, nodes: Any) -> None:
    """Put nodes between the score and the output of the same name."""
    import onnx

    path = bundle / _file(bundle)
    model = onnx.load(path)
    output = _score(model)
    score = f"drill_{output}"
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = score
    made, constants = nodes(model.graph.input[0].name, score, output)
    model.graph.node.extend(made)
    model.graph.initializer.extend(constants)
    onnx.save(model, path)
    resign(settings, bundle, [path.name])


def resign(settings: Settings, bundle: Path, changed: Sequence[str]) -> None:
    """State the digests of changed files and sign the bundle, as the pipeline does."""
    from components import signing

    manifest = bundle / "serving.json"
    document = json.loads(manifest.read_text())
    for name in changed:
        document["sha256"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    atomic.write_text(manifest, json.dumps(document))
    (bundle / signing.SIGNATURE).unlink(missing_ok=True)
    signing.sign(bundle, signing.keys(settings))


def _file(bundle: Path) -> str:
    document = json.loads((bundle / "serving.json").read_text())
    named: str = next(f["file"] for f in document["forms"] if f["format"] == "onnx")
    return named


def _score(model: onnx.ModelProto) -> str:
    """The output of numbers; a classifier's other one holds labels."""
    from onnx import TensorProto

    found: str = next(
        o.name
        for o in model.graph.output
        if o.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    )
    return found
