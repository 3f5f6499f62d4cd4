"""The model that all contenders serve, and the rows that they are asked for: trained on the spot, always the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.serving.contenders.classifier import NAME
from components import export
from components.estimator import Fitted

if TYPE_CHECKING:
    pass

FEATURES = 30
TREES = 100
DEPTH = 6
ROWS = 512
TRAINING_ROWS = 20_000
SLOW_S = 0.001


@dataclass(frozen=True)
class Subject:
    """A model on disk.

    Attributes:
        onnx: float32 [N, 30] in, float32 [N] out.
        bundle: the same model as our runtime takes it.
        rows: .npy of float32 [512, 30].
        scores: of the rows, by XGBoost itself.
        row_us: median time of one row in this process, in microseconds.
    """

    onnx: Path
    bundle: Path
    rows: Path
    scores: list[float]
    row_us: float


def make(folder: Path) -> Subject:
    """Train, export and write everything into `folder`."""
    import numpy as np
    import onnx
    import xgboost

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(TRAINING_ROWS, FEATURES)).astype(np.float32)
    labels = (rows[:, 0] * rows[:, 1] + np.sin(3 * rows[:, 2]) + rng.normal(size=TRAINING_ROWS) > 0).astype(
        int
    )
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": DEPTH, "nthread": 1, "seed": 0},
        xgboost.DMatrix(rows, label=labels),
        num_boost_round=TREES,
    )
    asked = np.round(rows[:ROWS], 6)
    model = folder / "model.onnx"
    onnx.save(export.export(Fitted("xgboost", {}, booster), FEATURES), str(model))
    np.save(folder / "rows.npy", asked)
    scores = booster.predict(xgboost.DMatrix(asked)).tolist()
    row_us = export.single_row_ms(export.load(model), asked) * 1000
    return Subject(model, write_bundle(folder / "bundle", model), folder / "rows.npy", scores, row_us)


def slowed(subject: Subject, folder: Path) -> Subject:
    """The same model with its trees many times over, each copy's leaves so much smaller: the same scores, slowly.

    One row costs a millisecond or more then; a row of a batch costs less, since each tree is fetched once for all.
    """
    import numpy as np
    import onnx

    rows = np.load(subject.rows)
    copies = 1
    model = folder / "model.onnx"
    row_us = subject.row_us
    while row_us < SLOW_S * 1e6:
        copies = max(copies * 2, int(copies * 1.2 * SLOW_S * 1e6 / row_us))
        onnx.save(repeated(onnx.load(str(subject.onnx)), copies), str(model))
        row_us = export.single_row_ms(export.load(model), rows) * 1000
    return replace(subject, onnx=model, bundle=write_bundle(folder / "bundle", model), row_us=row_us)


def repeated(model: Any, copies: int) -> Any:
    """`model` with its tree ensemble `copies` times over, leaf weights divided by as much."""
    import numpy as np

    (ensemble,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    for attribute in ensemble.attribute:
        values = attribute.floats or attribute.ints or attribute.strings
        name = attribute.name
        if not name.startswith(("nodes_", "target_")):
            continue
        times = list(values) * copies
        if name.endswith("treeids"):
            trees = max(values) + 1
            times = (np.tile(values, copies) + np.repeat(np.arange(copies) * trees, len(values))).tolist()
        elif name == "target_weights":
            times = (np.tile(values, copies) / copies).tolist()
        del values[:]
        values.extend(times)
    return model


def write_bundle(folder: Path, model: Path, **stated: Any) -> Path:
    """Write the serving bundle of a model, without views unless they are stated; returns its folder."""
    folder.mkdir(parents=True)
    content = model.read_bytes()
    (folder / "model.onnx").write_bytes(content)
    document = {
        "format_version": 1,
        "model": NAME,
        "version": "1",
        "model_file": "model.onnx",
        "model_format": "onnx",
        "sha256": {"model.onnx": hashlib.sha256(content).hexdigest()},
        "inputs": [{"name": f"f{i}", "view": None, "default": None} for i in range(FEATURES)],
        "output": "probability",
        "feature_service": "none",
        "feast_project": "none",
        "entities": [],
        "views": [],
        **stated,
    }
    (folder / "serving.json").write_text(json.dumps(document))
    return folder
