"""Which flights are asked for."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from windlass import catalog, settings
from windlass.demo import sampling, story


@pytest.fixture(scope="module")
def flights():
    return catalog.load("flights", settings.load({}).project)


@pytest.fixture(scope="module")
def prepared(flights):
    return flights.prepare(flights.source.load(None))


def test_the_full_story_asks_for_enough(flights, prepared) -> None:
    """Verify at least 60,000 requests, 8,000 with --fast, all from February on."""
    for fast, least in ((False, 60_000), (True, 8_000)):
        told = story.make(seed=5, fast=fast)
        by_hour, rows = sampling.sample(flights, prepared, told)
        assert sum(map(len, by_hour.values())) == len(rows) >= least
        assert rows[flights.source.event_time].min() >= pd.Timestamp("2013-02-01", tz="UTC")
        assert all(hour <= r.at < hour + sampling.HOUR for hour, rs in by_hour.items() for r in rs)


def test_the_seed_draws_the_sample(flights, prepared) -> None:
    """Verify that one seed gives one sample and another seed another."""

    def bodies(seed: int) -> list[bytes]:
        by_hour, _ = sampling.sample(flights, prepared, story.make(seed=seed, fast=True))
        return [r.body for hour in sorted(by_hour) for r in by_hour[hour]]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_a_request_carries_keys_and_request_fields_only(flights, prepared) -> None:
    """Verify that no outcome and no feature leaks into what the caller sends."""
    by_hour, _ = sampling.sample(flights, prepared, story.make(seed=5, fast=True))
    request = next(iter(by_hour.values()))[0]
    (instance,) = json.loads(request.body)["instances"]
    assert set(instance) <= {*flights.entities, *(f.name for f in flights.request_fields)}


def test_flights_that_never_land_are_asked_for_and_have_no_label(flights, prepared) -> None:
    """Verify that cancelled and diverted flights are served like any other."""
    by_hour, rows = sampling.sample(flights, prepared, story.make(seed=5, fast=False))
    unlabelled = [r for rs in by_hour.values() for r in rs if r.label is None]
    assert len(unlabelled) == int(rows[flights.label.column].isna().sum()) > 500
    assert all(r.label_at is None for r in unlabelled)
