"""Verify that `windlass bench detection` changes what it says, keeps live weeks apart, and can miss a target."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detection import changes, quarters, report, worlds
from benchmarks.detection.changes import NEVER, Outcome
from benchmarks.detection.flights import Flights as BenchFlights
from benchmarks.detection.injections import LABEL_ODDS, Injection, apply, of_columns
from benchmarks.detection.quarters import Alarms, Asked
from benchmarks.detection.worlds import World
from tests.support.detection_flights import CARRIERS, COLUMNS, Flights


@pytest.fixture(scope="module")
def world(flights: Flights) -> World:
    rows = BenchFlights(
        COLUMNS, {"carrier": len(CARRIERS)}, flights.at, flights.features, flights.labels, flights.scores
    )
    return worlds.make(rows, [1, 0])


def test_no_day_is_both_live_and_reference(world: World) -> None:
    days = np.floor_divide(world.flights.at, 86400)
    live = {day for rows in world.live.values() for day in days[rows]}
    assert live
    assert not live & set(days[world.reference])


def test_a_quarter_follows_the_calendar(world: World) -> None:
    blocks = world.quarter(np.random.default_rng(1))
    assert [b.start for b in blocks[1:]] == [b.end for b in blocks[:-1]]
    assert all(b.start <= b.at.min() and b.at.max() < b.end for b in blocks)
    assert blocks[0].start % 86400 == 0


@pytest.mark.parametrize(
    ("injection", "expected"),
    [
        pytest.param(Injection("mean", -0.5, "distance"), lambda x, w: x - 0.5 * w.deviations[6], id="mean"),
        pytest.param(
            Injection("scale", 0.25, "distance"),
            lambda x, w: w.means[6] + 1.25 * (x - w.means[6]),
            id="scale",
        ),
        pytest.param(Injection("unit", 0.0, "distance"), lambda x, w: x * 1.609344, id="unit"),
    ],
)
def test_a_change_moves_its_column_and_no_other(world: World, injection: Injection, expected: object) -> None:
    block = world.quarter(np.random.default_rng(2), 1)[0]
    changed = apply(injection, block, world, np.random.default_rng(3))
    assert callable(expected)
    np.testing.assert_allclose(changed.features[:, 6], expected(block.features[:, 6], world))
    np.testing.assert_array_equal(
        np.delete(changed.features, 6, axis=1), np.delete(block.features, 6, axis=1)
    )


def test_shares_are_as_stated(world: World) -> None:
    blocks = world.quarter(np.random.default_rng(4), 8)
    rng = np.random.default_rng(5)
    nulls = [apply(Injection("nulls", 0.2, "distance"), b, world, rng).features[:, 6] for b in blocks]
    assert np.isnan(np.concatenate(nulls)).mean() == pytest.approx(0.2, abs=0.03)
    new = [apply(Injection("category", 0.05, "carrier"), b, world, rng).features[:, 7] for b in blocks]
    assert (np.concatenate(new) == len(CARRIERS)).mean() == pytest.approx(0.05, abs=0.015)


def test_concept_drift_moves_no_feature_and_no_rate_and_label_shift_moves_the_rate(world: World) -> None:
    block = world.quarter(np.random.default_rng(6), 1)[0]
    concept = apply(Injection("concept", 1.0), block, world, np.random.default_rng(7))
    assert concept.features is block.features
    day = np.floor_divide(block.at, 86400)
    for d in np.unique(day):
        assert np.nansum(concept.labels[day == d]) == np.nansum(block.labels[day == d])
    assert not np.array_equal(concept.labels, block.labels, equal_nan=True)
    shifted = apply(Injection("label shift"), block, world, np.random.default_rng(8))
    before, after = np.nanmean(block.labels), np.nanmean(shifted.labels)
    assert after / (1 - after) == pytest.approx(LABEL_ODDS * before / (1 - before), rel=0.5)
    assert after > before


def test_the_rivals_ring_and_ours_hardly_does(world: World) -> None:
    """Verify that all watch the same quarters: the comparison that the benchmark is for, in small."""
    rang = quarters.run(world, Asked(ours=3, distances=1, ks=1, evidently=0), [1, 0])
    assert len(rang["windlass"].quarters) == 3
    assert sum(rang["windlass"].quarters) <= 3
    assert rang["KS p<0.05"].quarters[0] > 5
    assert rang["KS p<0.05"].looks == 13


def test_outcomes_are_followed_under_their_own_names(world: World) -> None:
    found = changes.outcomes(world, 1, [1, 0])
    concept = {o.injection.size: o for o in found if o.injection.kind == "concept"}
    assert concept[1.0].days < NEVER
    assert 0 < concept[1.0].labels < 3000
    assert {o.contender for o in found if o.injection.kind == "label shift"} == {
        "windlass",
        "windlass, decay",
    }


def test_every_kind_of_change_is_tried_on_every_column(world: World) -> None:
    tried = list(of_columns(world))
    for column in COLUMNS:
        kinds = {i.family for i in tried if i.column == column}
        assert "nulls" in kinds
        assert ("category" in kinds) == (column == "carrier")
        assert ("mean 0.5 sd" in kinds) == (column != "carrier")


def outcome(kind: str, days: int, *, size: float = 0.0, labels: int = 0) -> Outcome:
    return Outcome(Injection(kind, size, "distance"), "windlass", days, labels)


@pytest.mark.parametrize(
    ("alarms", "days", "holds"),
    [
        pytest.param([0, 1, 1], 14, True, id="quiet-and-quick"),
        pytest.param([9, 9, 9], 14, False, id="always-rings"),
        pytest.param([0, 0, 0], NEVER, False, id="silent"),
    ],
)
def test_a_detector_that_rings_always_or_never_misses_a_target(
    alarms: list[int], days: int, holds: bool
) -> None:
    watched = Alarms(quarters=alarms, calls=alarms, looks=39, looks_ringing=3)
    seen = [
        outcome("nulls", days),
        outcome("category", days),
        outcome("unit", days),
        outcome("mean", days, size=0.5),
        outcome("scale", days, size=0.5),
        outcome("concept", days, size=0.5, labels=9000),
    ]
    document = report.document({"windlass": watched}, seen, {})
    assert all(t["holds"] for t in document["targets"]) == holds
    assert "found within one window" in report.table(document)


def test_what_was_not_measured_is_no_target_that_holds() -> None:
    document = report.document({}, [], {})
    assert {t["holds"] for t in document["targets"]} == {None}
