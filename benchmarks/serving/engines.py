"""One row in process: the exported form against the scikit-learn API of the library that trained the model.

Each model has 200 trees over 30 features. It is logged by MLflow and exported as `windlass export` does, and then the
form that the server picks and the library's `predict_proba` answer the same rows in turns, round by round, on one
thread. Only ratios of one run mean anything.

    python benchmarks/serving/engines.py [--rounds N] [--rows N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# before anything loads an OpenMP runtime: the libraries run on one thread as the export does
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import psutil

from components import logged_model
from components.export import subject, writing
from serving.runtime import bundle
from serving.runtime.engines.opening import open_engine

FEATURES = 30
TREES = 200
TARGET = 10.0


def hist_gradient_boosting() -> tuple[str, Any, dict[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return "sklearn", HistGradientBoostingClassifier(max_iter=TREES), {"serialization_format": "cloudpickle"}


def xgboost() -> tuple[str, Any, dict[str, Any]]:
    from xgboost import XGBClassifier

    return "xgboost", XGBClassifier(n_estimators=TREES, n_jobs=1), {}


def lightgbm() -> tuple[str, Any, dict[str, Any]]:
    from lightgbm import LGBMClassifier

    return "lightgbm", LGBMClassifier(n_estimators=TREES, n_jobs=1, verbose=-1), {}


MODELS = {"HistGradientBoosting": hist_gradient_boosting, "XGBoost": xgboost, "LightGBM": lightgbm}


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, FEATURES)).astype(np.float32)
    labels = rows[:, :5].sum(axis=1) + rng.normal(size=len(rows)) > 0
    rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows, labels.astype(int)


def export(
    make: Callable[[], tuple[str, Any, dict[str, Any]]], rows: Any, labels: Any, place: Path
) -> tuple[Any, Any]:
    """Train, log and export a model; returns it and what the server opens."""
    import importlib

    flavor, model, arguments = make()
    model.fit(rows, labels)
    importlib.import_module(f"mlflow.{flavor}").save_model(
        model, str(place / "logged"), pip_requirements=["numpy"], **arguments
    )
    exported = subject.of_logged(logged_model.read(place / "logged"), None)
    writing.export(exported, "bench", "1", (rows[:2000],), place / "bundle", int8=False)
    return model, open_engine(bundle.load(place / "bundle"))


def timed(call: Callable[[Any], Any], singles: list[Any]) -> float:
    """Median microseconds of a call."""
    times = []
    for single in singles:
        started = time.perf_counter()
        call(single)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def run(rounds: int, count: int) -> dict[str, Any]:
    """Measure all models; returns the object that `windlass bench` prints."""
    rows, labels = data()
    singles = [np.ascontiguousarray(rows[i][None]) for i in range(count)]
    asked = [[single] for single in singles]
    measurements, targets = [], []
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as place:
            model, opened = export(make, rows, labels, Path(place))
            timed(model.predict_proba, singles[:20])
            pairs = [
                (timed(opened.engine.run, asked), timed(model.predict_proba, singles)) for _ in range(rounds)
            ]
        # a ratio within each round: what slows the machine down slows both sides of it
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        for label, value, unit in (
            (f"export ({opened.form.format})", statistics.median(o for o, _ in pairs), "us"),
            ("predict_proba of the scikit-learn API", statistics.median(t for _, t in pairs), "us"),
            ("ratio", ratio, "1"),
        ):
            measurements.append({"name": label, "contender": name, "value": round(value, 2), "unit": unit})
        targets.append(
            {
                "name": f"{name}: times as fast as predict_proba, one row",
                "value": round(ratio, 2),
                "target": TARGET,
                "op": ">=",
                "holds": ratio >= TARGET,
            }
        )
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }
    return {"bench": "engines", "machine": machine, "measurements": measurements, "targets": targets}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200, help="rows of a contender in a round, one at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    result = run(arguments.rounds, arguments.rows)
    if arguments.json:
        print(json.dumps(result))
        return
    for m in result["measurements"]:
        print(f"{m['contender']:24}{m['name']:40}{m['value']:10.2f} {m['unit']}")


if __name__ == "__main__":
    main()
