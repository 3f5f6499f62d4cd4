"""What a serving bundle says of its training: rows that the version was judged on, and what drift is judged against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring import bundles
from monitoring import reference as references
from monitoring.analysis import evaluation
from monitoring.analysis.evaluation import AT, Evaluation
from monitoring.detection import baseline as baselines
from monitoring.detection.baseline import Baseline
from monitoring.reference import SAMPLE, STATISTICS, Reference
from windlass.errors import WindlassError
from windlass.settings import Settings


@dataclass(frozen=True, eq=False)
class Trained:
    """What is known of a version's training.

    Attributes:
        reference: the sample's columns, for their ranges.
        nothing: why there is no baseline; empty where there is one.
        problems: what could not be read, in sentences.
    """

    evaluation: Evaluation | None
    baseline: Baseline | None
    reference: Reference | None = None
    nothing: str = ""
    problems: tuple[str, ...] = ()


def of_version(settings: Settings, model: str, version: str) -> Trained:
    """Read a version's bundle, brought from the object store where the home has none; else as `read`."""
    try:
        return read(bundles.bring(settings, model, version))
    except WindlassError as error:
        return Trained(None, None, nothing=str(error), problems=(str(error),))


def read(bundle: Path) -> Trained:
    """Read a bundle; what it lacks is None and told."""
    try:
        return _read(bundle)
    except (OSError, ValueError, KeyError) as error:
        told = f"{bundle} cannot be read: {error}"
        return Trained(None, None, nothing=told, problems=(told,))


def _read(bundle: Path) -> Trained:
    judged = evaluation.load(bundle)
    if not (bundle / SAMPLE).is_file() or not (bundle / STATISTICS).is_file():
        nothing = f"{bundle} has no {SAMPLE}; `windlass train` writes it into the bundle of each version"
        return Trained(judged, None, nothing=nothing, problems=(nothing,))
    reference = references.load(bundle)
    try:
        return Trained(judged, _baseline(bundle, judged), reference)
    except WindlassError as error:
        return Trained(judged, None, reference, str(error), (str(error),))


def _baseline(bundle: Path, judged: Evaluation | None) -> Baseline:
    import pyarrow.parquet as pq

    described: dict[str, Any] = json.loads((bundle / STATISTICS).read_text())["inputs"]
    table = pq.read_table(bundle / SAMPLE)
    at = None
    if AT in table.column_names:
        at = table.column(AT).to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    return baselines.build(
        # the sample's columns stand in the model's order; the keys of a JSON object may have been sorted
        {n: table.column(n).to_numpy() for n in table.column_names if n in described},
        at=at,
        scores=table.column("score").to_numpy() if "score" in table.column_names else None,
        categories={
            n: len(about.get("frequencies") or ())
            for n, about in described.items()
            if about.get("kind") == "categorical"
        },
        labels=None if judged is None else judged.labels,
        label_scores=None if judged is None else judged.scores,
        label_at=None if judged is None else judged.at,
    )
