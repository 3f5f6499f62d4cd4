"""Feature vectors that versions served, as a sample out of the store's files.

Of each version a few vectors of every second are looked at, those that a hash draws: which they are depends on the
rows, the store and the release alone, and neither on the file that a row lies in nor on when it is asked for. Request
ids are their callers' choice, so that the hash has a key that these do not know. Only of what is drawn are the many
columns kept that a recomputation needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from monitoring.collector.parts import OTHERS
from monitoring.collector.reading import ENTITY, FEATURE, REQUEST

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: of a version and second, and as many again that are not to be compared
PER_SECOND = 4
ONLINE = "online"
#: rows whose hashes are drawn at once
CHUNK_ROWS = 65_536
#: who answers out of a version's own vectors; senders that are not our server do not say
OWN = ("model", "cache")


@dataclass(frozen=True, slots=True)
class Vector:
    """One served vector.

    Attributes:
        received: when it came, epoch seconds.
        at: the request's own moment, epoch seconds: features are recomputed for it.
        source: the rung of the ladder that its features came from; None where nobody said so.
        answered_by: what answered, the model or what stood in for it; None where nobody said so.
        draw: of a second those with the smallest are looked at.
        features: float64, NaN where missing, in the order of the version's inputs, empty where there is none; None
            of one that is wider or narrower than these.
        entities, request: JSON objects, as they are stored.
    """

    request_id: str
    version: str
    received: float
    at: float
    source: str | None
    features: bytes | None
    entities: bytes
    request: bytes
    answered_by: str | None = None
    draw: int = 0

    @property
    def served(self) -> bool:
        """Whether it is of the online store, and of the version's own answer."""
        return self.source == ONLINE and (self.answered_by is None or self.answered_by in OWN)

    def record(self, model: str) -> dict[str, Any]:
        """As a prediction record (`windlass.features.parity`)."""
        return {
            "model": model,
            "version": self.version,
            "source": self.source,
            "request_id": self.request_id,
            "at": self.at,
            "entities": orjson.loads(self.entities),
            "request": orjson.loads(self.request),
            "features": np.frombuffer(self.features or b"", dtype=np.float64),
        }


def chosen(vectors: Iterable[Vector]) -> list[Vector]:
    """Those of one second that are looked at, in an order that is theirs."""
    ordered = sorted(vectors, key=lambda v: (v.version, v.served, v.draw, v.request_id))
    found: list[Vector] = []
    for _, group in groupby(ordered, key=lambda v: (v.version, v.served)):
        found += list(group)[:PER_SECOND]
    return found


def key(began: float, since: float) -> str:
    """By what the vectors of a release are drawn, 16 characters.

    Args:
        began, since: when the store and the release did, epoch seconds; no caller knows them to the microsecond.
    """
    return hashlib.blake2b(f"{began!r} {since!r}".encode(), digest_size=8).hexdigest()


def of_file(
    source: pq.ParquetFile, rows: pa.Table, names: Mapping[str, Sequence[str]], drawn_by: str
) -> list[tuple[int, Vector]]:
    """What may be chosen of a file, with its second, in the order of these.

    Args:
        rows: of the file, those that count: `place` in it, `second`, `request_id`, `version`, `received` (µs).
        names: of each version's inputs, as the store's manifest has them.
        drawn_by: a `key`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    there = source.schema_arrow.names
    stated = ("at", "source", "answered_by")
    about = source.read([name for name in stated if name in there]).take(rows["place"])
    for name in stated:
        found = about[name] if name in there else pa.nulls(len(rows), pa.string())
        rows = rows.append_column(name, found)
    online = pc.fill_null(pc.equal(rows["source"], ONLINE), False)
    own = pc.or_(pc.is_null(rows["answered_by"]), pc.is_in(rows["answered_by"], value_set=pa.array(OWN)))
    rows = rows.append_column("served", pc.and_(online, own))
    rows = _first_of_each(rows.append_column("draw", _draws(rows, drawn_by)))
    wide = [name for name in there if name.startswith((ENTITY, REQUEST, FEATURE))]
    values = source.read(["request_id", *wide]).take(rows["place"])
    vectors = _features(values, rows["version"].to_pylist(), names)
    entities, request = _fields(values, ENTITY), _fields(values, REQUEST)
    at = pc.cast(rows["at"], pa.int64()).to_pylist()
    columns = [
        rows[n].to_pylist()
        for n in ("second", "request_id", "version", "received", "source", "answered_by", "draw")
    ]
    return [
        (second, Vector(name, version, received / 1e6, moment / 1e6, told, vector, entity, sent, by, draw))
        for second, name, version, received, told, by, draw, moment, vector, entity, sent in zip(
            *columns, at, vectors, entities, request, strict=True
        )
    ]


def _draws(rows: pa.Table, drawn_by: str) -> pa.Array:
    """SipHash of each row's request id and the microsecond in which it came, under a key."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pandas.util import hash_array

    found = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), CHUNK_ROWS):
        some = rows.slice(start, CHUNK_ROWS)
        told = pc.binary_join_element_wise(pc.cast(some["received"], pa.string()), some["request_id"], " ")
        told = np.asarray(told.to_numpy(), dtype=object)
        found[start : start + len(some)] = hash_array(told, hash_key=drawn_by, categorize=False)
    return pa.array(found)


def _first_of_each(rows: pa.Table) -> pa.Table:
    """The first that are drawn of every second, version, and kind of what is to be compared or not."""
    keys = ("second", "version", "served")
    rows = rows.sort_by([(name, "ascending") for name in (*keys, "draw", "request_id")])
    begins = np.zeros(len(rows), dtype=np.bool_)
    begins[:1] = True
    for name in keys:
        column = rows[name].to_numpy()
        begins[1:] |= column[1:] != column[:-1]
    numbers = np.arange(len(rows))
    return rows.filter(numbers - np.maximum.accumulate(np.where(begins, numbers, 0)) < PER_SECOND)


def _features(
    values: pa.Table, versions: Sequence[str], names: Mapping[str, Sequence[str]]
) -> list[bytes | None]:
    matrices: dict[str, Any] = {}
    for version in dict.fromkeys(versions):
        columns = [_floats(values, FEATURE + name) for name in names.get(version, ())]
        matrices[version] = np.column_stack(columns) if columns else np.empty((len(values), 0))
    other = np.zeros(len(values), dtype=np.bool_)
    named = {FEATURE + name for of_version in names.values() for name in of_version}
    for name in values.column_names:
        # a vector that does not fit its version's inputs is stored under positions
        if name.startswith(FEATURE) and name.removeprefix(FEATURE).isdigit() and name not in named:
            other |= ~np.isnan(_floats(values, name))
    return [None if other[row] else matrices[version][row].tobytes() for row, version in enumerate(versions)]


def _floats(values: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if name not in values.column_names:
        return np.full(len(values), np.nan)
    return np.asarray(values[name].to_numpy(), dtype=np.float64)


def _fields(values: pa.Table, prefix: str) -> list[bytes]:
    names = [name for name in values.column_names if name.startswith(prefix)]
    if not names:
        return [b"{}"] * len(values)
    found = []
    for row in values.select(names).to_pylist():
        fields = {name.removeprefix(prefix): value for name, value in row.items() if value is not None}
        # the rare ones have one column together
        found.append(orjson.dumps({**orjson.loads(fields.pop(OTHERS, "{}")), **fields}))
    return found
