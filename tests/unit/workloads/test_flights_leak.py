"""Nothing of the future reaches a feature: whatever happens after a time, the rows up to it stay as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from workloads.flights import features, source, tails, weather
from workloads.flights.prepare import prepare
from workloads.flights.workload import WORKLOAD

Compute = Callable[[pd.DataFrame], pd.DataFrame]
FLIGHT_VIEWS = [view for view in WORKLOAD.views if view.name != "origin_weather"]


def minutes_until(cut: pd.Timestamp, due: pd.Series) -> np.ndarray:
    return np.ceil((cut - due).dt.total_seconds().to_numpy() / 60)


def rewritten(flights: pd.DataFrame, cut: pd.Timestamp, seed: int) -> pd.DataFrame:
    """The same flights up to `cut`; afterwards others leave, land, are cancelled or diverted, or never existed."""
    draw = np.random.default_rng(seed)
    prepared = prepare(flights)
    out = flights.copy()
    count = len(out)
    # what has not left by the cut leaves at some other time after it
    waiting = ~(prepared["dep_at"] <= cut).to_numpy()
    soonest = minutes_until(cut, prepared["sched_dep"]) + 1
    out.loc[waiting, "dep_delay"] = (np.maximum(soonest, -30) + draw.integers(0, 300, count))[waiting]
    # what has not landed lands at some other time after it
    flying = ~(prepared["arr_at"] <= cut).to_numpy()
    to_land = soonest - prepared["sched_elapsed"].to_numpy()
    out.loc[flying, "arr_delay"] = (np.maximum(to_land, -60) + draw.integers(0, 300, count))[flying]
    cancelled = waiting & (draw.random(count) < 0.3)
    out.loc[cancelled, ["dep_delay", "dep_time", "arr_delay", "arr_time", "air_time"]] = np.nan
    diverted = flying & (draw.random(count) < 0.2)
    out.loc[diverted, ["arr_delay", "air_time"]] = np.nan
    # and a third of the flights scheduled after it were never planned
    gone = (prepared["sched_dep"] > cut).to_numpy() & (draw.random(count) < 0.33)
    return out[~gone].reset_index(drop=True)


def up_to(cut: pd.Timestamp, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["event_timestamp"] <= cut].reset_index(drop=True)


def differences(compute: Compute, flights: pd.DataFrame, cut: pd.Timestamp, seed: int) -> int:
    """How many rows up to `cut` depend on what comes after it."""
    before, after = (
        up_to(cut, compute(prepare(frame))) for frame in (flights, rewritten(flights, cut, seed))
    )
    assert len(before) > 0
    if len(before) != len(after):
        return abs(len(before) - len(after))
    same = (before == after) | (before.isna() & after.isna())
    return int((~same.all(axis=1)).sum())


def cuts(flights: pd.DataFrame, seed: int, count: int) -> list[pd.Timestamp]:
    """Random minutes of the days covered, some of them full hours."""
    draw = np.random.default_rng(seed)
    first = prepare(flights)["sched_dep"].min()
    minutes = draw.integers(24 * 60, 9 * 24 * 60, count)
    minutes[::3] -= minutes[::3] % 60
    return [first.floor("h") + pd.Timedelta(minutes=int(m)) for m in minutes]


@pytest.mark.parametrize("view", FLIGHT_VIEWS, ids=lambda view: view.name)
def test_what_happens_after_a_time_changes_no_row_up_to_it(view: object, flights: pd.DataFrame) -> None:
    """Verify each view at random cuts, with random futures."""
    for seed, cut in enumerate(cuts(flights, seed=20, count=8)):
        assert differences(view.compute, flights, cut, seed) == 0, cut


def delay_known_at_schedule(prepared: pd.DataFrame) -> pd.DataFrame:
    """A departure delay counts from the scheduled departure, before the flight has left."""
    return features.origin_delays(
        prepared.assign(dep_at=prepared["sched_dep"].where(prepared["dep_at"].notna()))
    )


def arrival_known_at_departure(prepared: pd.DataFrame) -> pd.DataFrame:
    """An arrival delay counts once the flight has left."""
    return features.carrier_delays(
        prepared.assign(arr_at=prepared["dep_at"].where(prepared["arr_at"].notna()))
    )


def known_an_hour_early(prepared: pd.DataFrame) -> pd.DataFrame:
    """The off-by-one of a grid: an event counts from the hour in which it happens, not from the next."""
    hour = pd.Timedelta(hours=1)
    return tails.tail_delays(
        prepared.assign(dep_at=prepared["dep_at"] - hour, arr_at=prepared["arr_at"] - hour)
    )


def mean_over_everything(prepared: pd.DataFrame) -> pd.DataFrame:
    """Values are filled with a mean over the whole file."""
    rows = features.dest_delays(prepared)
    return rows.fillna({"dest_arr_delay_6h": prepared["arr_delay"].mean()})


@pytest.mark.parametrize(
    "leaky", [delay_known_at_schedule, arrival_known_at_departure, known_an_hour_early, mean_over_everything]
)
def test_a_planted_leak_is_found(leaky: Compute, flights: pd.DataFrame) -> None:
    """Verify that the check above can fail, for leaks of four kinds, at every one of its cuts."""
    for seed, cut in enumerate(cuts(flights, seed=20, count=4)):
        assert differences(leaky, flights, cut, seed) > 0, cut


def weather_differences(shift: pd.Timedelta, seed: int) -> int:
    """Change the weather observed after a random time; count rows up to it that notice."""
    draw = np.random.default_rng(seed)
    observed = source.load_weather()
    observed["time_hour"] = pd.to_datetime(observed["time_hour"], utc=True)
    first = observed["time_hour"].min()
    cut = first + pd.Timedelta(minutes=int(draw.integers(24 * 60, 300 * 24 * 60)))
    # an observation labelled with hour h is made at about h:51
    later = observed["time_hour"] + pd.Timedelta(minutes=51) > cut
    changed = observed.copy()
    for column in ("temp", "wind_speed", "precip", "pressure", "visib"):
        changed.loc[later, column] = draw.normal(20, 5, int(later.sum()))
    before, after = (
        up_to(cut, weather.weather_rows(w.assign(time_hour=w["time_hour"] - shift)))
        for w in (observed, changed)
    )
    assert len(before) == len(after) > 0
    return int((~((before == after) | (before.isna() & after.isna())).all(axis=1)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_weather_counts_once_it_was_observed(seed: int) -> None:
    """Verify the weather view, and that using an observation in the hour it is labelled with would be noticed."""
    assert weather_differences(pd.Timedelta(0), seed) == 0
    assert weather_differences(pd.Timedelta(hours=1), seed) > 0


def test_labels_are_known_no_earlier_than_the_landing(flights: pd.DataFrame) -> None:
    """Verify that every label comes after its prediction, so that it is in no feature of its own row."""
    prepared = prepare(flights)
    labelled = prepared[prepared["late"].notna()]
    assert (labelled["label_available_at"] > labelled["event_timestamp"]).all()
    assert (labelled["label_available_at"] == labelled["arr_at"]).all()
