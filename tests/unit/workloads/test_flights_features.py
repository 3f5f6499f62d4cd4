"""Features against the plainest way to compute them, one value at a time from the flights themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from windlass.contract import RequestField, check
from workloads.flights import features, tails
from workloads.flights.prepare import prepare
from workloads.flights.workload import CARRIERS, ORIGINS, WORKLOAD

HOUR = pd.Timedelta(hours=1)
VIEWS = {view.name: view for view in WORKLOAD.views}


@pytest.fixture(scope="module")
def prepared(flights: pd.DataFrame) -> pd.DataFrame:
    return prepare(flights)


@pytest.fixture(scope="module")
def computed(prepared: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: view.compute(prepared) for name, view in VIEWS.items() if name != "dest_history"}


def seen(rows: pd.DataFrame, view: str, key: str, at: pd.Timestamp) -> pd.Series:
    """What a request sees: the newest row, unless it has expired."""
    stated = VIEWS[view]
    mine = rows[(rows[stated.entity] == key) & (rows["event_timestamp"] <= at)]
    mine = mine[mine["event_timestamp"] + stated.ttl >= at]
    return mine.iloc[-1][list(stated.features)] if len(mine) else pd.Series(np.nan, index=stated.features)


def within(frame: pd.DataFrame, column: str, at: pd.Timestamp, hours: float) -> pd.DataFrame:
    return frame[(frame[column] <= at) & (frame[column] > at - hours * HOUR)]


def mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")


def carrier_truth(mine: pd.DataFrame, at: pd.Timestamp) -> dict[str, float]:
    added = (mine["arr_delay"] - mine["dep_delay"]).clip(-60, 120)
    day = within(mine, "arr_at", at, 24)
    return {
        "carrier_arr_delay_3h": mean(within(mine, "arr_at", at, 3)["arr_delay"].clip(-60, 180)),
        "carrier_dep_delay_2h": mean(within(mine, "dep_at", at, 2)["dep_delay"].clip(-30, 180)),
        "carrier_added_delay_3h": mean(within(mine.assign(added=added), "arr_at", at, 3)["added"]),
        "carrier_late_share_24h": mean((day["arr_delay"] > 15).astype(float)),
        "carrier_arrivals_24h_count": float(len(day)),
    }


def origin_truth(mine: pd.DataFrame, at: pd.Timestamp) -> dict[str, float]:
    three = within(mine, "dep_at", at, 3)
    due = mine[(mine["sched_dep"].dt.ceil("h") <= at) & (mine["sched_dep"].dt.ceil("h") > at - 4 * HOUR)]
    waiting = due[~(due["dep_at"] <= at)]
    return {
        "origin_dep_delay_1h": mean(within(mine, "dep_at", at, 1)["dep_delay"].clip(-30, 180)),
        "origin_dep_delay_3h": mean(three["dep_delay"].clip(-30, 180)),
        "origin_dep_late_share_3h": mean((three["dep_delay"] > 15).astype(float)),
        "origin_departures_24h_count": float(len(within(mine, "dep_at", at, 24))),
        "origin_overdue_count": float(len(waiting)),
        "origin_overdue_hours": mean((at - waiting["sched_dep"].dt.ceil("h")) / HOUR),
    }


def dest_truth(mine: pd.DataFrame, at: pd.Timestamp) -> dict[str, float]:
    six = within(mine, "arr_at", at, 6)
    return {
        "dest_arr_delay_6h": mean(six["arr_delay"].clip(-60, 180)),
        "dest_dep_delay_3h": mean(within(mine, "dep_at", at, 3)["dep_delay"].clip(-30, 180)),
        "dest_late_share_24h": mean((within(mine, "arr_at", at, 24)["arr_delay"] > 15).astype(float)),
        "dest_arrivals_6h_count": float(len(six)),
    }


@pytest.mark.parametrize(
    ("view", "truth"),
    [
        pytest.param("carrier_delays", carrier_truth, id="carrier"),
        pytest.param("origin_delays", origin_truth, id="origin"),
        pytest.param("dest_delays", dest_truth, id="dest"),
    ],
)
def test_rolling_values_are_those_of_the_flights(
    view: str,
    truth: Callable[[pd.DataFrame, pd.Timestamp], dict[str, float]],
    prepared: pd.DataFrame,
    computed: dict[str, pd.DataFrame],
) -> None:
    """Verify random keys at random hours, whether a row stands at that hour or an older one still holds."""
    entity = VIEWS[view].entity
    draw = np.random.default_rng(7)
    keys = prepared[entity].unique()
    first = prepared["sched_dep"].min().floor("h")
    compared = 0
    for _ in range(80):
        key = str(draw.choice(keys))
        at = first + int(draw.integers(8, 24 * 9)) * HOUR
        got = seen(computed[view], view, key, at)
        expected = truth(prepared[prepared[entity] == key], at)
        if got.isna().all():
            assert all(np.isnan(v) or v == 0 for v in expected.values()), (key, at)
            continue
        compared += 1
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, abs=1e-9, nan_ok=True), (name, key, at)
    assert compared > 40


def test_an_aircraft_is_known_by_its_last_leg(
    prepared: pd.DataFrame, computed: dict[str, pd.DataFrame]
) -> None:
    """Verify the previous leg's delays as of each hour in which the aircraft left or landed."""
    draw = np.random.default_rng(3)
    for tail in draw.choice(prepared.loc[prepared["tailnum"] != "unknown", "tailnum"].unique(), 25):
        mine = prepared[prepared["tailnum"] == tail]
        rows = computed["tail_delays"][computed["tail_delays"]["tailnum"] == tail]
        moves = {t.ceil("h") for c in ("dep_at", "arr_at") for t in mine[c].dropna()}
        assert set(rows["event_timestamp"]) == moves
        for row in rows.to_dict("records"):
            at = row["event_timestamp"]
            left = mine[mine["dep_at"] <= at].sort_values("dep_at")
            landed = mine[mine["arr_at"] <= at].sort_values("arr_at")
            week = landed[landed["arr_at"] > at - 168 * HOUR]
            assert row["tail_dep_delay"] == np.clip(left["dep_delay"].iloc[-1], -30, 180)
            if len(landed):
                assert row["tail_arr_delay"] == np.clip(landed["arr_delay"].iloc[-1], -60, 180)
            else:
                assert np.isnan(row["tail_arr_delay"])
            assert row["tail_arrivals_7d_count"] == len(week)


def test_an_aircraft_is_ready_after_it_could_be_back(
    prepared: pd.DataFrame, computed: dict[str, pd.DataFrame]
) -> None:
    """Verify that the step in force at any hour is the last that has passed since the aircraft should be ready."""
    draw = np.random.default_rng(5)
    end = prepared["dep_at"].max()
    rows = computed["tail_turn"]
    flying = prepared.loc[prepared["dep_at"].notna() & (prepared["tailnum"] != "unknown"), "tailnum"].unique()
    checked = 0
    for tail in draw.choice(flying, 25):
        mine = prepared[(prepared["tailnum"] == tail) & prepared["dep_at"].notna()].sort_values("dep_at")
        first = mine["dep_at"].iloc[0].ceil("h")
        for at in pd.date_range(first, min(first + 60 * HOUR, end), freq="3h"):
            got = seen(rows, "tail_turn", str(tail), at)["tail_ready_hours"]
            last = mine[mine["dep_at"] <= at].iloc[-1]
            ready = last["dep_at"] + timedelta(minutes=2 * last["sched_elapsed"] + tails.TURN_MINUTES)
            since = int((at - ready.ceil("h")) / HOUR)
            passed = [s for s in tails.READY_STEPS if s <= since]
            if not np.isnan(got):
                assert got == (passed[-1] if passed else tails.READY_STEPS[0]), (tail, at)
                checked += 1
    assert checked > 200


def test_flights_without_a_tail_number_share_no_state(
    prepared: pd.DataFrame, computed: dict[str, pd.DataFrame]
) -> None:
    """Verify that cancelled flights whose aircraft is unknown are not taken for one very busy aircraft."""
    assert (prepared["tailnum"] == "unknown").sum() > 100
    for view in ("tail_delays", "tail_turn"):
        assert not (computed[view]["tailnum"] == "unknown").any()


def test_a_key_never_expires_between_its_rows(computed: dict[str, pd.DataFrame]) -> None:
    """Verify that hours without a row are hours in which nothing changed, not hours without a value."""
    for view in ("carrier_delays", "origin_delays", "dest_delays"):
        rows = computed[view].sort_values([VIEWS[view].entity, "event_timestamp"])
        gaps = rows.groupby(VIEWS[view].entity)["event_timestamp"].diff().dropna()
        assert gaps.max() <= VIEWS[view].ttl
        assert gaps.max() > HOUR


def test_the_long_history_is_computed_on_mondays_only(flights: pd.DataFrame) -> None:
    """Verify the batch view's times, and its shares against the flights."""
    prepared = prepare(flights)
    rows = features.dest_history(prepared)
    assert set(rows["event_timestamp"]) == {
        pd.Timestamp("2013-02-04", tz="UTC"),
        pd.Timestamp("2013-02-11", tz="UTC"),
    }
    at = rows["event_timestamp"].max()
    for dest in ("ATL", "ORD", "SJU"):
        landed = within(prepared[prepared["dest"] == dest], "arr_at", at, 168)
        row = rows[(rows["dest"] == dest) & (rows["event_timestamp"] == at)].iloc[0]
        assert row["dest_late_share_7d"] == pytest.approx(float((landed["arr_delay"] > 15).mean()))


def test_every_view_keeps_the_form_that_stores_need(computed: dict[str, pd.DataFrame]) -> None:
    """Verify full hours in UTC microseconds, one row a key and hour, floats, the columns in the stated order."""
    for name, rows in computed.items():
        view = VIEWS[name]
        assert list(rows.columns) == [view.entity, "event_timestamp", *view.features]
        assert str(rows["event_timestamp"].dtype) == "datetime64[us, UTC]"
        assert (rows["event_timestamp"].dt.floor("h") == rows["event_timestamp"]).all()
        assert not rows.duplicated([view.entity, "event_timestamp"]).any()
        assert set(map(str, rows[list(view.features)].dtypes)) == {"float64"}


def test_the_workload_contradicts_itself_nowhere(flights: pd.DataFrame) -> None:
    """Verify the contract, and that the categories stated are those of the data."""
    assert check(WORKLOAD) == []
    assert set(flights["origin"]) == set(ORIGINS)
    assert set(flights["carrier"]) <= set(CARRIERS)
    # Feast's DuckDB join drops columns of these endings
    assert not [n for v in WORKLOAD.views for n in v.features if n.endswith(("_y", "_yyyy"))]


@pytest.mark.parametrize("name", ["score", "label", "event_timestamp", "slice_carrier"])
def test_no_input_has_the_name_of_a_bundles_own_column(name: str) -> None:
    """Verify that a credit score is not written over by the model's score in what drift is judged against."""
    field = RequestField(name)
    found = check(replace(WORKLOAD, request_fields=(*WORKLOAD.request_fields, field)))
    assert found == [f"input {name!r} has a name that a bundle's own columns have; call it otherwise"]
