"""The readers see what Feast wrote, value by value, and no more than is still valid."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.runtime import bundle
from serving.runtime.features.reader import StoreError, StoreTimeoutError, open_reader
from serving.runtime.features.redis_reader import RedisReader
from serving.runtime.features.sqlite_reader import SqliteReader
from windlass.errors import UsageError

NOW = 1_360_000_000.0
DAY = 86_400
PATIENT = 30.0  # a busy machine must not turn a read into a failure where the test is about something else
KINDS = ["text", "long", "short", "double", "single", "flag"]
CATEGORIES = ("alpha", "béta", "")
MakeBundle = Callable[..., Path]
OnlineDb = Callable[..., Path]


class BothWays:
    """A redis reader whose two ways, in a batch over the event loop and alone, must give the same."""

    def __init__(self, real: RedisReader) -> None:
        self.real = real

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        async def batch() -> Any:
            answered = asyncio.get_running_loop().create_future()
            self.real.begin([entities, entities], [now, now], PATIENT, answered.set_result)
            outcome = await answered
            self.real._connection.close()
            return outcome

        alone = self.real.read(entities, now)
        first, second = asyncio.run(batch())
        for values in (first, second):
            assert values == pytest.approx(alone, rel=0, abs=0, nan_ok=True)
        return alone

    def close(self) -> None:
        self.real.close()


@pytest.fixture(params=["sqlite", "redis"])
def feast_with_reader(request: pytest.FixtureRequest) -> tuple[Any, Callable[[bundle.Bundle], Any]]:
    if request.param == "sqlite":
        stores = request.getfixturevalue("sqlite_feast")
        return stores, lambda b: SqliteReader(str(stores.path), b)
    stores = request.getfixturevalue("redis_feast")
    url = request.getfixturevalue("redis_url")
    return stores, lambda b: BothWays(RedisReader(url, b, budget_s=PATIENT))


@pytest.fixture
def all_kinds(make_bundle: MakeBundle) -> bundle.Bundle:
    return bundle.load(
        make_bundle(
            entities=["carrier"],
            views=[{"name": "all_kinds", "entity": "carrier", "ttl_seconds": DAY, "features": KINDS}],
            inputs=[
                {"name": k, "view": "all_kinds", "categories": list(CATEGORIES) if k == "text" else None}
                for k in KINDS
            ],
        )
    )


ROWS = [
    {"text": "béta", "long": 1 << 53, "short": -7, "double": 0.1, "single": 0.1, "flag": True},
    {"text": "", "long": -1, "short": 0, "double": -0.0, "single": -1.5e-30, "flag": False},
    {"text": "unknown", "long": 0, "short": 2**31 - 1, "double": 1e300, "single": 3.0, "flag": True},
    {"text": None, "long": None, "short": None, "double": None, "single": None, "flag": None},
]


def as_input(feature: str, content: Any) -> float:
    if content is None:
        return math.nan
    if feature == "text":
        return float(CATEGORIES.index(content)) if content in CATEGORIES else math.nan
    return float(content)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_reads_every_type_as_get_online_features_does(
    feast_with_reader: tuple[Any, Any], all_kinds: bundle.Bundle, row: int
) -> None:
    stores, make = feast_with_reader
    key = f"C{row}"
    # Feast leaves out a column that is empty altogether: a full row goes with it
    stores.write("all_kinds", [{"carrier": key, **ROWS[row]}, {"carrier": "full", **ROWS[0]}])
    theirs = stores.read("all_kinds", KINDS, {"carrier": key})
    assert [as_input(k, theirs[k]) for k in KINDS] == pytest.approx(
        [as_input(k, ROWS[row][k]) for k in KINDS], rel=1e-7, nan_ok=True
    )
    reader = make(all_kinds)
    try:
        ours = reader.read({"carrier": key}, NOW)
    finally:
        reader.close()
    assert ours == pytest.approx([as_input(k, theirs[k]) for k in KINDS], rel=0, abs=0, nan_ok=True)


def test_reads_views_of_several_entities_in_the_bundles_order(
    feast_with_reader: tuple[Any, Any], make_bundle: MakeBundle
) -> None:
    stores, make = feast_with_reader
    stores.write("carrier_delays", [{"carrier": "UA", "delay_1h": 11.5, "late_share": 0.4}])
    stores.write("origin_load", [{"origin": "JFK", "departures": 31.0}])
    reader = make(bundle.load(make_bundle()))
    try:
        assert reader.read({"carrier": "UA", "origin": "JFK"}, NOW) == [11.5, 0.4, 31.0]
        absent = reader.read({"carrier": "ZZ", "origin": "JFK"}, NOW)
        assert absent == pytest.approx([math.nan, math.nan, 31.0], nan_ok=True)
    finally:
        reader.close()


def test_an_integer_entity_is_found(feast_with_reader: tuple[Any, Any], make_bundle: MakeBundle) -> None:
    stores, make = feast_with_reader
    stores.write("seat_prices", [{"seat": -3, "price": 99.5}])
    reader = make(
        bundle.load(
            make_bundle(
                entities=["seat"],
                entity_types={"seat": "int64"},
                views=[{"name": "seat_prices", "entity": "seat", "ttl_seconds": 0, "features": ["price"]}],
                inputs=[{"name": "price", "view": "seat_prices"}],
            )
        )
    )
    try:
        assert reader.read({"seat": "-3"}, NOW + 1e9) == [99.5]
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("age", "expired"),
    [
        pytest.param(0, False, id="new"),
        pytest.param(DAY, False, id="at-its-ttl"),
        pytest.param(DAY + 1, True, id="past-its-ttl"),
    ],
)
def test_an_expired_row_is_absent(
    feast_with_reader: tuple[Any, Any], make_bundle: MakeBundle, age: float, expired: bool
) -> None:
    stores, make = feast_with_reader
    stores.write("origin_load", [{"origin": f"E{age}", "departures": 7.0}])
    reader = make(bundle.load(make_bundle()))
    try:
        departures = reader.read({"carrier": "none", "origin": f"E{age}"}, NOW + age)[2]
    finally:
        reader.close()
    assert math.isnan(departures) is expired


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_expiry_does_not_depend_on_the_time_zone(
    sqlite_feast: Any, make_bundle: MakeBundle, move_to_zone: Callable[[str], None], zone: str
) -> None:
    """Verify that the shift which sqlite's adapter gives a naive UTC time is undone."""
    move_to_zone(zone)
    key = zone.replace("/", "")
    sqlite_feast.write("origin_load", [{"origin": key, "departures": 7.0}])
    reader = SqliteReader(str(sqlite_feast.path), bundle.load(make_bundle()))
    try:
        assert reader.read({"carrier": "none", "origin": key}, NOW + DAY)[2] == 7.0
        assert math.isnan(reader.read({"carrier": "none", "origin": key}, NOW + DAY + 1)[2])
    finally:
        reader.close()


@pytest.mark.parametrize(
    "stamp",
    [
        pytest.param(int(NOW), id="epoch"),
        pytest.param("2013-02-04 17:46:40", id="iso-text"),
        pytest.param("2013-02-04T17:46:40.000000", id="iso-text-with-fraction"),
        pytest.param("2013-02-04T18:46:40+01:00", id="iso-text-with-zone"),
    ],
)
def test_every_form_of_event_ts_is_read(online_db: OnlineDb, make_bundle: MakeBundle, stamp: object) -> None:
    path = online_db([("origin_load", "origin", "JFK", {"departures": 7.0})], at=stamp)
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    try:
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW + DAY)[2] == 7.0
        assert math.isnan(reader.read({"carrier": "none", "origin": "JFK"}, NOW + DAY + 1)[2])
    finally:
        reader.close()


def test_a_row_is_seen_as_soon_as_another_process_has_committed(
    online_db: OnlineDb, make_bundle: MakeBundle
) -> None:
    path = online_db([("origin_load", "origin", "JFK", {"departures": 0.0})])
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    writer = """
import sqlite3, struct, sys
connection = sqlite3.connect(sys.argv[1])
for line in sys.stdin:
    connection.execute("UPDATE windlass_origin_load SET value = ?", (b"\\x29" + struct.pack("<d", float(line)),))
    connection.commit()
    print("committed", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for expected in range(1, 50):
            process.stdin.write(f"{expected}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "committed\n"
            assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == expected
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
        reader.close()


def test_a_store_that_nobody_has_open_is_read_and_may_be_written_again(
    online_db: OnlineDb, make_bundle: MakeBundle
) -> None:
    """Verify that reading a WAL file alone neither fails nor keeps a later writer's rows away."""
    path = online_db([("origin_load", "origin", "JFK", {"departures": 1.0})], keep_open=False)
    assert not path.with_name(path.name + "-wal").exists()
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    try:
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 1.0
        online_db([("origin_load", "origin", "JFK", {"departures": 2.0})], keep_open=False)
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 2.0
    finally:
        reader.close()


def test_a_deleted_store_fails_and_a_new_one_is_read(online_db: OnlineDb, make_bundle: MakeBundle) -> None:
    path = online_db([("origin_load", "origin", "JFK", {"departures": 1.0})])
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    try:
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 1.0
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        with pytest.raises(StoreError, match="No such file"):
            reader.read({"carrier": "none", "origin": "JFK"}, NOW)
        online_db([("origin_load", "origin", "JFK", {"departures": 2.0})])
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 2.0
    finally:
        reader.close()


def test_a_locked_store_fails_and_is_read_again(online_db: OnlineDb, make_bundle: MakeBundle) -> None:
    path = online_db([("origin_load", "origin", "JFK", {"departures": 1.0})], wal=False)
    # outside WAL, which is how Feast itself creates a store, a writer keeps readers out
    other = sqlite3.connect(path, isolation_level=None)
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            reader.read({"carrier": "none", "origin": "JFK"}, NOW)
        other.execute("COMMIT")
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 1.0
    finally:
        reader.close()
        other.close()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"\x12\x03abc", "expected a number", id="a-string-for-a-number"),
        pytest.param(b"\xff\xff\xff", "truncated|varint|scalar", id="garbage"),
        pytest.param("text", "expected a blob", id="another-sqlite-type"),
    ],
)
def test_a_value_that_is_none_is_a_failure_of_the_store(
    online_db: OnlineDb, make_bundle: MakeBundle, raw: object, message: str
) -> None:
    path = online_db([("origin_load", "origin", "JFK", {"departures": 1.0})])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE windlass_origin_load SET value = ?", (raw,))
    connection.close()
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    try:
        with pytest.raises(StoreError, match=f"view 'origin_load': feature 'departures' .*({message})"):
            reader.read({"carrier": "none", "origin": "JFK"}, NOW)
    finally:
        reader.close()


def test_a_file_that_is_no_database_is_a_failure_of_the_store(
    tmp_path: Path, make_bundle: MakeBundle
) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(b"not a database, " * 100)
    reader = SqliteReader(str(path), bundle.load(make_bundle()))
    with pytest.raises(StoreError, match="not a database"):
        reader.read({"carrier": "none", "origin": "JFK"}, NOW)


def test_a_view_named_like_sql_is_only_a_name(online_db: OnlineDb, make_bundle: MakeBundle) -> None:
    path = online_db([])
    loaded = bundle.load(make_bundle())
    views = (replace(loaded.views[0], name='x" WHERE 1=1; DROP TABLE windlass_origin_load; --'),)
    reader = SqliteReader(str(path), replace(loaded, views=views, inputs=loaded.inputs[3:]))
    with pytest.raises(StoreError, match="no such table"):
        reader.read({"carrier": "none", "origin": "JFK"}, NOW)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM windlass_origin_load").fetchone() == (0,)
    connection.close()


def test_a_redis_that_hangs_fails_the_blocking_read_too_and_is_read_again(
    redis_feast: Any, redis_url: str, make_bundle: MakeBundle
) -> None:
    import redis

    redis_feast.write("origin_load", [{"origin": "LGA", "departures": 5.0}])
    redis_feast.write("origin_load", [{"origin": "EWR", "departures": 6.0}])
    with redis.Redis.from_url(redis_url) as client:
        process = client.info("server")["process_id"]
    reader = RedisReader(redis_url, bundle.load(make_bundle()), budget_s=PATIENT)
    try:
        assert reader.read({"carrier": "none", "origin": "LGA"}, NOW)[2] == 5.0
        os.kill(process, signal.SIGSTOP)
        reader._budget_s = 0.2
        try:
            with pytest.raises(StoreTimeoutError, match="no complete answer in time"):
                reader.read({"carrier": "none", "origin": "LGA"}, NOW)
        finally:
            os.kill(process, signal.SIGCONT)
        reader._budget_s = PATIENT
        # the late answer to the question about LGA must not become the one about EWR
        assert reader.read({"carrier": "none", "origin": "EWR"}, NOW)[2] == 6.0
    finally:
        reader.close()


def test_a_warm_reader_has_its_file_open(online_db: OnlineDb, make_bundle: MakeBundle) -> None:
    """Verify that the first request finds the store opened, whatever it holds by then."""
    reader = open_reader(f"sqlite:{online_db([])}", bundle.load(make_bundle()))
    try:
        assert isinstance(reader, SqliteReader)
        assert reader._connection is not None
        online_db([("origin_load", "origin", "JFK", {"departures": 1.0})])
        assert reader.read({"carrier": "none", "origin": "JFK"}, NOW)[2] == 1.0
    finally:
        reader.close()


def test_a_store_that_is_not_there_yet_stops_no_server_from_starting(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    described = bundle.load(make_bundle())
    for address in (f"sqlite:{tmp_path}/absent.db", "redis://127.0.0.1:1/0"):
        open_reader(address, described).close()


def test_a_redis_that_is_not_there_is_a_failure_of_the_store(make_bundle: MakeBundle) -> None:
    reader = RedisReader("redis://:secret@127.0.0.1:1/0", bundle.load(make_bundle()))
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0: .*refused") as failure:
        reader.read({"carrier": "none", "origin": "LGA"}, NOW)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("address", ["sqlite:", "postgres://host", "online.db"])
def test_another_store_is_refused(make_bundle: MakeBundle, address: str) -> None:
    with pytest.raises(UsageError, match="give sqlite:PATH or redis://"):
        open_reader(address, bundle.load(make_bundle()))
