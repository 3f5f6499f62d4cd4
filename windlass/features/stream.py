"""Keeping the online store at a moment of event time: batch materialization, then a tick an hour.

A tick writes the rows of its hour through Feast's provider, the last step of `FeatureStore.push`: the same bytes,
without turning a data frame into protos value by value each time, which costs ten times as much as the rest.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from windlass import telemetry
from windlass.contract import View, Workload
from windlass.features import partitions, store
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
        telemetry.switch_off()
        store.agreed(workload, settings)
        self._workload = workload
        self._settings = settings
        self._store = store.open_store(settings)
        self._provider: Any = self._store._get_provider()
        self._at: datetime | None = None
        self._sources = [_Rows(view, settings) for view in workload.views if view.stream]
        self._batch = [view for view in workload.views if not view.stream]
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
                data = rows.between(since, to)
                if data:
                    self._provider.online_write_batch(self._store.config, self._views[rows.view.name], data, None)
                    written += len(data)
        due = [v.name for v in self._batch if _any_between(self._settings, v, since, to)]
        if due:
            self._materialize(due, since + MICROSECOND, to)
        self._at = to
        return written

    def push(self, view: str, rows: pd.DataFrame) -> None:
        """Push rows of a stream view through Feast's own `push`, as a caller with rows of their own does."""
        push(self._store, view, rows)

    def close(self) -> None:
        """Give back the online store."""
        online = self._provider.online_store
        if hasattr(online, "close") and self._settings.online_store == "sqlite":
            online.close()

    def _materialize(self, views: list[str], start: datetime, end: datetime) -> None:
        with _quiet():
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


def push(feature_store: Any, view: str, rows: pd.DataFrame) -> None:
    """`FeatureStore.push` to the push source of a stream view."""
    from feast.data_source import PushMode

    source = feature_store.get_feature_view(view).stream_source
    feature_store.push(source.name, rows, to=PushMode.ONLINE)


@dataclass(frozen=True)
class _Month:
    """One month of a view in memory, ordered by time."""

    times: NDArray[np.int64]
    keys: NDArray[np.int32]
    values: NDArray[np.float64]


class _Rows:
    """A view's rows as Feast's provider takes them; a month is in memory at a time."""

    def __init__(self, view: View, settings: Settings) -> None:
        from feast.protos.feast.types.Value_pb2 import Value

        self.view = view
        self._settings = settings
        self._entity_keys: list[Any] = []
        self._position: dict[str, int] = {}
        self._months: dict[str, _Month | None] = {}
        self._value = Value
        self._missing = Value()

    def between(self, since: datetime, to: datetime) -> list[tuple[Any, dict[str, Any], datetime, None]]:
        """The newest row of each key with a time after `since`, up to `to`."""
        newest: dict[int, tuple[Any, dict[str, Any], datetime, None]] = {}
        for month in self._loaded(since, to):
            newest.update(self._slice(month, since, to))
        return list(newest.values())

    def _slice(
        self, month: _Month, since: datetime, to: datetime
    ) -> dict[int, tuple[Any, dict[str, Any], datetime, None]]:
        import numpy as np

        first, last = np.searchsorted(month.times, [_micros(since), _micros(to)], side="right")
        if first == last:
            return {}
        keys = month.keys[first:last]
        if month.times[first] == month.times[last - 1]:
            positions = np.arange(first, last)
        else:
            # of several rows of a key the last stays
            _, reverse = np.unique(keys[::-1], return_index=True)
            positions = last - 1 - np.sort(reverse)[::-1]
        names, value, missing, entity_keys = self.view.features, self._value, self._missing, self._entity_keys
        rows = {}
        stamps = {int(t): _moment(int(t)) for t in np.unique(month.times[positions])}
        for key, time, row in zip(
            month.keys[positions].tolist(), month.times[positions].tolist(), month.values[positions].tolist(), strict=True
        ):
            # x == x is false for NaN alone, which Feast stores as an empty value
            protos = {n: value(double_val=x) if x == x else missing for n, x in zip(names, row, strict=True)}
            rows[key] = (entity_keys[key], protos, stamps[time], None)
        return rows

    def _loaded(self, since: datetime, to: datetime) -> Iterator[_Month]:
        wanted = [p.stem for p in partitions.files(self._settings, self.view.name, since, to)]
        self._months = {name: month for name, month in self._months.items() if name in wanted}
        for name in wanted:
            if name not in self._months:
                self._months[name] = self._read(name)
            month = self._months[name]
            if month is not None:
                yield month

    def _read(self, name: str) -> _Month | None:
        import numpy as np
        import pyarrow.parquet

        path = partitions.folder(self._settings, self.view.name) / f"{name}.parquet"
        table = pyarrow.parquet.read_table(path)
        if table.num_rows == 0:
            return None
        entities = table.column(self.view.entity).combine_chunks().dictionary_encode()
        known = np.array([self._code(key) for key in entities.dictionary.to_pylist()], dtype=np.int32)
        return _Month(
            times=table.column(partitions.TIME).to_numpy().astype("datetime64[us]").astype("int64"),
            keys=known[entities.indices.to_numpy()],
            values=np.column_stack([table.column(f).to_numpy() for f in self.view.features]),
        )

    def _code(self, key: str) -> int:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey

        if key not in self._position:
            self._position[key] = len(self._entity_keys)
            self._entity_keys.append(EntityKey(join_keys=[self.view.entity], entity_values=[self._value(string_val=key)]))
        return self._position[key]


def _any_between(settings: Settings, view: View, since: datetime, to: datetime) -> bool:
    return any(
        partitions.has_rows(path, since, to) for path in partitions.files(settings, view.name, since, to)
    )


def _micros(when: datetime) -> int:
    return (when - EPOCH) // MICROSECOND


def _moment(micros: int) -> datetime:
    return EPOCH + micros * MICROSECOND


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
