"""What a model version knew when it was trained: the reference that live windows are compared with.

Training writes it into the version's serving bundle, so that a version carries its own reference wherever it is
served: `reference.parquet` (a sample of the training rows: a column for each model input in the model's order,
categories as their positions, NaN = missing, and the model's `score`), `reference.json` (`inputs`: for each its
`kind`) and, where decay is to be judged, `evaluation.parquet` (`label` and `score` of the window that the gates
were judged on).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.columns import Floats
from monitoring.performance import Performance, measure
from windlass.errors import WindlassError
from windlass.settings import Settings

SAMPLE = "reference.parquet"
STATISTICS = "reference.json"
EVALUATION = "evaluation.parquet"


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """One column of the reference.

    Attributes:
        values: its finite values in ascending order.
        null_share: share of rows that were missing (or infinite).
        norm: standard deviation of `values`.
    """

    name: str
    categorical: bool
    values: Floats
    null_share: float
    norm: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, name: str, column: Floats, *, categorical: bool = False) -> FeatureReference:
        finite = np.sort(column[np.isfinite(column)])
        empty = len(finite) == 0
        return cls(
            name=name,
            categorical=categorical,
            values=finite,
            null_share=1.0 - len(finite) / len(column) if len(column) else 0.0,
            norm=0.0 if empty else float(np.std(finite)),
            minimum=np.nan if empty else float(finite[0]),
            maximum=np.nan if empty else float(finite[-1]),
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference of one version.

    Attributes:
        features: in the model's order.
        score: the model's own scores.
        evaluation: measured performance at training time.
    """

    rows: int
    features: tuple[FeatureReference, ...]
    score: FeatureReference | None = None
    evaluation: Performance | None = None


def build(
    columns: Mapping[str, Any],
    *,
    categorical: Collection[str] = (),
    scores: Any = None,
    evaluation: tuple[Any, Any] | None = None,
) -> Reference:
    """Make a reference from training columns (array-likes of equal length) in the model's order.

    Args:
        evaluation: (labels, scores) of the labelled window that the version was evaluated on.
    """
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    return Reference(
        rows=len(next(iter(arrays.values()), ())),
        features=tuple(FeatureReference.of(n, a, categorical=n in categorical) for n, a in arrays.items()),
        score=None if scores is None else FeatureReference.of("score", np.asarray(scores, dtype=np.float64)),
        evaluation=None if evaluation is None else measure(*evaluation),
    )


def load(bundle: Path) -> Reference:
    """Read the reference from a bundle folder.

    Raises:
        WindlassError: there is none.
    """
    import pyarrow.parquet as pq

    sample, statistics = bundle / SAMPLE, bundle / STATISTICS
    for path in (sample, statistics):
        if not path.is_file():
            raise WindlassError(
                f"{path} is missing; `windlass train` writes it into the bundle of each version"
            )
    described = json.loads(statistics.read_text())["inputs"]
    table = pq.read_table(sample)
    evaluation = None
    if (bundle / EVALUATION).is_file():
        judged = pq.read_table(bundle / EVALUATION)
        evaluation = (judged.column("label").to_numpy(), judged.column("score").to_numpy())
    return build(
        # the sample's columns stand in the model's order; the keys of a JSON object may have been sorted
        {name: table.column(name).to_numpy() for name in table.column_names if name in described},
        categorical={name for name, about in described.items() if about.get("kind") == "categorical"},
        scores=table.column("score").to_numpy() if "score" in table.column_names else None,
        evaluation=evaluation,
    )


def of_version(settings: Settings, model: str, version: str) -> Reference:
    """Read the reference of a registered version, see `load`."""
    return load(settings.bundles_dir / model / version)
