"""Only a failing store climbs down the ladder, each rung is tagged and counted, and a slow failure rests it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from serving.runtime import bundle
from serving.runtime.features.ladder import Ladder
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


@pytest.fixture
def loaded(make_bundle: MakeBundle) -> bundle.Bundle:
    return bundle.load(make_bundle())


@pytest.fixture
def reader(online_db: OnlineDb, loaded: bundle.Bundle) -> Breakable:
    return Breakable(SqliteReader(str(online_db(ROWS)), loaded))


def test_the_first_rung_is_the_online_store(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    features = ladder.read(UA, NOW)
    assert (features.values, features.source) == ([11.5, 0.4, 31.0], "online")
    assert ladder.counts.rows == {"online": 1, "cached": 0, "default": 0}
    assert ladder.counts.failures == {}


def test_the_second_rung_is_the_last_value_read(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    ladder.read(UA, NOW)
    reader.broken = OSError("gone")
    features = ladder.read(UA, NOW + 60)
    assert (features.values, features.source) == ([11.5, 0.4, 31.0], "cached")
    assert ladder.counts.rows == {"online": 1, "cached": 1, "default": 0}
    assert ladder.counts.failures == {"OSError": 1}


def test_the_last_rung_is_the_training_default(loaded: bundle.Bundle, reader: Breakable) -> None:
    reader.broken = OSError("gone")
    features = Ladder(loaded, reader).read(UA, NOW)
    assert (features.values, features.source) == (DEFAULTS, "default")


def test_a_row_is_tagged_by_its_lowest_rung(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    ladder.read(UA, NOW)
    reader.broken = OSError("gone")
    features = ladder.read({"carrier": "UA", "origin": "LGA"}, NOW)
    assert (features.values, features.source) == ([11.5, 0.4, 12.0], "default")


def test_views_are_cached_apart(loaded: bundle.Bundle, reader: Breakable) -> None:
    """Verify that a pair of keys never seen together is answered from what was seen of each."""
    ladder = Ladder(loaded, reader)
    ladder.read(UA, NOW)
    ladder.read({"carrier": "none", "origin": "LGA"}, NOW)
    reader.broken = OSError("gone")
    assert ladder.read({"carrier": "UA", "origin": "LGA"}, NOW).values == [11.5, 0.4, 9.0]


def test_an_absent_key_is_an_answer_and_no_failure(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    features = ladder.read({"carrier": "ZZ", "origin": "JFK"}, NOW)
    assert features.source == "online"
    assert features.values == pytest.approx([math.nan, math.nan, 31.0], nan_ok=True)
    reader.broken = OSError("gone")
    cached = ladder.read({"carrier": "ZZ", "origin": "JFK"}, NOW)
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
    ladder.read(UA, NOW)
    reader.broken = OSError("gone")
    assert ladder.read(UA, NOW + later).source == source


def test_a_fast_failure_is_tried_again_at_once(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader)
    reader.broken = OSError("gone")
    ladder.read(UA, NOW)
    reader.broken = None
    assert ladder.read(UA, NOW).source == "online"


def test_a_slow_failure_rests_the_store(loaded: bundle.Bundle, reader: Breakable) -> None:
    """Verify that a store which hangs costs its budget once in a while and not at every request."""
    times = iter([0.0, 0.020, 0.021, 0.119, 0.125])
    ladder = Ladder(loaded, reader, rest_s=0.1, clock=lambda: next(times))
    reader.broken = TimeoutError("locked")
    assert ladder.read(UA, NOW).source == "default"
    reader.broken = None
    assert ladder.read(UA, NOW).source == "default"
    assert ladder.read(UA, NOW).source == "default"
    assert reader.asked == 1
    assert ladder.read(UA, NOW).source == "online"
    assert ladder.counts.failures == {"TimeoutError": 1, "resting": 2}


def test_a_reader_that_gives_too_few_values_has_failed(loaded: bundle.Bundle, reader: Breakable) -> None:
    class Short(Breakable):
        def read(self, entities: Mapping[str, str], now: float) -> list[float]:
            return super().read(entities, now)[:-1]

    features = Ladder(loaded, Short(reader.real)).read(UA, NOW)
    assert (features.values, features.source) == (DEFAULTS, "default")


def test_an_outage_is_told_once_and_its_end_too(
    loaded: bundle.Bundle, reader: Breakable, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = Ladder(loaded, reader)
    reader.broken = OSError("the disk is gone")
    for _ in range(5):
        ladder.read(UA, NOW)
    reader.broken = None
    ladder.read(UA, NOW)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "the disk is gone" in told[0]
    assert "answers again" in told[1]


def test_the_cache_is_bounded_and_keeps_what_was_read_last(loaded: bundle.Bundle, reader: Breakable) -> None:
    ladder = Ladder(loaded, reader, capacity=20)
    ladder.read(UA, NOW)
    for i in range(100):
        ladder.read({"carrier": f"C{i}", "origin": f"O{i}"}, NOW)
    assert len(ladder._young) + len(ladder._old) <= 20
    reader.broken = OSError("gone")
    assert ladder.read(UA, NOW).source == "default"
    assert ladder.read({"carrier": "C99", "origin": "O99"}, NOW).source == "cached"


def test_a_model_without_views_needs_no_store(make_bundle: MakeBundle, reader: Breakable) -> None:
    ladder = Ladder(bundle.load(make_bundle(views=[], inputs=[{"name": "distance"}])), reader)
    assert (ladder.read(UA, NOW).values, ladder.read(UA, NOW).source) == ([], "online")
    assert reader.asked == 0
