"""Rolling features against the plainest way to compute them, and against the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from windlass.features import rolling

NAMES = rolling.feature_names("shop", "returned", ["price"])
WINDOW, LAST = timedelta(days=2), 3


def events(seed: int, rows: int = 120) -> pd.DataFrame:
    """Random rows, some on the full hour, some at the same time, some without a label or a price."""
    draw = np.random.default_rng(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    minutes = draw.integers(0, 8 * 24 * 4, rows) * 15
    times = pd.Series([start + timedelta(minutes=int(m)) for m in minutes]).dt.as_unit("us")
    return pd.DataFrame(
        {
            "shop": draw.choice(["a", "b", "c"], rows),
            "at": times,
            "price": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(10, 3, rows)),
            "returned": np.where(draw.random(rows) < 0.1, np.nan, draw.integers(0, 2, rows).astype(float)),
            "known": times + timedelta(hours=5),
        }
    )


def computed(frame: pd.DataFrame) -> pd.DataFrame:
    return rolling.entity_history(
        frame,
        entity="shop",
        event_time="at",
        label="returned",
        label_time="known",
        names=NAMES,
        window=WINDOW,
        last=LAST,
    )


def seen(view: pd.DataFrame, shop: str, at: datetime) -> list[float]:
    """What a request at a time sees: the newest row at or before it."""
    rows = view[(view["shop"] == shop) & (view["event_timestamp"] <= at)].sort_values("event_timestamp")
    return rows[list(NAMES)].iloc[-1].tolist() if len(rows) else [np.nan] * len(NAMES)


@pytest.mark.parametrize("seed", range(4))
def test_each_value_is_what_was_known_at_that_hour(seed: int) -> None:
    """Verify every hour of the grid, and hours between its rows, against a loop over the raw rows."""
    frame = events(seed)
    view = computed(frame)
    for shop in ("a", "b", "c"):
        for hour in range(0, 11 * 24, 5):
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
            mine = frame[frame["shop"] == shop]
            happened = mine[mine["at"].dt.floor("h") + timedelta(hours=1) <= at].sort_values(
                "at", kind="stable"
            )
            labels = mine[(mine["known"] <= at) & mine["returned"].notna()].sort_values(
                "known", kind="stable"
            )
            recent = happened[happened["at"].dt.floor("h") + timedelta(hours=1) > at - WINDOW]
            got = seen(view, shop, at)
            if np.isnan(got[0]):
                assert happened.empty
                continue
            assert got[0] == len(recent)
            # rows that became known in the same hour stand in no order: compare where the cut does not divide them
            for value, column, rows, time in (
                (got[1], "returned", labels, "known"),
                (got[2], "price", happened, "at"),
            ):
                known = rows.dropna(subset=[column])
                cut = known[time].dt.ceil("h") if time == "known" else known[time].dt.floor("h")
                if len(known) <= LAST or cut.iloc[-LAST - 1] < cut.iloc[-LAST]:
                    expected = known[column].iloc[-LAST:].mean()
                    assert value == pytest.approx(expected, nan_ok=True), (shop, at, column)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_of_the_future_is_seen(seed: int) -> None:
    """Verify that changing whatever was not known at a time changes no value seen at it."""
    frame = events(seed)
    at = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
    changed = frame.copy()
    changed.loc[changed["at"] >= at, "price"] = 1e6
    changed.loc[changed["known"] > at, "returned"] = 1.0 - changed.loc[
        changed["known"] > at, "returned"
    ].fillna(0.0)
    without = changed[changed["at"] < at]
    for shop in ("a", "b", "c"):
        assert seen(computed(changed), shop, at) == pytest.approx(
            seen(computed(frame), shop, at), nan_ok=True
        )
        assert seen(computed(without), shop, at) == pytest.approx(
            seen(computed(frame), shop, at), nan_ok=True
        )


def test_a_row_on_the_hour_is_not_part_of_its_own_features() -> None:
    """Verify the edge where an event and a grid row have the same time."""
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    times = pd.Series([at, at]).dt.as_unit("us")
    frame = pd.DataFrame(
        {
            "shop": ["a", "a"],
            "at": times,
            "price": [1.0, 3.0],
            "returned": [1.0, 1.0],
            "known": times + timedelta(days=1),
        }
    )
    view = computed(frame)
    assert np.isnan(seen(view, "a", at)[0])
    assert seen(view, "a", at + timedelta(hours=1))[0] == 2.0
    assert np.isnan(seen(view, "a", at + timedelta(hours=23))[1])
    assert seen(view, "a", at + timedelta(days=1))[1] == 1.0


def test_a_count_falls_back_to_zero_when_its_window_has_passed() -> None:
    """Verify that an entity gone quiet gets a row that says so, not its last busy hour for ever."""
    frame = events(0, rows=30)
    view = computed(frame)
    assert seen(view, "a", datetime(2026, 3, 1, tzinfo=UTC))[0] == 0.0


def test_rows_are_on_the_grid_once_and_in_order() -> None:
    """Verify what the offline store relies on: full hours, microseconds in UTC, one row an entity and hour."""
    view = computed(events(1))
    times = view["event_timestamp"]
    assert str(times.dtype) == "datetime64[us, UTC]"
    assert (times.dt.floor("h") == times).all()
    assert times.is_monotonic_increasing
    assert not view.duplicated(["shop", "event_timestamp"]).any()
    assert {str(view[name].dtype) for name in NAMES} == {"float64"}
