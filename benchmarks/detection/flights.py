"""The rows that detection is held to: the flights model's inputs, labels, and scores of models that never saw them.

Computed once and kept under --cache. Features are joined as of the time of each prediction, as training joins them;
scores are cross-fitted by weeks, so that a week is never scored by a model that was trained on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.columns import Floats
from windlass import atomic, catalog
from windlass.contract import Workload

DAY_S = 86400
WARM_DAYS = 28
"""The first days of the data: the four-week histories are still filling up."""
FOLDS = 4
MODEL = {"max_iter": 60, "learning_rate": 0.12, "max_leaf_nodes": 31, "min_samples_leaf": 100}


@dataclass(frozen=True, eq=False)
class Flights:
    """One row a flight, in the order of its prediction.

    Attributes:
        at: epoch seconds of the prediction.
        labels: late or not; NaN where it never landed.
        categories: categorical column -> number of its categories.
    """

    names: tuple[str, ...]
    categories: dict[str, int]
    at: Floats
    features: Floats
    labels: Floats
    scores: Floats


def load(cache: Path, project: Path) -> Flights:
    """Read the rows from the cache, or compute them."""
    workload = catalog.load("flights", project)
    key = hashlib.sha256(
        json.dumps([workload.model_inputs, WARM_DAYS, FOLDS, MODEL, 1]).encode()
    ).hexdigest()[:12]
    path = cache / f"detection-flights-{key}.npz"
    categories = {f.name: len(f.categories) for f in workload.request_fields if f.categories}
    if not path.is_file():
        arrays = _compute(workload)
        with atomic.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(path) as kept:
        return Flights(
            names=workload.model_inputs,
            categories=categories,
            at=kept["at"],
            features=kept["features"].astype(np.float64),
            labels=kept["labels"],
            scores=kept["scores"],
        )


def _compute(workload: Workload) -> dict[str, Any]:
    import pandas as pd

    frame = workload.prepare(workload.source.load(None))
    frame = frame.sort_values("event_timestamp", kind="stable").reset_index(drop=True)
    columns: dict[str, Floats] = {}
    for view in workload.views:
        known = view.compute(frame).sort_values("event_timestamp", kind="stable")
        known["event_timestamp"] = known["event_timestamp"].astype(frame["event_timestamp"].dtype)
        known[view.entity] = known[view.entity].astype(str)
        asked = frame[[view.entity, "event_timestamp"]].astype({view.entity: str})
        joined = pd.merge_asof(
            asked, known, on="event_timestamp", by=view.entity, tolerance=pd.Timedelta(view.ttl)
        )
        columns |= {n: joined[n].to_numpy(dtype=np.float64) for n in view.features}
    for field in workload.request_fields:
        values = frame[field.name]
        if field.categories:
            values = values.map({c: float(i) for i, c in enumerate(field.categories)})
        columns[field.name] = values.to_numpy(dtype=np.float64)
    features = np.column_stack([columns[n] for n in workload.model_inputs]).astype(np.float32)
    at = frame["event_timestamp"].to_numpy(dtype="datetime64[s]").astype(np.int64).astype(np.float64)
    labels = frame[workload.label.column].to_numpy(dtype=np.float64)
    kept = at // DAY_S >= at.min() // DAY_S + WARM_DAYS
    features, at, labels = features[kept], at[kept], labels[kept]
    return {"features": features, "at": at, "labels": labels, "scores": _scores(features, labels, at)}


def _scores(features: Any, labels: Floats, at: Floats) -> Floats:
    from sklearn.ensemble import HistGradientBoostingClassifier

    fold = at // DAY_S // 7 % FOLDS
    scores = np.full(len(labels), np.nan)
    for k in range(FOLDS):
        train = (fold != k) & np.isfinite(labels)
        model = HistGradientBoostingClassifier(**MODEL, random_state=0)
        model.fit(features[train], labels[train])
        scores[fold == k] = model.predict_proba(features[fold == k])[:, 1]
    return scores
