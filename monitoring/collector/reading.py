"""What the collector stored, for the analysis jobs: predictions of a window with their labels, or the files themselves.

Columns of a prediction's file: request_id, version, mirrored, at, received (timestamps in UTC, microseconds), known,
score (null of an answer that is not one number: `answer` then holds it as JSON), latency_ms, source, answered_by, half
(null; "request" or "response" where the other one never came), route (why the router chose the version, see
`serving.release.route_header`; null where none of ours did) and unit (the pseudonym of an experiment's unit),
`entity.<name>`, `request.<name>` (numbers or text; `request.*` holds rare fields as JSON) and `feature.<name>`, one for
each input of the model, null where it was missing. Columns of a label's file: request_id, label, reward, per,
covariate, at, received, known, prediction_at.
A label lies in the partition of its prediction, however late it came. `known` is when a row counts as there: when it
came, and never before what the store had already declared complete (`Manifest.until`). Files from before a column was
kept have none of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.collector import manifest as manifests
from monitoring.collector.manifest import Kind, Manifest, Part
from monitoring.collector.place import place
from monitoring.columns import Floats
from monitoring.joined import Window
from windlass.errors import WindlassError
from windlass.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Texts = NDArray[np.object_]
FIXED = ("request_id", "version", "mirrored", "at", "score", "latency_ms", "source")
FEATURE, ENTITY, REQUEST = "feature.", "entity.", "request."
TRIES = 3


@dataclass(frozen=True, eq=False)
class StoredWindow(Window):
    """A window with what a slice is cut by.

    Attributes:
        versions, sources: of each row; `source` is the rung of the ladder that its features came from.
        inputs: names of the columns of `features`.
        columns: of each entity (`entity.<name>`) and request field (`request.<name>`) one value a row: floats, NaN
            where missing, or text, None where missing.
    """

    versions: Texts
    sources: Texts
    inputs: tuple[str, ...]
    columns: Mapping[str, Floats | Texts]


class Events:
    """The store as its newest manifest names it; each question reads the manifest again.

    A `model` that has no events is no error: it has no versions, no parts and empty windows.
    """

    def __init__(self, settings: Settings) -> None:
        self._place = place(settings)

    def manifest(self) -> Manifest:
        """The newest manifest; an empty one where nothing was stored yet."""
        content = self._place.read(manifests.NAME)
        return Manifest() if content is None else manifests.decode(content, f"the store's {manifests.NAME}")

    def models(self) -> tuple[str, ...]:
        """Models with stored predictions."""
        return tuple(sorted({part.model for part in self.manifest().of("predictions")}))

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of `model` with stored predictions, in the order of their first one."""
        parts = sorted(self.manifest().of("predictions", model), key=lambda p: p.since)
        return tuple(dict.fromkeys(version for part in parts for version in part.versions))

    def inputs(self, model: str, version: str) -> tuple[str, ...]:
        """Names of a version's inputs, in the model's order; empty where no feature vector was seen."""
        return self.manifest().inputs.get(model, {}).get(version, ())

    def newest(self, model: str) -> float | None:
        """When the newest stored prediction was made, epoch seconds; None where there is none."""
        return max((part.until for part in self.manifest().of("predictions", model)), default=None)

    def newest_label(self, model: str) -> float | None:
        """The time of the newest outcome that was joined to a prediction of `model`; None where there is none."""
        return max((part.until for part in self.manifest().of("labels", model)), default=None)

    def parts(self, model: str, since: float = -math.inf, until: float = math.inf) -> list[Path]:
        """Files with predictions from `since` (inclusive) to `until` (exclusive), for streaming.

        A file may hold rows outside the stretch, of every version, and mirrored ones: filter by `at`, `version` and
        `mirrored`. It stays readable for ten minutes after a compaction replaced it.
        """
        parts = _overlapping(self.manifest().of("predictions", model), since, until)
        return [self._place.local(part.path) for part in parts]

    def label_parts(self, model: str, since: float = -math.inf, until: float = math.inf) -> list[Path]:
        """Files with the labels of the predictions made in [since, until), by `prediction_at`."""
        return [
            self._place.local(p.path) for p in _of_days(self.manifest().of("labels", model), since, until)
        ]

    def contradictions(self, model: str | None = None) -> pa.Table:
        """Labels that differ from the one that was kept: request_id, label, reward, kept_label, kept_reward, at,
        received, and kept_at."""
        return self._whole("contradictions", model)

    def early(self) -> pa.Table:
        """Labels that came before their prediction, also those whose prediction came since."""
        return self._whole("early", None)

    def window(
        self,
        model: str,
        since: float = -math.inf,
        until: float = math.inf,
        *,
        versions: Iterable[str] | None = None,
        mirrored: bool = False,
    ) -> StoredWindow:
        """Return the predictions with `since` <= at < `until`, in the order of time, with their labels.

        Args:
            since, until: epoch seconds.
            versions: default: all whose inputs are named like the newest one's, as in `monitoring.joined`.

        Raises:
            WindlassError: the files changed under the reader again and again.
        """
        for _ in range(TRIES):
            try:
                return self._window(model, since, until, versions, mirrored)
            except FileNotFoundError:
                continue  # replaced by a compaction, which wrote a manifest first
        raise WindlassError(f"the events of {model} change faster than they are read; read a shorter window")

    def _window(
        self, model: str, since: float, until: float, versions: Iterable[str] | None, mirrored: bool
    ) -> StoredWindow:
        known = self.manifest()
        named = known.inputs.get(model, {})
        if versions is None:
            order = self.versions(model)
            names = next((named[v] for v in reversed(order) if named.get(v)), ())
            wanted = [v for v in order if named.get(v, ()) in ((), names)]
        else:
            wanted = list(versions)
            names = next((named[v] for v in reversed(wanted) if named.get(v)), ())
            wanted = [v for v in wanted if named.get(v, ()) in ((), names)]
        parts = _overlapping(known.of("predictions", model), since, until)
        rows = self._read([p for p in parts if set(p.versions) & set(wanted)], names)
        rows = _chosen(rows, since, until, wanted, mirrored)
        labels = self._labels(known, model, since, until)
        return _as_window(rows, labels, names)

    def _read(self, parts: list[Part], names: tuple[str, ...]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        for part in parts:
            file = pq.ParquetFile(self._place.local(part.path))
            wanted = {*FIXED, *(FEATURE + n for n in names)}
            tables.append(
                file.read(
                    [c for c in file.schema_arrow.names if c in wanted or c.startswith((ENTITY, REQUEST))]
                )
            )
        return unified(tables) if tables else pa.table({})

    def _labels(self, known: Manifest, model: str, since: float, until: float) -> pa.Table | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = [self._place.local(p.path) for p in _of_days(known.of("labels", model), since, until)]
        wanted = ["request_id", "label", "at"]
        return (
            pa.concat_tables([pq.read_table(p, columns=wanted, partitioning=None) for p in paths])
            if paths
            else None
        )

    def _whole(self, kind: Kind, model: str | None) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = self.manifest().of(kind, model)
        return (
            unified([pq.read_table(self._place.local(p.path), partitioning=None) for p in parts])
            if parts
            else pa.table({"request_id": pa.array([], pa.string())})
        )


def unified(tables: list[pa.Table]) -> pa.Table:
    """Tables below each other; a column that is text in one of them is text in all, one that is absent is null."""
    import pyarrow as pa

    texts = {f.name for t in tables for f in t.schema if pa.types.is_string(f.type)}
    cast = []
    for table in tables:
        fields = [
            pa.field(f.name, pa.string()) if f.name in texts and not pa.types.is_string(f.type) else f
            for f in table.schema
        ]
        cast.append(table.cast(pa.schema(fields)))
    return pa.concat_tables(cast, promote_options="permissive")


def day(moment: float) -> str:
    """The UTC day of epoch seconds, YYYY-MM-DD."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _overlapping(parts: Iterable[Part], since: float, until: float) -> list[Part]:
    return [p for p in parts if p.until >= since and p.since < until]


def _of_days(parts: Iterable[Part], since: float, until: float) -> list[Part]:
    first = day(since) if math.isfinite(since) else ""
    last = day(until) if math.isfinite(until) else "9999-99-99"
    return [p for p in parts if first <= p.date <= last]


def _chosen(rows: pa.Table, since: float, until: float, wanted: list[str], mirrored: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows.num_columns:
        return rows
    keep = pc.and_(
        pc.is_in(rows["version"], value_set=pa.array(wanted, pa.string())),
        pc.equal(rows["mirrored"], mirrored),
    )
    keep = pc.and_(keep, pc.is_valid(rows["score"]))
    at = pc.cast(rows["at"], pa.int64())
    if math.isfinite(since):
        keep = pc.and_(keep, pc.greater_equal(at, math.ceil(since * 1e6 - 1e-3)))
    if math.isfinite(until):
        keep = pc.and_(keep, pc.less(at, math.ceil(until * 1e6 - 1e-3)))
    found = rows.filter(keep)
    return found.take(pc.sort_indices(found, [("at", "ascending"), ("request_id", "ascending")]))


def _seconds(column: pa.ChunkedArray) -> Floats:
    import pyarrow as pa
    import pyarrow.compute as pc

    return floats(pc.cast(column, pa.int64())) / 1e6


def floats(column: pa.ChunkedArray) -> Floats:
    """A column as floats, NaN where it is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values: Any = pc.fill_null(pc.cast(column, pa.float64()), math.nan)
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _as_window(rows: pa.Table, labels: pa.Table | None, names: tuple[str, ...]) -> StoredWindow:
    import pyarrow as pa
    import pyarrow.compute as pc

    size = rows.num_rows
    if not rows.num_columns:
        nothing, none = np.empty(0), np.empty(0, dtype=object)
        return StoredWindow(
            (), nothing, nothing, nothing, nothing, nothing, np.empty((0, 0)), none, none, (), {}
        )
    values, label_at = np.full(size, np.nan), np.full(size, np.nan)
    if labels is not None:
        labels = labels.filter(pc.is_valid(labels["label"]))  # a reward alone is no label
    if labels is not None and labels.num_rows:
        found = floats(pc.index_in(rows["request_id"], value_set=labels["request_id"].combine_chunks()))
        hit = ~np.isnan(found)
        which = found[hit].astype(np.int64)
        values[hit] = floats(labels["label"])[which]
        label_at[hit] = _seconds(labels["at"])[which]
    columns: dict[str, Floats | Texts] = {}
    for name in rows.column_names:
        if name.startswith((ENTITY, REQUEST)):
            text = pa.types.is_string(rows.schema.field(name).type)
            columns[name] = _texts(rows[name]) if text else floats(rows[name])
    present = set(rows.column_names)
    features = [floats(rows[FEATURE + n]) if FEATURE + n in present else np.full(size, np.nan) for n in names]
    return StoredWindow(
        request_ids=tuple(rows["request_id"].to_pylist()),
        at=_seconds(rows["at"]),
        scores=floats(rows["score"]),
        labels=values,
        label_at=label_at,
        latency_ms=floats(rows["latency_ms"]),
        features=np.column_stack(features) if features else np.empty((size, 0)),
        versions=_texts(rows["version"]),
        sources=_texts(rows["source"]),
        inputs=names,
        columns=columns,
    )


def _texts(column: pa.ChunkedArray) -> Texts:
    return np.asarray(column.to_numpy(), dtype=object)
