"""Feast's sqlite online store made fit for one writer and many readers; named in `feature_store.yaml`.

Feast's own commits value by value through one statement each (33 microseconds a value) and locks readers out while
it writes. This one keeps its tables, keys and bytes, so that either reads what the other wrote, and changes how a
batch is written: prepared rows, one `executemany`, write-ahead logging.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from windlass.features import feast_import

# Feast loads this module by its name, but whoever comes first must come by the door
feast_import.load()
# ruff: noqa: E402 - which is why imports follow

from feast.feature_view import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.utils import to_naive_utc

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOUBLE_FIELD = 0x29  # protobuf's tag of `double_val` in Feast's Value: field 5, eight bytes
NAIVE_EPOCH = datetime(1970, 1, 1)  # Feast stores naive UTC
BUSY_SECONDS = 10.0
KNOWN_KEYS = 50_000

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class WalSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """As Feast's own."""

    type: Literal["windlass.features.wal_store.WalSqliteOnlineStore"] = (
        "windlass.features.wal_store.WalSqliteOnlineStore"
    )


class WalSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """See the module."""

    _conn: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[tuple[str, str], bytes] = {}
        self._together = False

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        connection: sqlite3.Connection
        if self._conn is None:
            connection = super()._get_conn(config)
            connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
            connection.execute("PRAGMA journal_mode=WAL")
            # the store can be filled again from the offline rows; a power cut may cost its last commits
            connection.execute("PRAGMA synchronous=OFF")
            # all of a tick's pages, else sqlite writes them out in the middle of it
            connection.execute("PRAGMA cache_size=-65536")
            # pages of the log before they are folded into the file: a tick rewrites the same ones as the last
            connection.execute("PRAGMA wal_autocheckpoint=8000")
        connection = self._conn
        return connection

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Make and drop tables: Feast's columns, but kept in the order of the key.

        A key's features then lie side by side: one seek reads them, and a tick touches half as many pages.
        """
        connection = self._get_conn(config)
        with connection:
            for table in tables_to_keep:
                connection.execute(
                    f'CREATE TABLE IF NOT EXISTS "{self._table(config, table)}" (entity_key BLOB, feature_name TEXT, '
                    "value BLOB, value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, "
                    "PRIMARY KEY(entity_key, feature_name)) WITHOUT ROWID"
                )
            for table in tables_to_delete:
                connection.execute(f'DROP TABLE IF EXISTS "{self._table(config, table)}"')

    @contextlib.contextmanager
    def transaction(self, config: RepoConfig) -> Iterator[None]:
        """Commit all batches written inside at once: a reader sees the views of one moment, not of two."""
        connection = self._get_conn(config)
        self._together = True
        try:
            with connection:
                yield
        finally:
            self._together = False

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows as Feast does, the newest of a key last."""
        # what sqlite's adapter makes of Feast's naive UTC: asked once for each time, not for each value
        stamps: dict[datetime, object] = {}
        rows: list[tuple[object, ...]] = []
        append = rows.append
        for key, values, timestamp, created in data:
            stored_key = self._key(config, key)
            stamp = stamps.get(timestamp)
            if stamp is None:
                stamp = stamps[timestamp] = _adapted(to_naive_utc(timestamp))
            made = None if created is None else _adapted(to_naive_utc(created))
            for feature, value in values.items():
                text = extract_text_and_num(value, False)[0]
                append((stored_key, feature, value.SerializeToString(), text, stamp, made))
            if progress:
                progress(1)
        statement = (
            f'INSERT OR REPLACE INTO "{self._table(config, table)}" '  # noqa: S608 - the name is quoted
            "(entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._execute(config, statement, rows)

    def write_rows(
        self,
        config: RepoConfig,
        table: FeatureView,
        keys: Sequence[str],
        features: Sequence[str],
        values: NDArray[np.float64],
        times: NDArray[np.int64],
    ) -> None:
        """Write rows of a view with one string key and features of type double, without a proto for each value.

        Args:
            values: [row, feature]; NaN is stored as Feast stores a missing value.
            times: microseconds since 1970.
        """
        entity = table.entity_columns[0].name
        count = len(features)
        moments, which = np.unique(times, return_inverse=True)
        stamps = [_adapted(NAIVE_EPOCH + timedelta(microseconds=int(t))) for t in moments]
        flat = np.ascontiguousarray(values, dtype="<f8").reshape(-1)
        missing = np.isnan(flat)
        encoded = np.empty((len(flat), 9), dtype=np.uint8)
        encoded[:, 0] = DOUBLE_FIELD
        encoded[:, 1:] = flat.view(np.uint8).reshape(-1, 8)
        raw = encoded.tobytes()
        starts = range(0, len(raw), 9)
        blobs = [b"" if gone else raw[i : i + 9] for i, gone in zip(starts, missing.tolist(), strict=True)]
        rows = [
            (self._string_key(config, entity, key), stamps[moment], *blobs[i : i + count])
            for key, moment, i in zip(keys, which.tolist(), range(0, len(blobs), count), strict=True)
        ]
        self._execute(config, self._upsert(config, table, tuple(features)), rows)

    def _upsert(self, config: RepoConfig, table: FeatureView, features: tuple[str, ...]) -> str:
        """One statement for all values of a key, at half of what one for each costs: ?1 key, ?2 time, ?3… values.

        Without Feast's text form of a value, which only its search through documents reads.
        """
        tuples = ", ".join(f"(?1, {_literal(f)}, ?{i}, ?2)" for i, f in enumerate(features, start=3))
        return (
            # REPLACE would take the old row out of every index and put a new one in
            f'INSERT INTO "{self._table(config, table)}" '  # noqa: S608 - the names are quoted
            f"(entity_key, feature_name, value, event_ts) VALUES {tuples} "
            "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "event_ts = excluded.event_ts, value_text = NULL, created_ts = NULL"
        )

    def _execute(self, config: RepoConfig, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        connection = self._get_conn(config)
        with contextlib.nullcontext() if self._together else connection:
            connection.executemany(statement, rows)

    def clear(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget all rows of a view; rows from a later time than a replay begins at would be a look into the future."""
        connection = self._get_conn(config)
        with connection:
            connection.execute(f'DELETE FROM "{self._table(config, table)}"')  # noqa: S608

    def close(self) -> None:
        """Give back the connection, with everything in the main file."""
        if self._conn is not None:
            with contextlib.suppress(sqlite3.OperationalError):
                # a reader that is in the middle of something keeps the log; the next writer folds it in
                self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._conn.close()
            self._conn = None

    def _table(self, config: RepoConfig, table: FeatureView) -> str:
        name: str = compute_table_id(
            config.project, table, config.registry.enable_online_feature_view_versioning
        )
        return name.replace('"', '""')

    def _key(self, config: RepoConfig, key: EntityKey) -> bytes:
        if len(key.join_keys) == 1 and key.entity_values[0].WhichOneof("val") == "string_val":
            return self._string_key(config, key.join_keys[0], key.entity_values[0].string_val)
        return self._serialized(config, key)

    def _string_key(self, config: RepoConfig, entity: str, value: str) -> bytes:
        known = self._keys.get((entity, value))
        if known is None:
            if len(self._keys) >= KNOWN_KEYS:
                self._keys.clear()
            key = EntityKey(join_keys=[entity], entity_values=[Value(string_val=value)])
            known = self._keys[entity, value] = self._serialized(config, key)
        return known

    def _serialized(self, config: RepoConfig, key: EntityKey) -> bytes:
        out: bytes = serialize_entity_key(
            key, entity_key_serialization_version=config.entity_key_serialization_version
        )
        return out


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _adapted(naive: datetime) -> object:
    """What sqlite stores of a datetime, by the adapter that Feast registers."""
    adapt: Any = sqlite3.adapt
    adapted: object = adapt(naive)
    return adapted
