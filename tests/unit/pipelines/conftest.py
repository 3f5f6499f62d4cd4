"""A small project of its own: one workload on made-up rows, its data in a file, its home beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windlass.settings import Settings

WORKLOAD = '''
"""A made-up workload without feature views."""

from datetime import timedelta
from pathlib import Path

import pandas as pd

from windlass.contract import Column, Estimator, Gates, Label, Range, RequestField, Source, Workload

ROWS = Path(__file__).parent / "rows.parquet"


def load(path):
    path = path or ROWS
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def prepare(frame):
    frame = frame.copy()
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    frame["known_at"] = frame["at"] + pd.Timedelta(hours=3)
    return frame


WORKLOAD = Workload(
    name="tiny",
    source=Source(
        load=load,
        columns=(
            Column("id", "int"),
            Column("at", "timestamp"),
            Column("shop", "string"),
            Column("size", "float", nullable=True, minimum=-100, maximum=100),
            Column("kind", "string", nullable=True),
            Column("outcome", "float", nullable=True),
        ),
        key=("id",),
        event_time="at",
        freshness=timedelta(days=2),
        minimum_rows=200,
    ),
    prepare=prepare,
    entities=("shop",),
    label=Label("outcome", "known_at"),
    views=(),
    request_fields=(
        RequestField("size"),
        RequestField("kind", "string", ("red", "green", "blue")),
        RequestField("weight"),
    ),
    feature_service="tiny_v1",
    estimators=(
        Estimator("linear", {"C": Range(0.01, 10, log=True)}),
        Estimator(
            "hist_gradient_boosting",
            {"max_iter": Range(10, 30, integer=True), "learning_rate": Range(0.05, 0.3, log=True)},
        ),
        Estimator("xgboost", {"n_estimators": Range(10, 30, integer=True), "max_depth": Range(2, 4, integer=True)}),
    ),
    gates=Gates(minimum_auc=MINIMUM_AUC, slice_minimum_rows=100, calibration_bound=0.2, champion_margin=0.03),
    slices=("shop", "size"),
    release={"strategy": {"type": "canary", "steps": [{"weight": 10, "minSamples": 100}]}, "checks": []},
    evaluation_window=timedelta(days=5),
)
'''


def make_rows(days: int = 40, per_day: int = 60, seed: int = 5) -> pd.DataFrame:
    """Rows from 2024-01-01 on, every 24 minutes; the outcome depends on size, kind and weight."""
    rng = np.random.default_rng(seed)
    count = days * per_day
    kind = rng.choice(["red", "green", "blue"], count)
    size, weight = rng.normal(size=count), rng.normal(size=count)
    margin = 1.2 * size + (kind == "red") - 0.8 * weight - 0.3
    frame = pd.DataFrame(
        {
            "id": np.arange(count),
            "at": pd.date_range("2024-01-01", periods=count, freq=f"{24 * 60 // per_day}min", tz="UTC"),
            "shop": rng.choice(["north", "south"], count),
            "size": np.where(rng.random(count) < 0.1, np.nan, size),
            "kind": kind,
            "weight": weight,
            "outcome": np.where(
                rng.random(count) < 0.02,
                np.nan,
                (rng.random(count) < 1 / (1 + np.exp(-margin))).astype(float),
            ),
        }
    )
    frame["at"] = frame["at"].dt.as_unit("us")
    return frame


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture(scope="session")
def new_project(rows: pd.DataFrame) -> Callable[..., Settings]:
    """Write the project into a folder and return its settings."""

    def make(folder: Path, *, minimum_auc: float = 0.6) -> Settings:
        place = folder / "workloads" / "tiny"
        place.mkdir(parents=True)
        (place / "workload.py").write_text(WORKLOAD.replace("MINIMUM_AUC", str(minimum_auc)))
        rows.to_parquet(place / "rows.parquet", index=False)
        return Settings(home=folder / "home", project=folder)

    return make
