"""Which rows are trained on, which are kept for judging, and which months are joined again."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components import bundle, dataset
from components.validate import AVAILABLE_AT, EVENT_TIMESTAMP, LABEL
from components.window import Window
from windlass.contract import (
    Estimator,
    Gates,
    Label,
    Range,
    RequestField,
    Source,
    Transformation,
    View,
    Workload,
)
from windlass.errors import DataError, WindlassError
from windlass.settings import Settings

START = datetime(2024, 1, 20, tzinfo=UTC)

WORKLOAD = Workload(
    name="w",
    source=Source(load=lambda _: pd.DataFrame(), columns=(), key=(), event_time="at", minimum_rows=40),
    prepare=lambda f: f,
    entities=("shop",),
    label=Label("late", "known_at"),
    views=(View("shop_delays", "shop", ("mean_delay", "count"), timedelta(days=3), lambda f: f),),
    request_fields=(RequestField("size"), RequestField("kind", "string", ("red", "blue"))),
    feature_service="w_v1",
    estimators=(Estimator("linear", {"C": Range(0.1, 1)}),),
    gates=Gates(0.5),
    slices=("shop", "size"),
    evaluation_window=timedelta(days=5),
)


def window(days: int) -> Window:
    return Window(START, START + timedelta(days=days))


def rows(days: int, known_after: timedelta = timedelta(hours=4)) -> pd.DataFrame:
    count = days * 24
    at = pd.date_range(START, periods=count, freq="h").as_unit("us")
    return pd.DataFrame(
        {
            "in_shop": np.where(np.arange(count) % 2, "north", "south"),
            "in_size": np.arange(count, dtype=float),
            "in_kind": np.resize(["red", "blue", "green"], count),
            EVENT_TIMESTAMP: at,
            LABEL: np.arange(count) % 3 == 0,
            AVAILABLE_AT: at + known_after,
        }
    ).astype({LABEL: float})


class Store:
    """An offline store of one rule: the mean delay is the hour, the count is unknown for "south"."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def join(self, entity_rows: pd.DataFrame) -> pd.DataFrame:
        self.asked.append(entity_rows[EVENT_TIMESTAMP].iloc[0].strftime("%Y-%m"))
        out = entity_rows.copy()
        out["mean_delay"] = entity_rows[EVENT_TIMESTAMP].dt.hour.astype(float)
        out["count"] = np.where(entity_rows["shop"] == "south", np.nan, 7.0)
        return out


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, project=tmp_path)


def test_inputs_stand_in_the_models_order_as_float32(settings: Settings) -> None:
    made = dataset.build(WORKLOAD, settings, rows(20), window(20), Store().join)
    assert made.inputs.dtype == np.float32
    assert WORKLOAD.model_inputs == ("mean_delay", "count", "size", "kind")
    by_time = dict(zip(made.rows[EVENT_TIMESTAMP], made.inputs, strict=True))
    one = by_time[pd.Timestamp(START + timedelta(hours=25))]
    assert one.tolist() == [1.0, 7.0, 25.0, 1.0]
    unknown = by_time[pd.Timestamp(START + timedelta(hours=26))]
    assert unknown[:1].tolist() == [2.0]
    assert np.isnan(unknown[[1, 3]]).all()


def test_transformations_make_inputs_of_what_is_joined_and_sent(settings: Settings, tmp_path: Path) -> None:
    """Verify the columns in training's rows, and that the bundle then names them and the file's digest."""
    path = tmp_path / "shares.py"
    path.write_text(
        "def share(c):\n    return {'share': [m / s for m, s in zip(c['mean_delay'], c['size'])]}\n"
    )
    spec = importlib.util.spec_from_file_location("shares", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    share = Transformation("share", module.share, ("mean_delay", "size"), ("share",))
    workload = replace(WORKLOAD, transformations=(share,))
    frame = rows(20)
    frame["in_size"] += 1.0
    made = dataset.build(workload, settings, frame, window(20), Store().join)
    assert workload.model_inputs == ("mean_delay", "count", "size", "kind", "share")
    assert dataset.category_counts(workload) == (0, 0, 0, 2, 0)
    delay, size = made.inputs[:, 0].astype(float), made.inputs[:, 2].astype(float)
    np.testing.assert_array_equal(made.inputs[:, 4], (delay / size).astype(np.float32))
    document = bundle.manifest(workload, dict.fromkeys(workload.given_inputs), "0" * 64)
    assert document["inputs"][-1] == {
        "name": "share",
        "view": None,
        "default": None,
        "transformation": "share",
    }
    assert document["sha256"]["share.py"] == hashlib.sha256(path.read_bytes()).hexdigest()
    [entry] = document["transformations"]
    assert (entry["file"], entry["function"], entry["outputs"]) == ("share.py", "share", ["share"])


def test_a_row_is_trained_on_only_if_its_outcome_was_known_when_judging_begins(settings: Settings) -> None:
    made = dataset.build(WORKLOAD, settings, rows(20, timedelta(hours=30)), window(20), Store().join)
    start = pd.Timestamp(START + timedelta(days=15))
    assert made.evaluation_start == start
    train = made.rows[made.rows[EVENT_TIMESTAMP] < start]
    assert train[EVENT_TIMESTAMP].max() == start - pd.Timedelta(hours=30)
    assert (train[AVAILABLE_AT] <= start).all()
    assert len(made.rows) - len(train) == 5 * 24


def test_rows_without_an_outcome_are_left_out(settings: Settings) -> None:
    frame = rows(20)
    frame.loc[::4, LABEL] = np.nan
    made = dataset.build(WORKLOAD, settings, frame, window(20), Store().join)
    assert made.rows[LABEL].notna().all()


def test_a_longer_window_joins_the_new_month_only(settings: Settings) -> None:
    store = Store()
    first = dataset.build(WORKLOAD, settings, rows(41), window(41), store.join)
    assert store.asked == ["2024-01", "2024-02"]
    longer = dataset.build(WORKLOAD, settings, rows(60), window(60), store.join)
    assert store.asked == ["2024-01", "2024-02", "2024-03"]
    assert (first.chunks_reused, longer.chunks, longer.chunks_reused) == (0, 3, 2)
    fresh = dataset.build(
        WORKLOAD, replace(settings, home=settings.home / "x"), rows(60), window(60), store.join
    )
    assert np.array_equal(fresh.inputs, longer.inputs, equal_nan=True)


@pytest.mark.parametrize(
    ("view", "month", "again"),
    [
        pytest.param(
            "shop_delays", "2024-01", ["2024-01", "2024-02"], id="a-month-and-the-one-that-reaches-back"
        ),
        pytest.param("shop_delays", "2024-02", ["2024-02"], id="its-own-month"),
        pytest.param("shop_delays", "2024-05", [], id="a-later-month"),
        pytest.param("another_view", "2024-01", [], id="another-view"),
    ],
)
def test_changed_offline_rows_are_joined_again(
    settings: Settings, view: str, month: str, again: list[str]
) -> None:
    store = Store()
    dataset.build(WORKLOAD, settings, rows(30), window(30), store.join)
    store.asked.clear()
    path = settings.offline_dir / view / f"{month}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other rows")
    dataset.build(WORKLOAD, settings, rows(30), window(30), store.join)
    assert store.asked == again


def test_a_store_that_loses_rows_is_not_trusted(settings: Settings) -> None:
    store = Store()
    with pytest.raises(WindlassError, match="returned 287 rows in another order for 288 rows of 2024-01"):
        dataset.build(WORKLOAD, settings, rows(20), window(20), lambda f: store.join(f).iloc[1:])
    with pytest.raises(WindlassError, match="in another order"):
        dataset.build(WORKLOAD, settings, rows(20), window(20), lambda f: store.join(f).iloc[::-1])


def test_too_few_rows_in_either_part_are_refused(settings: Settings) -> None:
    with pytest.raises(
        DataError, match=r"21 labelled rows for training before 2024-01-21 00:00.*longer window"
    ):
        dataset.build(WORKLOAD, settings, rows(6), window(6), Store().join)
    known = rows(20)
    known.loc[known[EVENT_TIMESTAMP] >= pd.Timestamp(START + timedelta(days=15)), LABEL] = 0.0
    with pytest.raises(
        DataError, match=r"120 labelled rows for evaluation from 2024-02-04 .*, of which 0 positive"
    ):
        dataset.build(WORKLOAD, settings, known, window(20), Store().join)


def test_what_is_written_is_read_again(settings: Settings, tmp_path: Path) -> None:
    made = dataset.build(WORKLOAD, settings, rows(20), window(20), Store().join)
    dataset.write(made, WORKLOAD.model_inputs, tmp_path)
    again = dataset.read(tmp_path)
    assert np.array_equal(again.inputs, made.inputs, equal_nan=True)
    assert again.inputs.flags["C_CONTIGUOUS"]
    pd.testing.assert_frame_equal(again.rows, made.rows)
    assert again.evaluation_start == made.evaluation_start


def test_slices_of_a_number_are_its_quartiles(settings: Settings) -> None:
    made = dataset.build(WORKLOAD, settings, rows(20), window(20), Store().join)
    assert made.rows["slice_size"].nunique() == 4
    assert set(made.rows["slice_shop"]) == {"north", "south"}
