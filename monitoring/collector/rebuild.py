"""Indexes made again from the store, on a machine that lost them or never had them.

Keys of halves of CloudEvents are not in the store; the predictions that they became are, so that one that is delivered
again is still known once it has both halves, or has waited for the other one in vain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.collector import index as indexes
from monitoring.collector import keys, labelling
from monitoring.collector.manifest import Manifest, Part, Run
from monitoring.collector.place import Place


def missing(known: Manifest, folder: Path) -> bool:
    """Whether a run that the manifest names is not on this machine."""
    return any(not (folder / run.path).is_file() for run in known.runs)


def rebuilt(known: Manifest, there: Place, folder: Path) -> tuple[Run, ...]:
    """Write the indexes anew, part by part; return their runs."""
    generation = known.generation + 1
    made = {name: indexes.Index(name, folder, ()) for name in indexes.COLUMNS}
    for part in known.parts:
        for name, rows in _rows(part, there, known):
            path = indexes.run_path(name, generation)
            for gone in made[name].add(rows, path, lambda c: np.ones(len(c["hi"]), dtype=bool)):
                (folder / gone).unlink(missing_ok=True)
    return tuple(run for index in made.values() for run in index.runs)


def _rows(part: Part, there: Place, known: Manifest) -> Iterator[tuple[str, indexes.Rows]]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(there.local(part.path)).read()
    if part.kind == "predictions":
        model = known.models.index(part.model)
        found = {name: table[name].to_pylist() for name in ("request_id", "version", "mirrored", "half")}
        names = [
            keys.row(part.model, version, mirrored, half or "", request_id)
            for request_id, version, mirrored, half in zip(*found.values(), strict=True)
        ]
        size = len(names)
        owner = {
            "model": np.full(size, model, dtype="<i4"),
            "day": np.full(size, keys.day_of(part.date), dtype="<i4"),
        }
        yield "seen", {**indexes.keys(names), **owner}
        ids: Any = np.array(found["request_id"], dtype=object)
        _, first = np.unique(ids.astype(str), return_index=True)
        yield (
            "predicted",
            {
                **indexes.keys(ids[first]),
                **{c: values[first] for c, values in owner.items()},
                "at": _seconds(table["at"])[first],
            },
        )
    elif part.kind in ("labels", "early"):
        yield "labelled", _labels(table)


def _labels(table: Any) -> indexes.Rows:
    received = _seconds(table["received"])
    named = map(labelling.name, table["request_id"].to_pylist(), _floats(table["label"]).tolist())
    return {
        **indexes.keys(named),
        "day": (received // keys.DAY_S).astype("<i4"),
        **{name: _floats(table[name]) for name in ("label", "reward", "per", "covariate")},
        "at": _seconds(table["at"]),
        "received": received,
    }


def _floats(column: Any) -> indexes.Array:
    from monitoring.collector.reading import floats

    return floats(column)


def _seconds(column: Any) -> indexes.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return _floats(pc.cast(column, pa.int64())) / 1e6
