"""Bad data is refused with its column, a value and a remedy; good data passes unchanged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components import validate
from components.window import Window
from windlass.contract import Column, Estimator, Gates, Label, Range, RequestField, Source, Workload
from windlass.errors import DataError, UsageError

START = datetime(2024, 3, 1, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(days=10))


def workload() -> Workload:
    return Workload(
        name="w",
        source=Source(
            load=lambda _: pd.DataFrame(),
            columns=(
                Column("id", "int"),
                Column("at", "timestamp"),
                Column("shop", "string"),
                Column("size", "float", nullable=True, minimum=0, maximum=10, max_null_share=0.2),
                Column("late", "float", nullable=True),
            ),
            key=("id",),
            event_time="at",
            freshness=timedelta(days=1),
            minimum_rows=50,
        ),
        prepare=lambda f: f,
        entities=("shop",),
        label=Label("late", "known_at"),
        views=(),
        request_fields=(RequestField("size"),),
        feature_service="w_v1",
        estimators=(Estimator("linear", {"C": Range(0.1, 1)}),),
        gates=Gates(0.5),
    )


def frame(days: int = 12) -> pd.DataFrame:
    count = days * 24
    at = pd.date_range(START, periods=count, freq="h")
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "at": at,
            "shop": "north",
            "size": np.linspace(0, 10, count),
            "late": np.arange(count) % 3 == 0,
            "known_at": at + pd.Timedelta(hours=4),
        }
    ).astype({"late": float})


def change(column: str, value: Any, rows: slice = slice(3, 4)) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def apply(f: pd.DataFrame) -> pd.DataFrame:
        f[column] = f[column].astype(object) if not isinstance(value, float) else f[column]
        f.loc[f.index[rows], column] = value
        return f

    return apply


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        pytest.param(
            lambda f: f.drop(columns=["shop"]),
            r"column 'shop' is missing; it has \['id'.* add it",
            id="missing",
        ),
        pytest.param(lambda f: f.iloc[:0], "holds no row; give it at least 50", id="empty"),
        pytest.param(
            lambda f: f.assign(size=np.nan), "column 'size' is empty in all 288 rows; fill it", id="all-null"
        ),
        pytest.param(
            lambda f: f.assign(shop=None), "column 'shop' is empty in all 288 rows", id="all-null-text"
        ),
        pytest.param(
            change("size", "wide"),
            "column 'size' holds 'wide' of type str, it must be float",
            id="text-for-number",
        ),
        pytest.param(
            lambda f: f.assign(id=f.id + 0.5),
            "column 'id' holds 0.5 of type float, it must be int",
            id="fraction",
        ),
        pytest.param(
            lambda f: f.assign(shop=7), "column 'shop' holds 7 .*it must be string", id="number-for-text"
        ),
        pytest.param(
            change("at", "yesterday"),
            "column 'at' holds 'yesterday' of type str, it must be timestamp",
            id="time",
        ),
        pytest.param(
            lambda f: f.assign(at=5), "column 'at' holds 5 .*it must be timestamp", id="number-for-time"
        ),
        pytest.param(
            change("size", 11.5), r"holds 11.5 in row 3 \(1 rows\), it must lie in \[0, 10\]", id="range"
        ),
        pytest.param(
            change("shop", None),
            r"column 'shop' is empty in 0.3% of the rows \(first: row 3\), at most 0.0%",
            id="null",
        ),
        pytest.param(
            change("size", float("nan"), slice(0, 100)),
            "column 'size' is empty in 34.7% .*at most 20.0% may be",
            id="null-share",
        ),
        pytest.param(
            change("id", 2),
            r"key \('id',\) occurs twice in 1 rows, for example \{'id': 2\}; remove",
            id="duplicate",
        ),
    ],
)
def test_a_fault_is_named(break_it: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        validate.check_source(workload(), break_it(frame()), "data file rows.csv")
    assert str(caught.value).startswith("data file rows.csv")
    assert caught.value.exit_code == 2


def test_all_faults_are_told_at_once() -> None:
    broken = change("size", 99.0)(change("shop", None)(change("id", 2)(frame())))
    with pytest.raises(DataError) as caught:
        validate.check_source(workload(), broken, "x")
    assert all(word in str(caught.value) for word in ("'shop'", "'size'", "key"))


def test_good_rows_pass_and_only_those_of_the_window_are_kept() -> None:
    validate.check_source(workload(), frame(), "x")
    rows, volume = validate.select(workload(), frame().sample(frac=1, random_state=1), WINDOW, "x")
    assert (volume.rows, volume.oldest) == (240, START)
    assert rows["event_timestamp"].is_monotonic_increasing
    assert rows["event_timestamp"].max() < pd.Timestamp(WINDOW.end)


def test_a_label_known_only_after_the_window_is_not_there() -> None:
    rows, volume = validate.select(workload(), frame(), WINDOW, "x")
    late = rows["label_available_at"] > pd.Timestamp(WINDOW.end)
    assert late.sum() == 3
    assert rows["label"][late].isna().all()
    assert volume.labelled == 237
    assert volume.labelled == rows["label"].notna().sum()


@pytest.mark.parametrize(
    ("window", "kind", "message"),
    [
        pytest.param((-1, 5), UsageError, "lies before the data: x begins on 2024-03-01", id="before"),
        pytest.param((1, 14), UsageError, "lies after the data: x ends on 2024-03-12", id="after"),
        pytest.param(
            (1, 2),
            DataError,
            "24 rows between .* at least 50 are needed; ask for a longer window",
            id="volume",
        ),
    ],
)
def test_a_window_that_the_data_does_not_hold_is_refused(
    window: tuple[int, int], kind: type, message: str
) -> None:
    span = Window(START + timedelta(days=window[0]), START + timedelta(days=window[1]))
    with pytest.raises(kind, match=message):
        validate.select(workload(), frame(), span, "x")


def test_stale_rows_are_refused() -> None:
    holey = frame()
    holey = holey[(holey["at"] < WINDOW.end - timedelta(days=2)) | (holey["at"] > WINDOW.end)]
    with pytest.raises(DataError, match="newest row is of 2024-03-08 23:00, more than 1 day, 0:00:00 before"):
        validate.select(workload(), holey, WINDOW, "x")


def test_a_label_that_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(DataError, match=r"label 'late' holds 2.0; it must be 0, 1 or empty"):
        validate.select(workload(), frame().assign(late=2.0), WINDOW, "x")


def test_what_prepare_does_not_give_is_named() -> None:
    with pytest.raises(DataError, match=r"prepare\(\) of workload 'w' gave no column 'known_at'"):
        validate.select(workload(), frame().drop(columns=["known_at"]), WINDOW, "x")
