"""The rows that a version was judged on before it was released: what its live performance is compared with.

`evaluation.parquet` of the serving bundle. Bundles of before the inputs were kept in it have label and score alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.columns import Floats
from monitoring.reference import EVALUATION

AT = "event_timestamp"
SLICE = "slice_"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rows with their outcome; the model never trained on them.

    Attributes:
        at: epoch seconds; None where the bundle does not tell.
        inputs: each input's values; empty where the bundle does not tell.
        texts: columns by which metrics are also given and that are no input.
    """

    labels: Floats
    scores: Floats
    at: Floats | None
    inputs: Mapping[str, Floats]
    texts: Mapping[str, tuple[str, ...]]


def load(bundle: Path) -> Evaluation | None:
    """Read a bundle's evaluation rows; None where it has none."""
    import pyarrow.parquet as pq

    path = bundle / EVALUATION
    if not path.is_file():
        return None
    table = pq.read_table(path)

    def numbers(name: str) -> Floats:
        return np.asarray(table.column(name).to_numpy(), dtype=np.float64)

    names: list[str] = table.column_names
    at: Any = None
    if AT in names:
        at = table.column(AT).to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    return Evaluation(
        labels=numbers("label"),
        scores=numbers("score"),
        at=at,
        inputs={n: numbers(n) for n in names if n not in ("label", "score", AT) and not n.startswith(SLICE)},
        texts={
            n.removeprefix(SLICE): tuple(map(str, table.column(n).to_pylist()))
            for n in names
            if n.startswith(SLICE)
        },
    )
