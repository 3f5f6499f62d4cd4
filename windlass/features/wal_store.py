"""Feast's sqlite online store made fit for one writer and many readers; named in `feature_store.yaml`.

Feast's own commits value by value through one statement each (33 microseconds a value) and locks readers out while
it writes. This one keeps its tables, keys and bytes, so that either reads what the other wrote, and changes how a
batch is written: prepared rows, one `executemany`, write-ahead logging.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from feast.feature_view import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.utils import to_naive_utc

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

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, bytes] = {}
        self._together = False

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if self._conn is None:
            connection: sqlite3.Connection = super()._get_conn(config)
            connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
            connection.execute("PRAGMA journal_mode=WAL")
            # the store can be filled again from the offline rows; a power cut may cost its last commits
            connection.execute("PRAGMA synchronous=OFF")
        return self._conn

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
        connection = self._get_conn(config)
        name = self._table(config, table)
        # what sqlite's adapter makes of Feast's naive UTC: asked once for each time, not for each value
        stamps: dict[datetime, object] = {}
        rows: list[tuple[object, ...]] = []
        append = rows.append
        for key, values, timestamp, created in data:
            stored_key = self._key(config, key)
            stamp = stamps.get(timestamp)
            if stamp is None:
                stamp = stamps[timestamp] = sqlite3.adapt(to_naive_utc(timestamp))
            made = None if created is None else sqlite3.adapt(to_naive_utc(created))
            for feature, value in values.items():
                append((stored_key, feature, value.SerializeToString(), extract_text_and_num(value, False)[0], stamp, made))
            if progress:
                progress(1)
        statement = (
            f'INSERT INTO "{name}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '  # noqa: S608
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
        )
        if self._together:
            connection.executemany(statement, rows)
        else:
            with connection:
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
        name: str = compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
        return name.replace('"', '""')

    def _key(self, config: RepoConfig, key: EntityKey) -> bytes:
        if len(key.join_keys) != 1:
            return self._serialized(config, key)
        short = f"{key.join_keys[0]}\0{key.entity_values[0].string_val}"
        known = self._keys.get(short)
        if known is None or not key.entity_values[0].HasField("string_val"):
            known = self._serialized(config, key)
            if len(self._keys) < KNOWN_KEYS:
                self._keys[short] = known
        return known

    def _serialized(self, config: RepoConfig, key: EntityKey) -> bytes:
        out: bytes = serialize_entity_key(
            key, entity_key_serialization_version=config.entity_key_serialization_version
        )
        return out
