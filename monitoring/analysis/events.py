"""What was answered, from wherever it is kept: the collector's store, or the logs of this machine where it has nothing.

An edge. A version's rows come as `StoredWindow`, the form that the store has; the logs are brought into it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from monitoring import labels, predictions
from monitoring.collector.reading import ENTITY, FEATURE, REQUEST, Events, StoredWindow
from monitoring.columns import Floats
from monitoring.labels import Label
from monitoring.predictions import Prediction
from windlass.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

SCORE = "score"
BATCH_ROWS = 65_536


class Answers(Protocol):
    """Live answers of one model, with what became known of them."""

    def versions(self) -> tuple[str, ...]:
        """Versions that answered, in the order in which they first did."""
        ...

    def rows(self, version: str, since: float, until: float) -> StoredWindow:
        """Answers of a version with `since` <= at < `until` (epoch seconds), in the order of time."""
        ...

    def arrivals(self, since: float, until: float) -> Floats:
        """When every version's answers in this stretch were given, in the order of time."""
        ...

    def counts(self, since: float, until: float) -> dict[str, int]:
        """How many answers in this stretch each version gave."""
        ...

    def newest(self, version: str) -> float | None:
        """When a version's newest answer was given; None where it gave none."""
        ...

    def batches(
        self, version: str, since: float, until: float, names: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """A version's answers in bounded batches: a column of each input named, and `score` where it is.

        The names are those of the version's inputs in their order, as its bundle has them.
        """
        ...


def open_answers(settings: Settings, model: str) -> Answers:
    """The store's answers where it has any of the model, else those of the logs."""
    events = Events(settings)
    if model in events.models():
        return Stored(events, model)
    return Logged(
        model,
        predictions.PredictionTail(predictions.folder(settings)).poll(),
        labels.LabelTail(labels.path(settings)).poll(),
    )


class Stored:
    """Answers of one model in the collector's store."""

    def __init__(self, events: Events, model: str) -> None:
        self._events = events
        self._model = model

    def versions(self) -> tuple[str, ...]:
        return self._events.versions(self._model)

    def rows(self, version: str, since: float, until: float) -> StoredWindow:
        return self._events.window(self._model, since, until, versions=[version])

    def arrivals(self, since: float, until: float) -> Floats:
        return np.sort(np.concatenate([np.empty(0), *(at for at, _ in self._live(since, until))]))

    def counts(self, since: float, until: float) -> dict[str, int]:
        import pyarrow.compute as pc

        found: Counter[str] = Counter()
        for _, versions in self._live(since, until):
            counted = pc.value_counts(versions)
            names, rows = counted.field(0).to_pylist(), counted.field(1).to_pylist()
            found.update(dict(zip(names, rows, strict=True)))
        return dict(found)

    def newest(self, version: str) -> float | None:
        import pyarrow.compute as pc

        newest = None
        for at, versions in self._live(-math.inf, math.inf):
            mine = at[pc.equal(versions, version).to_numpy(zero_copy_only=False)]
            if len(mine):
                newest = max(float(mine.max()), -math.inf if newest is None else newest)
        return newest

    def batches(
        self, version: str, since: float, until: float, names: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        asked = [name for name in names if name != SCORE]
        inputs = self._events.inputs(self._model, version)
        if len(inputs) != len(asked):
            return
        # by position: where nobody named the inputs when they were stored, they are numbered
        stored = dict(zip(asked, (FEATURE + n for n in inputs), strict=True))
        stored = {name: stored.get(name, SCORE) for name in names}
        wanted = {"at", "version", "mirrored", *stored.values()}
        for path in self._events.parts(self._model, since, until):
            with pq.ParquetFile(path) as file:
                present = [c for c in file.schema_arrow.names if c in wanted]
                for batch in file.iter_batches(BATCH_ROWS, columns=present, use_threads=False):
                    at = pc.cast(batch["at"], pa.int64()).to_numpy() / 1e6
                    ours = (at >= since) & (at < until) & (batch["version"].to_numpy(False) == version)
                    ours &= ~batch["mirrored"].to_numpy(False).astype(bool)
                    rows = batch.filter(pa.array(ours))
                    if rows.num_rows:
                        empty = pa.nulls(rows.num_rows, pa.float64())
                        columns = [rows[c] if c in present else empty for c in stored.values()]
                        yield pa.RecordBatch.from_arrays(columns, names=list(stored))

    def _live(self, since: float, until: float) -> Iterator[tuple[Floats, Any]]:
        """Times and versions of the live answers, file by file: a version's name a row is more than memory holds."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        for path in self._events.parts(self._model, since, until):
            table = pq.read_table(path, columns=["at", "version", "mirrored"])
            table = table.filter(pc.invert(table["mirrored"]))
            times = pc.cast(table["at"], pa.int64()).to_numpy() / 1e6
            chosen = (times >= since) & (times < until)
            yield times[chosen], table["version"].combine_chunks().filter(pa.array(chosen))


class Logged:
    """Answers of one model in the logs of this machine; the first answer and the first label of a request count."""

    def __init__(self, model: str, answered: Sequence[Prediction], known: Sequence[Label]) -> None:
        kept: dict[tuple[str, str], Prediction] = {}
        for p in answered:
            if p.model == model and not p.mirrored:
                kept.setdefault((p.request_id, p.version), p)
        self._rows = sorted(kept.values(), key=lambda p: (p.at, p.request_id))
        self._labels: dict[str, Label] = {}
        for label in known:
            if label.label is not None:
                self._labels.setdefault(label.request_id, label)

    def versions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p.version for p in self._rows))

    def rows(self, version: str, since: float, until: float) -> StoredWindow:
        chosen = [p for p in self._rows if p.version == version and since <= p.at < until]
        width = len(chosen[-1].features) if chosen else 0
        # an older build of the version under its number: its vectors mean something else
        chosen = [p for p in chosen if len(p.features) == width]
        outcomes = [self._labels.get(p.request_id) for p in chosen]
        return StoredWindow(
            request_ids=tuple(p.request_id for p in chosen),
            at=_floats([p.at for p in chosen]),
            scores=_floats([p.score for p in chosen]),
            labels=_floats([math.nan if o is None else float(o.label or 0) for o in outcomes]),
            label_at=_floats([math.nan if o is None else o.at for o in outcomes]),
            latency_ms=_floats([p.latency_ms for p in chosen]),
            features=np.array([p.features for p in chosen], dtype=np.float64).reshape(len(chosen), width),
            versions=np.array([p.version for p in chosen], dtype=object),
            sources=np.array([p.source for p in chosen], dtype=object),
            inputs=(),
            columns=_columns(chosen),
        )

    def arrivals(self, since: float, until: float) -> Floats:
        return _floats([p.at for p in self._rows if since <= p.at < until])

    def counts(self, since: float, until: float) -> dict[str, int]:
        return dict(Counter(p.version for p in self._rows if since <= p.at < until))

    def newest(self, version: str) -> float | None:
        return max((p.at for p in self._rows if p.version == version), default=None)

    def batches(
        self, version: str, since: float, until: float, names: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        rows = self.rows(version, since, until)
        inputs = [name for name in names if name != SCORE]
        if not len(rows) or rows.features.shape[1] != len(inputs):
            return
        columns = {name: rows.features[:, i] for i, name in enumerate(inputs)}
        if SCORE in names:
            columns[SCORE] = rows.scores
        yield pa.RecordBatch.from_pydict({name: pa.array(columns[name]) for name in names})


def _floats(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _columns(rows: Sequence[Prediction]) -> dict[str, Any]:
    names = dict.fromkeys(
        [ENTITY + n for p in rows for n in p.entities] + [REQUEST + n for p in rows for n in p.request]
    )
    found: dict[str, Any] = {}
    for name in names:
        kind, _, field = name.partition(".")
        values = [(p.entities if kind == "entity" else p.request).get(field) for p in rows]
        # a key that is a whole number is text as it is in the store: 3 as a float is the key of nobody
        if kind + "." == ENTITY or any(isinstance(v, str) for v in values):
            found[name] = np.array([None if v is None else str(v) for v in values], dtype=object)
        else:
            found[name] = _floats([math.nan if v is None else float(v) for v in values])
    return found
