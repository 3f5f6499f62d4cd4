"""Offline rows: computed once, again when anything changed, never half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from windlass.contract import View, Workload
from windlass.errors import WindlassError
from windlass.features import offline, partitions
from windlass.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", project=tmp_path)


def source_rows(days: int = 70) -> pd.DataFrame:
    times = pd.date_range("2013-01-01", periods=days, freq="D", tz="UTC", unit="us")
    return pd.DataFrame({"shop": ["a", "b"] * (days // 2), "at": times, "sold": range(days)})


def made(workload: Workload, rows: pd.DataFrame, compute: object = None) -> Workload:
    """A workload on these rows with one view that passes them through."""

    def passed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.rename(columns={"at": "event_timestamp"}).astype({"sold": "float64"})

    view = View("shop_sales", "shop", ("sold",), pd.Timedelta(days=1).to_pytimedelta(), compute or passed)
    source = replace(workload.source, load=lambda path: rows.copy())
    return replace(
        workload, name="shops", source=source, prepare=lambda f: f, views=(view,), entities=("shop",)
    )


def months(settings: Settings) -> list[str]:
    return sorted(p.stem for p in partitions.folder(settings, "shop_sales").glob("*.parquet"))


def test_rows_are_kept_by_month_and_reused(built: object, settings: Settings) -> None:
    """Verify the partitions, their types, and that a second build computes nothing."""
    rows = source_rows()
    first = offline.build(made(built.workload, rows), settings)
    assert (first.rows, first.reused) == ({"shop_sales": 70}, False)
    assert months(settings) == ["2013-01", "2013-02", "2013-03"]
    kept = pd.read_parquet(partitions.folder(settings, "shop_sales") / "2013-02.parquet")
    assert len(kept) == 28
    assert str(kept["event_timestamp"].dtype) == "datetime64[us, UTC]"

    def never(frame: pd.DataFrame) -> pd.DataFrame:
        raise AssertionError("computed again")

    again = offline.build(made(built.workload, rows, never), settings)
    assert (again.content_hash, again.rows, again.reused) == (first.content_hash, first.rows, True)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows.assign(sold=rows["sold"] + (rows.index == 40)), id="one-value"),
        pytest.param(lambda rows: rows.head(30), id="fewer-rows"),
        pytest.param(lambda rows: rows.astype({"sold": "float64"}), id="another-type"),
        pytest.param(lambda rows: rows.iloc[::-1].reset_index(drop=True), id="another-order"),
    ],
)
def test_a_changed_source_is_computed_again(built: object, settings: Settings, change: object) -> None:
    """Verify that the rows follow the source, and that months which it no longer has are gone."""
    first = offline.build(made(built.workload, source_rows()), settings)
    second = offline.build(made(built.workload, change(source_rows())), settings)
    assert not second.reused
    assert second.content_hash != first.content_hash
    assert months(settings) == sorted({f"{t:%Y-%m}" for t in change(source_rows())["at"]})


@pytest.mark.parametrize("fault", ["cut", "missing", "no-manifest"])
def test_a_damaged_store_is_made_whole(built: object, settings: Settings, fault: str) -> None:
    """Verify that what a crash or a full disk left is never taken for a finished build."""
    workload = made(built.workload, source_rows())
    offline.build(workload, settings)
    path = partitions.folder(settings, "shop_sales") / "2013-02.parquet"
    good = path.read_bytes()
    if fault == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif fault == "missing":
        path.unlink()
    else:
        (settings.offline_dir / "shops.json").unlink()
    assert not offline.build(workload, settings).reused
    assert path.read_bytes() == good
    assert offline.build(workload, settings).reused


def test_a_build_that_dies_leaves_no_manifest(built: object, settings: Settings) -> None:
    """Verify that the old manifest does not vouch for files of which some are new."""
    offline.build(made(built.workload, source_rows()), settings)

    def dies(frame: pd.DataFrame) -> pd.DataFrame:
        raise MemoryError

    with pytest.raises(MemoryError):
        offline.build(made(built.workload, source_rows(40), dies), settings)
    assert not (settings.offline_dir / "shops.json").exists()
    assert not offline.build(made(built.workload, source_rows()), settings).reused


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        pytest.param(lambda f: f, "computed the columns", id="other-columns"),
        pytest.param(
            lambda f: f.rename(columns={"at": "event_timestamp"}).head(0), "computed no rows", id="no-rows"
        ),
        pytest.param(
            lambda f: pd.concat([f, f]).rename(columns={"at": "event_timestamp"}),
            "two rows for the same",
            id="twice",
        ),
        pytest.param(
            lambda f: f.rename(columns={"at": "event_timestamp"}).assign(
                event_timestamp=lambda g: g["event_timestamp"].where(g.index > 0)
            ),
            "computed 1 rows without a time",
            id="no-time",
        ),
    ],
)
def test_a_view_that_breaks_its_word_is_refused(
    built: object, settings: Settings, compute: object, message: str
) -> None:
    """Verify that each fault of a compute function is named with its view."""
    with pytest.raises(WindlassError, match=message) as caught:
        offline.build(made(built.workload, source_rows(), compute), settings)
    assert "'shop_sales'" in str(caught.value)


def test_the_flights_have_rows_of_every_view(built: object) -> None:
    """Verify the real workload's build against its own computation."""
    again = offline.build(built.workload, built.settings, data=built.data)
    assert again.reused
    for view in built.workload.views:
        computed = view.compute(built.prepared)
        stored = pd.concat(
            pd.read_parquet(p) for p in sorted(partitions.folder(built.settings, view.name).iterdir())
        )
        assert again.rows[view.name] == len(computed) == len(stored)
        pd.testing.assert_frame_equal(stored.reset_index(drop=True), computed.reset_index(drop=True))
