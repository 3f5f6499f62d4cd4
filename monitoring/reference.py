"""What a model version knew when it was trained: the reference that live windows are compared with.

It lies beside the version's serving bundle as `reference.npz`, so that a version carries its own reference
wherever it is served. The file is plain numpy: `columns` (names), `values` (rows × columns, float64,
categories as positions, NaN = missing), `categorical` (names), and optionally `scores` (the model's scores of
those rows or of its evaluation window), `evaluation_labels` and `evaluation_scores` (the labelled window its
gates were judged on).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.columns import Floats
from monitoring.performance import Performance, measure
from windlass.atomic import replacing
from windlass.errors import WindlassError
from windlass.settings import Settings

FILE = "reference.npz"
MOST_ROWS = 20_000
"""Rows kept in a reference; distances against more move by less than their noise."""


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


def save(
    bundle: Path,
    columns: Mapping[str, Any],
    *,
    categorical: Collection[str] = (),
    scores: Any = None,
    evaluation: tuple[Any, Any] | None = None,
    seed: int = 0,
) -> None:
    """Write the reference of a version into its bundle folder; of many rows a seeded sample is kept."""
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
    chosen = np.arange(len(values))
    if len(values) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(values), MOST_ROWS, replace=False))
    parts: dict[str, Any] = {
        "columns": np.array(list(columns), dtype=np.str_),
        "categorical": np.array(sorted(categorical), dtype=np.str_),
        "values": values[chosen],
    }
    if scores is not None:
        kept = np.asarray(scores, dtype=np.float64)
        parts["scores"] = kept[chosen] if len(kept) == len(values) else kept
    if evaluation is not None:
        parts["evaluation_labels"], parts["evaluation_scores"] = (
            np.asarray(a, dtype=np.float64) for a in evaluation
        )
    with replacing(bundle / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **parts)


def load(bundle: Path) -> Reference:
    """Read the reference from a bundle folder.

    Raises:
        WindlassError: there is none.
    """
    path = bundle / FILE
    if not path.is_file():
        raise WindlassError(f"{path} is missing; `windlass train` writes it into the version's bundle")
    with np.load(path, allow_pickle=False) as stored:
        parts = {name: stored[name] for name in stored.files}
    names = [str(name) for name in parts["columns"]]
    evaluation = None
    if "evaluation_labels" in parts:
        evaluation = (parts["evaluation_labels"], parts["evaluation_scores"])
    return build(
        {name: parts["values"][:, i] for i, name in enumerate(names)},
        categorical={str(name) for name in parts["categorical"]},
        scores=parts.get("scores"),
        evaluation=evaluation,
    )


def of_version(settings: Settings, model: str, version: str) -> Reference:
    """Read the reference of a registered version, see `load`."""
    return load(settings.bundles_dir / model / version)
