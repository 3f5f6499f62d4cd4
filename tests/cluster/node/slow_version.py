"""Run in the training image: registers version N once more with a model that answers the same, and far too slowly.

python3 - MODEL VERSION < slow_version.py
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components import bundle, signing
from components.registry import Registry
from windlass import settings

SIZE = 512
#: Products of SIZE x SIZE matrices for each call: a hundred milliseconds or more on one core.
PRODUCTS = 40


def slowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same answers, after work that comes to nothing and that no optimizer sees through."""
    graph = model.graph
    last = graph.output[0].name
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == last:
                node.output[place] = "answer"
        for place, name in enumerate(node.input):
            if name == last:
                node.input[place] = "answer"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.eye(SIZE, dtype=np.float32), "eye"),
            numpy_helper.from_array(np.float32(0), "nothing"),
        ]
    )
    make = helper.make_node
    nodes = [
        # of the batch's shape, which is not known before the call
        make("Shape", [graph.input[0].name], ["shape"]),
        make("Cast", ["shape"], ["sizes"], to=TensorProto.FLOAT),
        make("ReduceMax", ["sizes"], ["size"], keepdims=0),
        make("Mul", ["size", "nothing"], ["zero"]),
        make("Add", ["eye", "zero"], ["m0"]),
    ]
    nodes += [make("MatMul", ["m0", f"m{n}"], [f"m{n + 1}"]) for n in range(PRODUCTS)]
    nodes += [
        make("ReduceMean", [f"m{PRODUCTS}"], ["mean"], keepdims=0),
        make("Mul", ["mean", "nothing"], ["added"]),
        make("Add", ["answer", "added"], [last]),
    ]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Register it, and print its version."""
    model, version = sys.argv[1:]
    configured = settings.load()
    made = Registry(configured).copy(model, version, {"state": "candidate"})
    place = configured.bundles_dir / model / made
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "bundle"
        shutil.copytree(place, source)
        (source / "model.sig").unlink()
        onnx.save(slowed(onnx.load(source / bundle.MODEL_FILE)), source / bundle.MODEL_FILE)
        document = json.loads((source / bundle.MANIFEST).read_text())
        document["sha256"][bundle.MODEL_FILE] = hashlib.sha256(
            (source / bundle.MODEL_FILE).read_bytes()
        ).hexdigest()
        (source / bundle.MANIFEST).write_text(json.dumps(document))
        shutil.rmtree(place)
        bundle.publish(configured.bundles_dir, model, made, source, signing.keys(configured))
    print(json.dumps({"version": made}))


if __name__ == "__main__":
    main()
