"""What the logs on this machine say about a model: joined predictions, windows, and the report's series from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from monitoring import drift, labels, performance, predictions
from monitoring.analysis import store
from monitoring.joined import Joined, Window
from monitoring.reference import Reference
from monitoring.report.values import thinned
from monitoring.retrain.journal import path as trigger_path
from windlass.errors import WindlassError
from windlass.journal import read as read_journal
from windlass.settings import Settings

LATENCY_EDGES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)


def load(settings: Settings) -> Joined:
    """Read all predictions and labels that were logged."""
    joined = Joined()
    joined.add_predictions(predictions.PredictionTail(predictions.folder(settings)).poll())
    joined.add_labels(labels.LabelTail(labels.path(settings)).poll())
    return joined


def newest_version(joined: Joined, model: str) -> str:
    """The version that answered last.

    Raises:
        WindlassError: nothing was predicted.
    """
    newest: dict[str, float] = {}
    for version in joined.versions(model):
        window = joined.window(model, versions=[version])
        if len(window):
            newest[version] = float(window.at.max())
    if not newest:
        raise WindlassError(
            f"no prediction of {model} was logged; `windlass up` serves it and `windlass predict {model} …` asks it"
        )
    return max(newest, key=lambda v: newest[v])


def months(joined: Joined, model: str) -> list[dict[str, Any]]:
    """Rows, rate of positives and AUC of the live answers by calendar month (UTC)."""
    everything = joined.window(model)
    names = np.array([f"{_moment(at):%Y-%m}" for at in everything.at])
    found: list[dict[str, Any]] = []
    for name in sorted(set(names.tolist())):
        chosen = (names == name) & ~np.isnan(everything.labels)
        measured = performance.measure(everything.labels[chosen], everything.scores[chosen])
        found.append(
            {
                "month": name,
                "rows": measured.n,
                "late_rate": _or_none(measured.label_mean),
                "auc_live": _or_none(measured.auc),
                "auc_frozen": None,
                "auc_control": None,
            }
        )
    return found


def drift_series(
    joined: Joined, model: str, reference: Reference, version: str, step: timedelta
) -> list[dict[str, Any]]:
    """Drift of each feature in windows of twice `step`, one every `step`, of what `version` answered."""
    found: list[dict[str, Any]] = []
    for since, until in _windows(joined.window(model, versions=[version]), step):
        window = joined.window(model, since=since, until=until, versions=[version])
        if window.features.shape[1:] != (len(reference.features),):
            continue
        for feature in drift.measure(reference, window.features, window.scores).features:
            if feature.value is not None:
                at = _moment(until).isoformat()
                found.append(
                    {
                        "at": at,
                        "feature": feature.feature,
                        "score": feature.value,
                        "threshold": feature.threshold,
                    }
                )
    return found


def _windows(window: Window, step: timedelta) -> Iterator[tuple[float, float]]:
    if not len(window):
        return
    until = float(window.at.min()) + 2 * step.total_seconds()
    while until <= float(window.at.max()) + step.total_seconds():
        yield until - 2 * step.total_seconds(), until
        until += step.total_seconds()


def latency(joined: Joined, model: str) -> dict[str, Any]:
    """Latency of the live answers as the model servers measured it, by day and over all."""
    window = joined.window(model)
    known = ~np.isnan(window.latency_ms)
    values, days = window.latency_ms[known], np.floor(window.at[known] / 86400)
    by_day = [
        {
            "day": f"{_moment(day * 86400):%Y-%m-%d}",
            "p50": float(np.percentile(values[days == day], 50)),
            "p99": float(np.percentile(values[days == day], 99)),
        }
        for day in np.unique(days)
    ]
    buckets = np.bincount(np.searchsorted(LATENCY_EDGES, values), minlength=len(LATENCY_EDGES) + 1)
    edges = [*LATENCY_EDGES, None]
    histogram = [{"le": edge, "count": int(n)} for edge, n in zip(edges, buckets, strict=True)]
    return {"by_day": by_day, "histogram": histogram if len(values) else []}


def overall_latency(joined: Joined, model: str) -> dict[str, float | None]:
    values = joined.window(model).latency_ms
    values = values[~np.isnan(values)]
    if not len(values):
        return {"p50": None, "p99": None}
    return {"p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99))}


def triggers(settings: Settings, workload: str) -> list[dict[str, Any]]:
    """All signals of a workload with what became of them, from the journal."""
    return [
        {
            "at": record["at"],
            "signal": record["kind"],
            "accepted": record["event"] == "accepted",
            "reason": record["reason"],
        }
        for record in read_journal(trigger_path(settings))
        if record["workload"] == workload and record["event"] in ("accepted", "refused")
    ]


def analyses(settings: Settings, workload: str, most: int = 60) -> list[dict[str, Any]]:
    """Analyses of a workload, oldest first: at most `most`, evenly spread, the newest among them.

    Raises:
        WindlassError: a file is damaged.
    """
    folder = store.folder(settings, workload)
    found: list[dict[str, Any]] = []
    for path in thinned(sorted(folder.glob("[0-9]*T*Z.json")), most):
        try:
            found.append(json.loads(path.read_text()))
        except FileNotFoundError:  # forgotten meanwhile: it was too old
            continue
        except ValueError as error:
            raise WindlassError(
                f"{path} is damaged ({error}); remove it, the report does without it"
            ) from error
    return found


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
