"""Search, the final fit on all training rows, and the export: the body of the tuning step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from components import cache, dataset, estimator, export, search
from components.dataset import TrainingSet
from components.estimator import Fitted
from components.search import Trial
from components.validate import EVENT_TIMESTAMP, LABEL
from windlass.contract import Workload

PARITY_ROWS = 20_000
BEST = "best.json"
SERVED = ("native.skops", "native.ubj")
"""The libraries' own files that a server can run."""


def train(
    workload: Workload,
    training_set: TrainingSet,
    folder: Path,
    *,
    studies: Path,
    key: str,
    trials: int,
    seed: int,
    threads: int,
    progress: Callable[[str], None],
) -> None:
    """Write `model.onnx`, the library's own model, `model.json` and the export's report into `folder`.

    Args:
        studies: folder of the workload's studies; `best.json` there is where the next search starts.
        key: names the study, so that a search that was killed goes on.
    """
    import numpy as np
    import onnx

    old = (training_set.rows[EVENT_TIMESTAMP] < training_set.evaluation_start).to_numpy()
    inputs = training_set.inputs[old]
    labels = training_set.rows[LABEL].to_numpy(dtype=np.float64)[old]
    categories = dataset.category_counts(workload)
    found = search.search(
        search.split_by_time(inputs, labels, seed=seed),
        workload.estimators,
        categories=categories,
        trials=trials,
        seed=seed,
        threads=threads,
        journal=studies / f"{key}.journal",
        start=_last_best(studies),
        progress=progress,
    )
    best = found.best
    model = estimator.fit(
        best.family, best.parameters, inputs, labels, categories=categories, seed=seed, threads=threads
    )
    onnx.save(export.export(model, inputs.shape[1]), folder / "model.onnx")
    native = _keep_native(model, folder)
    # the newest rows: they hold the evaluation window, which the model has not seen
    report = export.check_parity(
        model,
        folder / "model.onnx",
        training_set.inputs[-PARITY_ROWS:],
        folder / native if native in SERVED else None,
    )
    chosen = {"family": best.family, "parameters": dict(best.parameters), "auc": best.auc}
    cache.write_json(
        folder / "model.json",
        {
            **chosen,
            "training_rows": len(labels),
            "native": native,
            "trials": [asdict(t) for t in found.trials],
            "seed": seed,
        },
    )
    cache.write_json(folder / cache.REPORT, asdict(report))
    cache.write_json(studies / BEST, chosen)


def _last_best(studies: Path) -> list[Trial]:
    path = studies / BEST
    if not path.is_file():
        return []
    best = cache.read_json(path)
    return [Trial(best["family"], best["parameters"], best["auc"])]


def _keep_native(model: Fitted, folder: Path) -> str:
    """Keep the library's own model beside the export; return the file's name."""
    if model.family == "xgboost":
        model.native.save_model(folder / "native.ubj")
        return "native.ubj"
    if model.family == "linear":
        cache.write_json(folder / "native.json", asdict(model.native))
        return "native.json"
    import skops.io  # type: ignore[import-untyped]

    skops.io.dump(model.native, folder / "native.skops")
    return "native.skops"
