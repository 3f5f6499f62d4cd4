"""The online store: at each hour the same values as the point-in-time join, and the same bytes as Feast's."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serving.runtime.bundle import Bundle
from serving.runtime.features.sqlite_reader import SqliteReader
from windlass.features import asof, definitions, store, stream
from windlass.features.stream import OnlineStream
from windlass.settings import Settings

HOUR = timedelta(hours=1)
BEGIN = datetime(2013, 2, 8, 12, tzinfo=UTC)


@pytest.fixture
def settings(built: object, tmp_path: Path) -> Settings:
    return built.scratch(tmp_path / "home")


def names(built: object) -> list[str]:
    return [feature for view in built.workload.views for feature in view.features]


def some_keys(built: object, count: int, seed: int) -> pd.DataFrame:
    return built.requests(count, seed).drop(columns="event_timestamp")


def read_all(built: object, reader: SqliteReader, asked: pd.DataFrame, now: datetime) -> np.ndarray:
    rows = asked[list(built.workload.entities)].to_dict("records")
    return np.array([reader.read(keys, now.timestamp()) for keys in rows])


def test_a_server_sees_what_was_known_at_each_hour(built: object, settings: Settings, bundle: Bundle) -> None:
    """Verify, over three days of ticks, every value that a server's reader returns against the offline join."""
    reader = SqliteReader(str(settings.online_db), bundle)
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN - timedelta(days=8), BEGIN)
        for hour in range(0, 72, 4):
            at = BEGIN + hour * HOUR
            for step in range(4):
                online.advance(at - (3 - step) * HOUR)
            asked = some_keys(built, 25, seed=hour)
            # a request within the hour, not only on it
            asked["event_timestamp"] = pd.Timestamp(at + timedelta(minutes=hour % 60)).as_unit("us")
            expected = asof.lookup(built.workload, settings, asked)[names(built)].to_numpy()
            got = read_all(built, reader, asked, at + timedelta(minutes=hour % 60))
            np.testing.assert_array_equal(got, expected)
    reader.close()


def test_an_hour_can_come_by_feasts_own_push(built: object, settings: Settings, bundle: Bundle) -> None:
    """Verify that a server sees the same whether an hour was pushed through Feast or written by a tick."""
    reader = SqliteReader(str(settings.online_db), bundle)
    asked = some_keys(built, 40, seed=3)
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN - timedelta(days=8), BEGIN)
        before = read_all(built, reader, asked, BEGIN + HOUR)
        assert online.push_hour(BEGIN + HOUR) > 50
        pushed = read_all(built, reader, asked, BEGIN + HOUR)
        online.advance(BEGIN + HOUR)
        np.testing.assert_array_equal(read_all(built, reader, asked, BEGIN + HOUR), pushed)
        assert not np.array_equal(before, pushed, equal_nan=True)
    reader.close()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_times_mean_the_same_to_feast_and_to_the_server(
    built: object, settings: Settings, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Verify that the zone of the machine moves nothing: sqlite stores Feast's naive UTC by way of local time."""
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with contextlib.closing(OnlineStream(built.workload, settings)) as online:
            online.materialize(BEGIN - timedelta(days=8), BEGIN)
            online.advance(BEGIN + HOUR)
        reader = SqliteReader(str(settings.online_db), bundle)
        asked = some_keys(built, 20, seed=3)
        # the newest weather is from the full hour, and lives for six
        edge = BEGIN + 7 * HOUR
        for at in (BEGIN + HOUR, edge, edge + timedelta(seconds=1)):
            asked["event_timestamp"] = pd.Timestamp(at).as_unit("us")
            rows = asof.lookup(built.workload, settings, asked)
            got = read_all(built, reader, asked, at)
            weather = names(built).index("weather_temp")
            served = got[:, weather]
            if at <= edge:
                assert not np.isnan(served).any()
            else:
                assert np.isnan(served).all()
            if at == BEGIN + HOUR:
                np.testing.assert_array_equal(got, rows[names(built)].to_numpy())
    finally:
        monkeypatch.undo()
        time.tzset()


def content(path: Path, view: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = f'SELECT entity_key, feature_name, value, event_ts FROM "windlass_{view}" ORDER BY 1, 2'  # noqa: S608 - our own names
        return connection.execute(query).fetchall()


def test_a_tick_writes_what_feasts_own_push_writes(built: object, settings: Settings, tmp_path: Path) -> None:
    """Verify, byte for byte, our ticks against `FeatureStore.push` into Feast's own sqlite store."""
    since, to = BEGIN, BEGIN + 5 * HOUR
    plain = _plain_feast(settings, tmp_path)
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(since - HOUR, since)
        for view in built.workload.views:
            online._clear(online._views[view.name])
        online.advance(to)
    for view in (v for v in built.workload.views if v.stream):
        rows = view.compute(built.prepared)
        rows = rows[(rows["event_timestamp"] > since) & (rows["event_timestamp"] <= to)]
        stream.push(plain, view.name, rows)
        ours = content(settings.online_db, view.name)
        assert len(ours) == rows[view.entity].nunique() * len(view.features) > 0
        assert ours == content(tmp_path / "plain" / "online.db", view.name)


def _plain_feast(settings: Settings, folder: Path) -> object:
    """The same definitions in a store of Feast's own sqlite class."""
    from feast import FeatureStore, RepoConfig

    (folder / "plain").mkdir()
    config = RepoConfig(
        project="windlass",
        provider="local",
        registry=str(folder / "plain" / "registry.db"),
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(folder / "plain" / "online.db")},
        entity_key_serialization_version=3,
    )
    plain = FeatureStore(config=config)
    plain.apply(definitions.read(settings).objects())
    return plain


def test_feast_reads_online_what_the_server_reads(built: object, settings: Settings, bundle: Bundle) -> None:
    """Verify Feast's own online retrieval against the server's reader, on rows that have not expired."""
    at = BEGIN + 6 * HOUR
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN - timedelta(days=8), BEGIN)
        for hour in range(1, 7):
            online.advance(BEGIN + hour * HOUR)
    opened = store.open_store(settings)
    reader = SqliteReader(str(settings.online_db), bundle)
    compared = 0
    for keys in some_keys(built, 20, seed=9).to_dict("records"):
        answer = opened.get_online_features(opened.get_feature_service("flights_v1"), [keys]).to_dict()
        served = reader.read(keys, at.timestamp())
        for name, value in zip(names(built), served, strict=True):
            if not np.isnan(value):  # Feast ignores the time to live, the server does not
                assert answer[name] == [value]
                compared += 1
    assert compared > 400


def test_steps_of_any_length_lead_to_the_same_store(
    built: object, settings: Settings, tmp_path: Path
) -> None:
    """Verify that hours which are skipped, over the end of a week too, leave the same newest rows."""
    end = BEGIN + 90 * HOUR  # past Monday, when the batch view has new rows
    other = built.scratch(tmp_path / "other")
    for place, step in ((settings, 1), (other, 15)):
        with contextlib.closing(OnlineStream(built.workload, place)) as online:
            online.materialize(BEGIN - timedelta(days=8), BEGIN)
            written = sum(online.advance(BEGIN + hour * HOUR) for hour in range(step, 91, step))
            assert online.at == end
            assert written > 0
    for view in built.workload.views:
        assert content(settings.online_db, view.name) == content(other.online_db, view.name)
    monday = int(datetime(2013, 2, 11, tzinfo=UTC).timestamp())
    assert {row[3] for row in content(settings.online_db, "dest_history")} == {monday}


def test_going_back_in_time_forgets_the_future(built: object, settings: Settings, bundle: Bundle) -> None:
    """Verify that a second replay in the same home does not begin with the end of the first."""
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN, BEGIN + 72 * HOUR)
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN - timedelta(days=8), BEGIN)
        assert online.advance(BEGIN - HOUR) == 0
    for view in built.workload.views:
        assert max(row[3] for row in content(settings.online_db, view.name)) <= BEGIN.timestamp()


def test_a_reader_sees_all_of_a_tick_or_nothing(built: object, settings: Settings) -> None:
    """Verify that servers read on while a tick is written, and see its views together."""
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.materialize(BEGIN - timedelta(days=8), BEGIN)
        with contextlib.closing(sqlite3.connect(settings.online_db, timeout=0)) as reader:
            newest = "SELECT max(a.event_ts), max(b.event_ts) FROM windlass_carrier_delays a, windlass_tail_delays b"
            before = reader.execute(newest).fetchone()
            with online._together():
                for rows in online._sources:
                    online._write(rows.newest(BEGIN, BEGIN + HOUR))
                    assert reader.execute(newest).fetchone() == before
            after = reader.execute(newest).fetchone()
        assert after == tuple(int((BEGIN + HOUR).timestamp()) for _ in range(2))
        assert before == tuple(int(BEGIN.timestamp()) for _ in range(2))


def test_rows_of_a_file_are_pushed_through_feast(
    built: object, settings: Settings, bundle: Bundle, tmp_path: Path
) -> None:
    """Verify `windlass features push`, the way in for a person with rows of their own."""
    view = next(v for v in built.workload.views if v.name == "tail_turn")
    path = tmp_path / "rows.csv"
    path.write_text(
        "tailnum,event_timestamp,tail_ready_hours\nN1XX,2013-02-08T12:00:00Z,3.5\nN2XX,2013-02-08T12:00:00Z,\n"
    )
    assert stream.push_file(built.workload, settings, view.name, path) == 2
    reader = SqliteReader(str(settings.online_db), bundle)
    place = names(built).index("tail_ready_hours")
    keys = {"carrier": "UA", "origin": "EWR", "dest": "IAH"}
    now = (BEGIN + HOUR).timestamp()
    assert reader.read({**keys, "tailnum": "N1XX"}, now)[place] == 3.5
    assert np.isnan(reader.read({**keys, "tailnum": "N2XX"}, now)[place])


@pytest.mark.parametrize(
    ("view", "text", "message"),
    [
        pytest.param("dest_history", "", "no stream view 'dest_history'", id="batch-view"),
        pytest.param(
            "tail_turn", "tailnum,event_timestamp\nN1,2013-01-01\n", "tail_ready_hours", id="no-feature"
        ),
        pytest.param(
            "tail_turn",
            "tailnum,event_timestamp,tail_ready_hours\nN1,2013-01-01,soon\n",
            "is no number",
            id="text",
        ),
    ],
)
def test_rows_that_cannot_be_pushed_are_refused(
    built: object, settings: Settings, tmp_path: Path, view: str, text: str, message: str
) -> None:
    """Verify that each fault is a usage error, and says what is wrong."""
    from windlass.errors import UsageError

    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        stream.push_file(built.workload, settings, view, path)


def test_a_store_that_was_never_filled_begins_by_itself(built: object, settings: Settings) -> None:
    """Verify that the first tick fills the store with what was known then."""
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        online.advance(BEGIN)
        assert online.at == BEGIN
    assert content(settings.online_db, "carrier_delays")
