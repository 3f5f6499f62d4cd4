"""Loading flights, and when each left and landed in UTC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windlass.errors import DataError
from workloads.flights import source
from workloads.flights.prepare import prepare
from workloads.flights.workload import WORKLOAD


def flight(**values: object) -> pd.DataFrame:
    """One flight from New York to Houston on a winter morning, with some columns changed."""
    row: dict[str, object] = {
        "year": 2013, "month": 1, "day": 1, "dep_time": 517.0, "sched_dep_time": 515, "dep_delay": 2.0,
        "arr_time": 830.0,
        "sched_arr_time": 819, "arr_delay": 11.0, "carrier": "UA", "flight": 1545, "tailnum": "N14228", "origin": "EWR",
        "dest": "IAH", "air_time": 227.0, "distance": 1400, "hour": 5, "minute": 15,
        "time_hour": pd.Timestamp("2013-01-01T10:00:00Z"),
    }  # fmt: skip
    return pd.DataFrame([row | values])


@pytest.mark.parametrize(
    ("values", "elapsed", "landed"),
    [
        pytest.param({}, 244, "2013-01-01T14:30Z", id="an-hour-behind"),
        pytest.param(
            {"dest": "SJU", "sched_arr_time": 1007}, 232, "2013-01-01T14:18Z", id="zone-that-the-package-lacks"
        ),
        pytest.param(
            {"dest": "HNL", "sched_arr_time": 1230}, 735, "2013-01-01T22:41Z", id="five-hours-behind"
        ),
        pytest.param(
            {
                "dest": "PHX", "month": 7, "sched_dep_time": 2030, "sched_arr_time": 2235, "minute": 30, "hour": 20,
                "time_hour": pd.Timestamp("2013-07-02T00:00:00Z"),
            },
            305,
            "2013-07-02T05:46Z",
            id="no-daylight-saving-there",
        ),
        pytest.param(
            {
                "sched_dep_time": 2255, "sched_arr_time": 208, "minute": 55, "hour": 22,
                "time_hour": pd.Timestamp("2013-01-02T03:00:00Z"),
            },
            253,
            "2013-01-02T08:19Z",
            id="lands-the-next-day",
        ),
        pytest.param({"dest": "XXX"}, 215, "2013-01-01T14:01Z", id="unknown-airport-by-distance"),
    ],
)  # fmt: skip
def test_a_landing_is_placed_in_utc(values: dict[str, object], elapsed: float, landed: str) -> None:
    """Verify scheduled duration and arrival against figures worked out by hand."""
    row = prepare(flight(**values)).iloc[0]
    assert row["sched_elapsed"] == elapsed
    assert row["arr_at"] == pd.Timestamp(landed)


def test_times_of_a_prediction_follow_from_the_schedule() -> None:
    """Verify the hour's notice, the label, and when it is known."""
    row = prepare(flight(arr_delay=16.0)).iloc[0]
    assert row["event_timestamp"] == pd.Timestamp("2013-01-01T09:15Z")
    assert row["dep_at"] == pd.Timestamp("2013-01-01T10:17Z")
    assert (row["late"], row["label_available_at"]) == (1.0, pd.Timestamp("2013-01-01T14:35Z"))
    assert (row["sched_minute"], row["day_of_week"]) == (315.0, 1.0)
    assert prepare(flight(arr_delay=15.0)).iloc[0]["late"] == 0.0


def test_a_cancelled_flight_has_no_label_and_never_lands() -> None:
    """Verify that such a row stays: it is served, and never scored."""
    row = prepare(flight(dep_delay=np.nan, arr_delay=np.nan, tailnum=None)).iloc[0]
    assert np.isnan(row["late"])
    assert row[["dep_at", "arr_at", "label_available_at"]].isna().all()
    assert row["tailnum"] == "unknown"


def test_rows_keep_their_order_and_index(flights: pd.DataFrame) -> None:
    """Verify that a caller may pass any part of the source, in any order."""
    part = flights.sample(200, random_state=1)
    whole = prepare(flights).loc[part.index]
    pd.testing.assert_frame_equal(prepare(part), whole)


def test_durations_are_plausible_for_every_real_flight() -> None:
    """Verify the whole year: from gate to gate a flight takes as long as it was in the air, and a while more."""
    prepared = prepare(source.load(None))
    gate_to_gate = (prepared["arr_at"] - prepared["dep_at"]).dt.total_seconds() / 60
    on_the_ground = (gate_to_gate - prepared["air_time"]).dropna()
    assert len(prepared) == 336_776
    assert (on_the_ground < 5).mean() < 0.001
    assert 15 < on_the_ground.median() < 30
    assert not prepared.duplicated(list(WORKLOAD.source.key)).any()
    assert str(prepared["event_timestamp"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("rows.csv", None, "no such file", id="absent"),
        pytest.param("rows.csv", b"", "is empty", id="empty"),
        pytest.param("rows.csv", ",".join(source.COLUMNS).encode() + b"\n", "no row", id="header-only"),
        pytest.param("rows.csv", b"year,month\n2013,1\n", "'time_hour'", id="column-missing"),
        pytest.param("rows.csv", b"a,b\n1,2,3\n", "cannot be read as CSV", id="ragged"),
        pytest.param("rows.csv", b"\xff\xfe\x00year", "missing|cannot be read", id="not-text"),
        pytest.param(
            "rows.parquet", b"year,month\n2013,1\n", "cannot be read as parquet", id="csv-named-parquet"
        ),
    ],
)
def test_a_broken_file_is_named_with_its_fault(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """Verify that each fault is a data error which names the file."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        source.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_of_the_same_rows_gives_the_same_flights(
    tmp_path: Path, suffix: str, flights: pd.DataFrame
) -> None:
    """Verify that rows written to a file and read again prepare to the same."""
    path = tmp_path / f"rows.{suffix}"
    part = flights.head(500)
    part.to_csv(path, index=False) if suffix == "csv" else part.to_parquet(path, index=False)
    pd.testing.assert_frame_equal(prepare(source.load(path)), prepare(part), check_dtype=False)


def test_a_wrong_type_is_left_for_validation_to_name(tmp_path: Path, flights: pd.DataFrame) -> None:
    """Verify that loading keeps a text among numbers instead of failing on it or dropping it."""
    path = tmp_path / "rows.csv"
    flights.head(50).astype({"distance": object}).assign(distance="far").to_csv(path, index=False)
    assert set(source.load(path)["distance"]) == {"far"}
