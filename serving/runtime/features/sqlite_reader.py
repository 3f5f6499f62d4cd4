"""Reading Feast's sqlite online store: one statement over the tables of all views.

Feast keeps a table for each view, `<project>_<view>`, with a row for each entity key and feature. One
UNION ALL reads them all in one snapshot, so that a vector never mixes two states of the store.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import BUDGET_S, Layout, RowError, StoreError, oldest_valid
from serving.runtime.features.value import DOUBLE_SIZE, DOUBLE_TAG, number, unpack_double

# sqlite's own 2 MiB hold less than the rows of one busy day, and a page read costs a call
CACHE_KIB = 32 * 1024


class SqliteReader:
    """Reads rows while another process writes them; each read sees what was committed before it.

    Args:
        path: the database file; it may come into being, vanish or be replaced while we run.
        budget_s: how long a read may wait for a lock.
    """

    def __init__(self, path: str, bundle: Bundle, *, budget_s: float = BUDGET_S) -> None:
        self._path = path
        self._bundle = bundle
        self._budget_s = budget_s
        self._layout = Layout.of(bundle)
        # views of one entity share its parameter
        self._keys = [(e, self._layout.serializers[e]) for e in dict.fromkeys(v.entity for v in bundle.views)]
        parameter = {e: i + 1 for i, (e, _) in enumerate(self._keys)}
        self._statement = " UNION ALL ".join(
            f"SELECT {i}, feature_name, value, event_ts "  # noqa: S608 - the names are quoted
            f"FROM {_quoted(f'{bundle.feast_project}_{v.name}')} "
            f"WHERE entity_key = ?{parameter[v.entity]}"
            for i, v in enumerate(bundle.views)
        )
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._local_is_utc = time.timezone == 0 and time.daylight == 0

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        """See `FeatureReader.read`."""
        values = [math.nan] * self._layout.width
        if not values:
            return values
        try:
            keys = [serialize(entities[e]) for e, serialize in self._keys]
        except ValueError as error:
            raise RowError(f"an entity key cannot be one: {error}") from error
        try:
            rows = self._open().execute(self._statement, keys).fetchall()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"online store {self._path}: {error}") from error
        oldest = oldest_valid(self._bundle, now)
        positions = self._layout.positions
        plain = self._local_is_utc
        for view, feature, raw, stamp in rows:
            if not plain or stamp.__class__ is not int:
                stamp = _epoch(stamp)
            if stamp < oldest[view]:
                continue
            at = positions[view].get(feature)
            if at is None or raw is None:
                continue
            if len(raw) == DOUBLE_SIZE and raw[0] == DOUBLE_TAG:
                values[at] = unpack_double(raw, 1)[0]
            else:
                values[at] = self._other(view, feature, at, raw)
        return values

    def warm(self) -> None:
        """Open the file, so that the first request need not; one that is not there yet is left alone."""
        with contextlib.suppress(sqlite3.Error, OSError):
            self._open().execute(self._statement, [b""] * len(self._keys)).fetchall()

    def close(self) -> None:
        """Give back the connection; the next read opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        # an open connection keeps reading a file that was deleted or replaced: compare what lies there now
        status = os.stat(self._path)  # noqa: PTH116 - three times as fast as Path.stat, at every request
        file = (status.st_dev, status.st_ino)
        if self._connection is not None and file == self._file:
            return self._connection
        self.close()
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode=ro",
            uri=True,
            timeout=self._budget_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection, self._file = connection, file
        return connection

    def _other(self, view: int, feature: str, at: int, raw: object) -> float:
        try:
            if not isinstance(raw, bytes):
                raise ValueError(f"is of sqlite type {type(raw).__name__}, expected a blob")
            return number(raw, self._layout.categories.get(at))
        except ValueError as error:
            name = self._bundle.views[view].name
            raise RowError(
                f"online store {self._path}: view {name!r}: feature {feature!r} {error}"
            ) from error


def _quoted(identifier: str) -> str:
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def _epoch(stamp: object) -> float:
    """Turn Feast's event_ts into epoch seconds.

    Feast drops the zone of a UTC time and stores what sqlite's adapter makes of the naive rest: either an ISO
    text, or an integer that took it for local time; that shift is undone here, in the zone of this process.
    """
    if isinstance(stamp, str):
        try:
            moment = datetime.fromisoformat(stamp)
        except ValueError as error:
            raise RowError(f"event_ts {stamp!r} is no ISO time") from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(stamp, int | float):
        return stamp + time.localtime(stamp).tm_gmtoff
    raise RowError(f"event_ts {stamp!r} is no time")
