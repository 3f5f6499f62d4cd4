"""Training/serving skew: the vector a version served against its point-in-time recomputation.

A wrong feature need not move a distribution (the values of another entity look just as likely), so marginal
tests miss it. The recomputation names every row that differs, whatever the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.predictions import Prediction
from windlass.features.parity import differences

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Skew:
    """How many vectors were compared and how many differ, with the inputs that differ most often."""

    checked: int
    mismatched: int
    by_input: Mapping[str, int]


def encode_request(
    request: Mapping[str, Any], entities: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]
) -> list[float]:
    """The request part of a vector, as a bundle's `inputs` prescribe it (view inputs are left out)."""
    values: list[float] = []
    for entry in inputs:
        if entry["view"] is not None:
            continue
        value = request.get(entry["name"], entities.get(entry["name"]))
        categories = entry.get("categories")
        if value is None:
            default = entry.get("default")
            values.append(float("nan") if default is None else float(default))
        elif categories is not None:
            values.append(float(categories.index(value)) if value in categories else float("nan"))
        else:
            values.append(float(value))
    return values


def compare(
    predictions: Sequence[Prediction], expected_views: pd.DataFrame, inputs: Sequence[Mapping[str, Any]]
) -> Skew:
    """Compare logged vectors with their recomputation.

    Args:
        predictions: as logged by one version.
        expected_views: one row a prediction, a column for each view input.
        inputs: `inputs` of the version's serving bundle.

    Returns:
        Counts; a vector mismatches if any input does, see `windlass.features.parity.differences`.
    """
    if not predictions:
        return Skew(0, 0, {})
    expected = np.empty((len(predictions), len(inputs)))
    request_rows = [encode_request(p.request, p.entities, inputs) for p in predictions]
    position = 0
    for column, entry in enumerate(inputs):
        if entry["view"] is None:
            expected[:, column] = [row[position] for row in request_rows]
            position += 1
        else:
            expected[:, column] = expected_views[entry["name"]].to_numpy(dtype=np.float64)
    logged = np.array([p.features for p in predictions], dtype=np.float64)
    different, _ = differences(logged, expected)
    names = [str(entry["name"]) for entry in inputs]
    per_input = different.sum(axis=0)
    return Skew(
        checked=len(predictions),
        mismatched=int(different.any(axis=1).sum()),
        by_input={names[i]: int(per_input[i]) for i in np.argsort(-per_input, kind="stable") if per_input[i]},
    )
