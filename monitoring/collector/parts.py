"""Records as columns: the parquet files of the store.

Times are timestamps of microseconds in UTC, missing values null. A field of a request is a column of numbers where all
of a file's values are numbers, else of text; whoever reads several files makes them alike (`reading.unified`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from monitoring.collector.reading import ENTITY, FEATURE, REQUEST

if TYPE_CHECKING:
    import pyarrow as pa

Record = Mapping[str, Any]
TEXTS = ("version", "source", "answered_by", "half", "route", "unit")
#: fields of their own columns, the most frequent ones; names that differ from row to row would make a column a row
MOST_FIELDS = 256
#: the column of the rest, as JSON
OTHERS = "*"
LABEL_NUMBERS = ("label", "reward", "per", "covariate")


def predictions(rows: Sequence[Record], inputs: Mapping[str, tuple[str, ...]]) -> pa.Table:
    """Prediction records of one model as a table, in the order of time.

    Args:
        inputs: names of each version's inputs. Values of a vector that is longer or shorter than that are kept under
            their positions: `feature.0` and so on.
    """
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: (row["at"], row["request_id"]))
    columns: dict[str, pa.Array] = {
        "request_id": pa.array([row["request_id"] for row in rows], pa.string()),
        "version": pa.array([row["version"] for row in rows], pa.string()),
        "mirrored": pa.array([bool(row["mirrored"]) for row in rows], pa.bool_()),
        "at": times([row["at"] for row in rows]),
        "received": times([row["received"] for row in rows]),
        "known": times([row.get("known") for row in rows]),
        "score": pa.array([_float(row["score"]) for row in rows], pa.float64(), from_pandas=True),
        "answer": pa.array(
            [
                None if row["score"] is None or _number(row["score"]) else orjson.dumps(row["score"]).decode()
                for row in rows
            ],
            pa.string(),
        ),
        "latency_ms": pa.array(
            [_float(row.get("latency_ms")) for row in rows], pa.float64(), from_pandas=True
        ),
        **{
            name: pa.array([row.get(name) for row in rows], pa.string())
            for name in ("source", "answered_by", "half", "route", "unit")
        },
    }
    for prefix, place in ((ENTITY, "entities"), (REQUEST, "request")):
        given = [row.get(place) or {} for row in rows]
        names = Counter(name for fields in given for name in fields)
        kept = names.keys() if len(names) <= MOST_FIELDS else {n for n, _ in names.most_common(MOST_FIELDS)}
        for name in filter(kept.__contains__, names):
            columns[prefix + name] = _field([fields.get(name) for fields in given], text=prefix == ENTITY)
        if len(names) > len(kept):
            rest = [{n: v for n, v in fields.items() if n not in kept} or None for fields in given]
            columns[prefix + OTHERS] = _field(rest, text=True)
    columns |= {FEATURE + name: values for name, values in _features(rows, inputs).items()}
    return pa.table(columns)


def labels(rows: Sequence[Record]) -> pa.Table:
    """Label records as a table, in the order of their predictions; further times and kept values as they are there."""
    import pyarrow as pa

    extra = [name for name in ("kept_label", "kept_reward") if rows and name in rows[0]]
    moments = [
        name for name in ("at", "received", "known", "prediction_at", "kept_at") if rows and name in rows[0]
    ]
    columns: dict[str, pa.Array] = {
        "request_id": pa.array([row["request_id"] for row in rows], pa.string()),
        **{
            name: pa.array([row.get(name) for row in rows], pa.float64(), from_pandas=True)
            for name in (*LABEL_NUMBERS, *extra)
        },
        **{name: times([row.get(name) for row in rows]) for name in moments},
    }
    return pa.table(columns)


def latest(table: pa.Table) -> float:
    """When the last of a part's rows became known, epoch seconds; of those from before that was kept, when it came."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = table["received"]
    if "known" in table.column_names:
        known = pc.coalesce(table["known"], known)
    return float(pc.max(pc.cast(known, pa.int64())).as_py() or 0) / 1e6


def times(seconds: Sequence[float | None]) -> pa.Array:
    """Epoch seconds as timestamps in UTC."""
    import pyarrow as pa

    micros = [None if s is None or s != s else round(s * 1e6) for s in seconds]
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))


def write(table: pa.Table, path: Path) -> None:
    """Write a table as parquet; ids, which no two rows share, are not worth a dictionary."""
    import pyarrow.parquet as pq

    kept = [name for name in table.column_names if name in TEXTS or name.startswith((ENTITY, REQUEST))]
    pq.write_table(table, path, compression="zstd", compression_level=1, use_dictionary=kept)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _float(value: Any) -> float | None:
    return float(value) if _number(value) else None


def _field(values: Sequence[Any], *, text: bool) -> pa.Array:
    import pyarrow as pa

    if not text and all(value is None or _number(value) for value in values):
        return pa.array([None if v is None else float(v) for v in values], pa.float64(), from_pandas=True)
    texts = [
        value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values
    ]
    return pa.array(texts, pa.string())


def _features(rows: Sequence[Record], inputs: Mapping[str, tuple[str, ...]]) -> dict[str, pa.Array]:
    import pyarrow as pa

    groups: dict[tuple[str, ...], list[int]] = {}
    for position, row in enumerate(rows):
        vector = row["features"]
        if vector:
            names = inputs.get(row["version"], ())
            fitting = names if len(names) == len(vector) else tuple(map(str, range(len(vector))))
            groups.setdefault(fitting, []).append(position)
    columns: dict[str, Any] = {}
    for names, positions in groups.items():
        matrix = np.array([rows[position]["features"] for position in positions], dtype=np.float64)
        for column, name in enumerate(names):
            if name not in columns:
                columns[name] = np.full(len(rows), np.nan)
            columns[name][positions] = matrix[:, column]
    return {name: pa.array(values, pa.float64(), from_pandas=True) for name, values in columns.items()}
