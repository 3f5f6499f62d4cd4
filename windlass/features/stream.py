"""Keeping the online store at a moment of event time: batch materialization, then a tick an hour.

A tick writes what `FeatureStore.push` would, byte for byte (a test compares them), without its way through a data
frame and a proto for each value, which costs ten times as much as the writing. Sqlite takes rows as they lie in the
partitions; any other online store gets them through Feast's provider.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.contract import View, Workload
from windlass.errors import DataError, UsageError
from windlass.features import definitions, partitions, store
from windlass.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OnlineStream:
    """One workload's writer of the online store; there must not be a second at the same time.

    Raises:
        UsageError: the feature repository and the workload disagree.
    """

    def __init__(self, workload: Workload, settings: Settings) -> None:
        definitions.agreed(workload, settings)
        self._workload = workload
        self._settings = settings
        self._store = store.open_store(settings)
        self._provider: Any = self._store._get_provider()
        self._at: datetime | None = None
        self._sources = [_Rows(view, settings) for view in workload.views if view.stream]
        self._batch = [(v, partitions.times(settings, v)) for v in workload.views if not v.stream]
        self._views: dict[str, Any] = {v.name: self._store.get_feature_view(v.name) for v in workload.views}

    @property
    def at(self) -> datetime | None:
        """The time up to which the online store is filled."""
        return self._at

    def materialize(self, start: datetime, end: datetime) -> None:
        """Fill the online store with what was known at `end`, from rows since `start`, by Feast's materialization.

        Whatever the store held of this workload's views is forgotten: rows later than `end` would be a look into
        the future, and a replay begins more than once.
        """
        for view in self._views.values():
            self._clear(view)
        self._materialize(list(self._views), start, end)
        self._at = end

    def fill(self, start: datetime, end: datetime) -> None:
        """As `materialize`, into a store that is being read: nothing is forgotten, a newer row of a key wins."""
        self._materialize(list(self._views), start, end)
        self._at = end

    def advance(self, to: datetime) -> int:
        """Write all rows with a time after the last one and up to `to`; return how many.

        Only the newest row of a key counts. Rows of batch views are materialized when their time has come. The
        first call without `materialize` begins at the longest time to live before `to`.
        """
        if self._at is None:
            self.materialize(to - max(v.ttl for v in self._workload.views), to)
            return 0
        if to <= self._at:
            return 0
        since, written = self._at, 0
        with self._together():
            for rows in self._sources:
                written += self._write(rows.newest(since, to))
        due = [view.name for view, times in self._batch if _any_between(times, since, to)]
        if due:
            self._materialize(due, since + MICROSECOND, to)
        self._at = to
        return written

    def push_hour(self, hour: datetime) -> int:
        """Push the rows of the full hour `hour` of every stream view through Feast's own `push`; return how many.

        The way in for a producer that knows nothing of us; `advance` writes the same bytes without the detour.
        """
        count = 0
        for view in (v for v in self._workload.views if v.stream):
            frame = partitions.read(self._settings, view, hour, hour).to_pandas()
            if len(frame):
                push(self._store, view.name, frame)
                count += len(frame)
        return count

    def close(self) -> None:
        """Give back the online store."""
        online = self._provider.online_store
        if hasattr(online, "close") and self._settings.online_store == "sqlite":
            online.close()

    def _write(self, rows: Newest | None) -> int:
        if rows is None:
            return 0
        view, online = self._views[rows.view.name], self._provider.online_store
        if hasattr(online, "write_rows"):
            online.write_rows(
                self._store.config, view, rows.keys, rows.view.features, rows.values, rows.times
            )
        else:
            self._provider.online_write_batch(self._store.config, view, _protos(rows), None)
        return len(rows.keys)

    def _materialize(self, views: list[str], start: datetime, end: datetime) -> None:
        # Feast notes the span in the registry, from the copy that it has in memory
        with store.alone(self._settings), _quiet():
            self._store.refresh_registry()
            self._store.materialize(start_date=start, end_date=end, feature_views=views)

    def _clear(self, view: Any) -> None:
        online = self._provider.online_store
        if self._settings.online_store == "redis":
            online.delete_table(self._store.config, view)
        else:
            online.clear(self._store.config, view)

    def _together(self) -> contextlib.AbstractContextManager[None]:
        online = self._provider.online_store
        if hasattr(online, "transaction"):
            transaction: contextlib.AbstractContextManager[None] = online.transaction(self._store.config)
            return transaction
        return contextlib.nullcontext()


def push_file(workload: Workload, settings: Settings, view: str, path: Path) -> int:
    """Push the rows of a file to the online store through Feast's own `push`; return how many.

    Raises:
        UsageError: the workload has no such stream view.
        DataError: the file cannot be read, or lacks a column.
    """
    from windlass.features import columns, files

    streamed = {v.name: v for v in workload.views if v.stream}
    if view not in streamed:
        known = ", ".join(streamed) or "none"
        raise UsageError(f"workload {workload.name!r} has no stream view {view!r}; known: {known}")
    definitions.agreed(workload, settings)
    stated = streamed[view]
    rows = files.read(path, [stated.entity, partitions.TIME, *stated.features])
    rows[stated.entity] = columns.key(rows[stated.entity])
    rows[partitions.TIME] = columns.utc(rows[partitions.TIME])
    try:
        rows = rows.astype(dict.fromkeys(stated.features, "float64"))
    except ValueError as error:
        raise DataError(
            f"data file {path}: a feature of {view!r} is no number: {error}; correct the file"
        ) from error
    push(store.open_store(settings), view, rows)
    return len(rows)


def push(feature_store: Any, view: str, rows: pd.DataFrame) -> None:
    """`FeatureStore.push` to the push source of a stream view."""
    from feast.data_source import PushMode

    source = feature_store.get_feature_view(view).stream_source
    feature_store.push(source.name, rows, to=PushMode.ONLINE)


@dataclass(frozen=True)
class Newest:
    """The newest row of each key in some span of time."""

    view: View
    keys: list[str]
    times: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class _Month:
    """One month of a view, ordered by time; keys by number."""

    times: NDArray[np.int64]
    keys: NDArray[np.int32]
    names: NDArray[np.object_]
    values: NDArray[np.float64]


class _Rows:
    """Rows of a stream view by time; of the months only those in use are in memory."""

    def __init__(self, view: View, settings: Settings) -> None:
        self._view = view
        self._settings = settings
        self._months: dict[str, _Month | None] = {}

    def newest(self, since: datetime, to: datetime) -> Newest | None:
        """The newest row of each key with a time after `since`, up to `to`; None where there is no row."""
        import numpy as np

        parts = [
            p for p in (self._part(month, since, to) for month in self._loaded(since, to)) if p is not None
        ]
        if len(parts) < 2:
            return parts[0] if parts else None
        keys = np.array([key for part in parts for key in part.keys], dtype=object)
        last = _last_of_each(keys)
        times = np.concatenate([part.times for part in parts])[last]
        return Newest(
            self._view, keys[last].tolist(), times, np.concatenate([part.values for part in parts])[last]
        )

    def _part(self, month: _Month, since: datetime, to: datetime) -> Newest | None:
        import numpy as np

        first, end = np.searchsorted(month.times, [_micros(since), _micros(to)], side="right")
        if first == end:
            return None
        rows = np.arange(first, end)
        if month.times[first] != month.times[end - 1]:
            rows = first + _last_of_each(month.keys[first:end])
        return Newest(
            self._view, month.names[month.keys[rows]].tolist(), month.times[rows], month.values[rows]
        )

    def _loaded(self, since: datetime, to: datetime) -> Iterator[_Month]:
        wanted = partitions.months(since, to)
        if any(name not in self._months for name in wanted):
            self._months = {
                name: self._months[name] if name in self._months else self._read(name) for name in wanted
            }
        return (month for month in (self._months[name] for name in wanted) if month is not None)

    def _read(self, name: str) -> _Month | None:
        import numpy as np
        import pyarrow.parquet

        path = partitions.folder(self._settings, self._view.name) / f"{name}.parquet"
        if not path.is_file():
            return None
        table = pyarrow.parquet.read_table(path)
        entities = table.column(self._view.entity).combine_chunks().dictionary_encode()
        return _Month(
            times=table.column(partitions.TIME).to_numpy().astype("datetime64[us]").astype("int64"),
            keys=entities.indices.to_numpy(),
            names=np.array(entities.dictionary.to_pylist(), dtype=object),
            values=np.column_stack([table.column(f).to_numpy() for f in self._view.features]),
        )


def _last_of_each(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of the last occurrence of every value, in order."""
    import numpy as np

    _, from_the_end = np.unique(keys[::-1], return_index=True)
    return np.sort(len(keys) - 1 - from_the_end)


def _protos(rows: Newest) -> list[tuple[Any, dict[str, Any], datetime, None]]:
    """Rows as Feast's provider takes them."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    missing = Value()
    return [
        (
            EntityKey(join_keys=[rows.view.entity], entity_values=[Value(string_val=key)]),
            # only NaN differs from itself; Feast stores it as an empty value
            {
                n: Value(double_val=x) if x == x else missing
                for n, x in zip(rows.view.features, row, strict=True)
            },
            EPOCH + time * MICROSECOND,
            None,
        )
        for key, time, row in zip(rows.keys, rows.times.tolist(), rows.values.tolist(), strict=True)
    ]


def _any_between(times: NDArray[np.int64], since: datetime, to: datetime) -> bool:
    import numpy as np

    first, last = np.searchsorted(times, [_micros(since), _micros(to)], side="right")
    return bool(last > first)


def _micros(when: datetime) -> int:
    return (when - EPOCH) // MICROSECOND


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints a progress bar and coloured text to standard output and error, where our own JSON goes."""
    import io

    logger = logging.getLogger("feast")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
