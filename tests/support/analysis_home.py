"""A home with one version of the flights model, made of real flights: its bundle, its answers and what came of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from real_flights import Flights

from monitoring.collector.reading import StoredWindow
from monitoring.columns import Floats
from workloads.flights.workload import CARRIERS, ORIGINS

CATEGORIES = {"carrier": CARRIERS, "origin": ORIGINS}
SAMPLE_ROWS = 5000
SENT = ("sched_minute", "day_of_week", "distance", "sched_elapsed", "carrier", "origin")


def write_bundle(home: Path, flights: Flights, start: str, cut: str, end: str, version: str = "1") -> Path:
    """A bundle trained on the days from `start` to `cut` and judged on those from there to `end`."""
    folder = home / "models" / "flights" / version
    folder.mkdir(parents=True)
    known = np.isfinite(flights.labels)
    trained, judged = (flights.between(a, b) & known for a, b in ((start, cut), (cut, end)))
    described: dict[str, Any] = {}
    for i, name in enumerate(flights.names):
        if name in CATEGORIES:
            counts = np.bincount(flights.inputs[trained, i].astype(int), minlength=len(CATEGORIES[name]))
            frequencies = dict(zip(CATEGORIES[name], map(int, counts), strict=True))
            described[name] = {"kind": "categorical", "frequencies": frequencies}
        else:
            described[name] = {"kind": "numeric"}
    (folder / "reference.json").write_text(json.dumps({"inputs": described}))
    sample = np.flatnonzero(trained)
    sample = sample[np.arange(SAMPLE_ROWS) * len(sample) // SAMPLE_ROWS]
    for rows, name in ((sample, "reference.parquet"), (np.flatnonzero(judged), "evaluation.parquet")):
        frame = pd.DataFrame(flights.inputs[rows], columns=list(flights.names))
        frame["event_timestamp"] = pd.to_datetime(flights.at[rows], unit="s", utc=True).astype(
            "datetime64[us, UTC]"
        )
        frame["label"], frame["score"] = flights.labels[rows], flights.scores[rows]
        frame.to_parquet(folder / name, index=False)
    return folder


def answers(
    flights: Flights, chosen: np.ndarray[Any, Any], inputs: Floats | None = None, version: str = "1"
) -> StoredWindow:
    """The chosen flights as answers of a version."""
    rows = np.flatnonzero(chosen)
    seen = (flights.inputs if inputs is None else inputs)[rows]
    columns: dict[str, Any] = {}
    for name in SENT:
        values = flights.inputs[rows, flights.names.index(name)]
        if name in CATEGORIES:
            columns[f"request.{name}"] = np.array([CATEGORIES[name][int(v)] for v in values], dtype=object)
        else:
            columns[f"request.{name}"] = values
    for name in ("carrier", "origin"):
        columns[f"entity.{name}"] = columns[f"request.{name}"]
    for name in ("dest", "tailnum"):
        columns[f"entity.{name}"] = np.array(["X"] * len(rows), dtype=object)
    return StoredWindow(
        request_ids=tuple(f"r{i}" for i in rows),
        at=flights.at[rows],
        scores=flights.scores[rows],
        labels=flights.labels[rows],
        label_at=np.where(np.isfinite(flights.labels[rows]), flights.label_at[rows], np.nan),
        latency_ms=np.full(len(rows), 2.0),
        features=seen,
        versions=np.array([version] * len(rows), dtype=object),
        sources=np.array(["online"] * len(rows), dtype=object),
        inputs=flights.names,
        columns=columns,
    )


def write_logs(home: Path, rows: StoredWindow) -> None:
    """The answers and the labels in the logs that model servers and the collector of one machine write."""
    folder = home / "logs" / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"flights-{rows.versions[0]}.jsonl").open("a") as log:
        for i, request in enumerate(rows.request_ids):
            record = {
                "request_id": request, "model": "flights", "version": rows.versions[i], "at": rows.at[i],
                "entities": _values(rows, "entity.", i), "request": _values(rows, "request.", i),
                "features": [None if np.isnan(v) else v for v in rows.features[i]], "score": rows.scores[i],
                "latency_ms": rows.latency_ms[i], "source": rows.sources[i], "mirrored": False,
            }  # fmt: skip
            log.write(json.dumps(record) + "\n")
    with (home / "logs" / "feedback.jsonl").open("a") as log:
        for i in np.flatnonzero(np.isfinite(rows.labels)):
            label = {"request_id": rows.request_ids[i], "label": int(rows.labels[i]), "at": rows.label_at[i]}
            log.write(json.dumps(label) + "\n")


def _values(rows: StoredWindow, prefix: str, row: int) -> dict[str, Any]:
    found = {n.removeprefix(prefix): c[row] for n, c in rows.columns.items() if n.startswith(prefix)}
    return {n: v for n, v in found.items() if v is not None}
