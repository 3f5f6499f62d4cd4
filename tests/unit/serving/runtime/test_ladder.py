"""Only a failing store climbs down the ladder, each rung is tagged and counted, and a breaker rests the store."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from serving.runtime import bundle
from serving.runtime.features import entity_key
from serving.runtime.features.ladder import BREAKER, Features, Ladder
from serving.runtime.features.reader import RowError
from serving.runtime.features.sqlite_reader import SqliteReader

NOW = 1_360_000_000.0
DAY = 86_400
UA = {"carrier": "UA", "origin": "JFK"}
DEFAULTS = [4.5, 0.25, 12.0]
MakeBundle = Callable[..., Path]
OnlineDb = Callable[..., Path]
ROWS = [
    ("carrier_delays", "carrier", "UA", {"delay_1h": 11.5, "late_share": 0.4}),
    ("origin_load", "origin", "JFK", {"departures": 31.0}),
    ("origin_load", "origin", "LGA", {"departures": 9.0}),
]


class Breakable:
    """The real reader, with a switch."""

    def __init__(self, real: SqliteReader) -> None:
        self.real = real
        self.broken: Exception | None = None
        self.asked = 0

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        self.asked += 1
        if self.broken is not None:
            raise self.broken
        return self.real.read(entities, now)


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def climb(ladder: Ladder, entities: Mapping[str, str], now: float) -> Features:
    [features] = ladder.climb([entities], [now])
    return features


@pytest.fixture
def loaded(make_bundle: MakeBundle) -> bundle.Bundle:
    return bundle.load(make_bundle())


@pytest.fixture
def reader(online_db: OnlineDb, loaded: bundle.Bundle) -> Breakable:
    return Breakable(SqliteReader(str(online_db(ROWS)), loaded))


def test_the_first_rung_is_the_online_store(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    features = climb(ladder, UA, NOW)
    assert (features.values, features.source) == ([11.5, 0.4, 31.0], "online")
    assert ladder.counts.rows == {"online": 1, "cached": 0, "default": 0}
    assert ladder.counts.failures == {}


def test_the_second_rung_is_the_last_value_read(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    climb(ladder, UA, NOW)
    reader.broken = OSError("gone")
    features = climb(ladder, UA, NOW + 60)
    assert (features.values, features.source) == ([11.5, 0.4, 31.0], "cached")
    assert ladder.counts.rows == {"online": 1, "cached": 1, "default": 0}
    assert ladder.counts.failures == {"OSError": 1}


def test_the_last_rung_is_the_training_default(loaded: bundle.Bundle, reader: Breakable) -> None:
    reader.broken = OSError("gone")
    features = climb(Ladder(loaded, reader), UA, NOW)
    assert (features.values, features.source) == (DEFAULTS, "default")


def test_a_row_is_tagged_by_its_lowest_rung(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    climb(ladder, UA, NOW)
    reader.broken = OSError("gone")
    features = climb(ladder, {"carrier": "UA", "origin": "LGA"}, NOW)
    assert (features.values, features.source) == ([11.5, 0.4, 12.0], "default")


def test_views_are_cached_apart(loaded: bundle.Bundle, reader: Breakable) -> None:
    """Verify that a pair of keys never seen together is answered from what was seen of each."""
    ladder = Ladder(loaded, reader)
    climb(ladder, UA, NOW)
    climb(ladder, {"carrier": "none", "origin": "LGA"}, NOW)
    reader.broken = OSError("gone")
    assert climb(ladder, {"carrier": "UA", "origin": "LGA"}, NOW).values == [11.5, 0.4, 9.0]


def test_an_absent_key_is_an_answer_and_no_failure(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    features = climb(ladder, {"carrier": "ZZ", "origin": "JFK"}, NOW)
    assert features.source == "online"
    assert features.values == pytest.approx([math.nan, math.nan, 31.0], nan_ok=True)
    reader.broken = OSError("gone")
    cached = climb(ladder, {"carrier": "ZZ", "origin": "JFK"}, NOW)
    assert cached.source == "cached"
    assert cached.values == pytest.approx([math.nan, math.nan, 31.0], nan_ok=True)


@pytest.mark.parametrize(
    ("later", "source"),
    [pytest.param(DAY, "cached", id="at-the-ttl"), pytest.param(DAY + 1, "default", id="past-the-ttl")],
)
def test_a_cached_value_expires_like_an_online_one(
    loaded: bundle.Bundle, reader: Breakable, later: float, source: str
) -> None:
    ladder = Ladder(loaded, reader)
    climb(ladder, UA, NOW)
    reader.broken = OSError("gone")
    assert climb(ladder, UA, NOW + later).source == source


def test_a_fast_failure_is_tried_again_at_once(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    reader.broken = OSError("gone")
    climb(ladder, UA, NOW)
    reader.broken = None
    assert climb(ladder, UA, NOW).source == "online"


def test_a_slow_failure_rests_the_store(loaded: bundle.Bundle, reader: Breakable) -> None:
    """Verify that a store which hangs costs its budget once in a while and not at every request."""
    clock = Clock()

    class Hanging(Breakable):
        def read(self, entities: Mapping[str, str], now: float) -> list[float]:
            clock.now += 0.020
            return super().read(entities, now)

    slow = Hanging(reader.real)
    ladder = Ladder(loaded, slow, clock=clock)
    slow.broken = TimeoutError("locked")
    assert [f.source for f in ladder.climb([UA] * 4, [NOW] * 4)] == ["default"] * 4
    assert slow.asked == 1
    assert ladder.counts.failures == {"TimeoutError": 1, "resting": 3}
    assert (ladder.counts.breaker.state.phase, ladder.counts.breaker.opens) == ("open", 1)
    slow.broken = None
    clock.now += BREAKER.backoff_s
    assert climb(ladder, UA, NOW).source == "online"
    assert (ladder.counts.breaker.state.phase, ladder.counts.breaker.probes) == ("closed", 1)


def test_failures_in_a_row_rest_the_store_and_each_failed_probe_doubles_the_rest(
    loaded: bundle.Bundle, reader: Breakable
) -> None:
    clock = Clock()
    reader.broken = OSError("gone")
    ladder = Ladder(
        loaded, reader, clock=clock, policy=replace(BREAKER, failures=3, backoff_s=1.0), random=Random(1)
    )
    for _ in range(1000):
        climb(ladder, UA, NOW)
        clock.now += 0.1
    # 100 s: three failures, then probes after at least 0.5, 1, 1, 1 … and at most 1, 2, 2, 2 … seconds
    assert 3 + 100 / 2.1 <= reader.asked <= 3 + 100
    assert sum(ladder.counts.failures.values()) == 1000
    assert ladder.counts.failures["OSError"] == reader.asked


def test_a_row_that_cannot_be_read_pulls_no_other_down_and_rests_nothing(
    loaded: bundle.Bundle, online_db: OnlineDb
) -> None:
    """Verify that a poisoned row is answered from below, however often it is asked for, and only that row."""
    path = online_db([*ROWS, ("origin_load", "origin", "EWR", {"departures": 1.0})])
    with sqlite3.connect(path) as connection:
        poisoned = entity_key.serialize([("origin", "string", "EWR")])
        connection.execute(
            "UPDATE windlass_origin_load SET value = ? WHERE entity_key = ?", (b"\x12\x03abc", poisoned)
        )
    connection.close()
    ladder = Ladder(loaded, SqliteReader(str(path), loaded))
    bad = {"carrier": "UA", "origin": "EWR"}
    for _ in range(10):
        features = ladder.climb([UA, bad, UA], [NOW] * 3)
        assert [f.source for f in features] == ["online", "default", "online"]
    # what is known of its other key stands in
    assert features[1].values == [11.5, 0.4, 12.0]
    assert ladder.counts.failures == {"RowError": 10}
    assert ladder.counts.breaker.state.phase == "closed"


def test_a_key_that_cannot_be_one_costs_its_row_only(loaded: bundle.Bundle, reader: Breakable) -> None:
    with pytest.raises(RowError, match="surrogates not allowed"):
        reader.real.read({"carrier": "\ud800", "origin": "JFK"}, NOW)


def test_a_reader_that_gives_too_few_values_has_failed(loaded: bundle.Bundle, reader: Breakable) -> None:
    class Short(Breakable):
        def read(self, entities: Mapping[str, str], now: float) -> list[float]:
            return super().read(entities, now)[:-1]

    features = climb(Ladder(loaded, Short(reader.real)), UA, NOW)
    assert (features.values, features.source) == (DEFAULTS, "default")


def test_an_outage_is_told_once_and_its_end_too(
    loaded: bundle.Bundle, reader: Breakable, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = Ladder(loaded, reader, clock=Clock())
    reader.broken = OSError("the disk is gone")
    for _ in range(BREAKER.failures - 1):
        climb(ladder, UA, NOW)
    reader.broken = None
    climb(ladder, UA, NOW)
    # a thread of an earlier test may have a word too
    told = [line for line in capsys.readouterr().err.splitlines() if "answer" in line]
    assert len(told) == 2
    assert "the disk is gone" in told[0]
    assert "answers again" in told[1]


def test_the_cache_is_bounded_and_keeps_what_was_read_last(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader, capacity=20)
    climb(ladder, UA, NOW)
    for i in range(100):
        climb(ladder, {"carrier": f"C{i}", "origin": f"O{i}"}, NOW)
    assert len(ladder._young) + len(ladder._old) <= 20
    reader.broken = OSError("gone")
    assert climb(ladder, UA, NOW).source == "default"
    assert climb(ladder, {"carrier": "C99", "origin": "O99"}, NOW).source == "cached"


def test_a_model_without_views_needs_no_store(make_bundle: MakeBundle, reader: Breakable) -> None:
    ladder = Ladder(bundle.load(make_bundle(views=[], inputs=[{"name": "distance"}])), reader)
    assert (climb(ladder, UA, NOW).values, climb(ladder, UA, NOW).source) == ([], "online")
    assert reader.asked == 0
