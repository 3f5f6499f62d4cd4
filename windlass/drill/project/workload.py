"""Will an order come back? The workload of the drills: made-up orders up to yesterday, trained in seconds.

A drill copies this file into a project of its own; nothing else imports it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.contract import (
    Column,
    Estimator,
    Gates,
    Label,
    Range,
    RequestField,
    RetrainPolicy,
    Source,
    View,
    Workload,
)
from windlass.features import columns, files, rolling

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "orders.parquet"
TIME, LABEL, ENTITY = "at", "returned", "shop"
LABEL_DELAY = timedelta(hours=6)
MEANS = ("price",)
WINDOW, LAST = timedelta(days=7), 50
COLUMNS = (
    Column("order_id", "int"),
    Column(TIME, "timestamp"),
    Column(ENTITY, "int", minimum=0),
    Column("price", "float", minimum=0, maximum=500),
    Column("weight", "float", minimum=0, maximum=100),
    Column("colour", "string"),
    Column(LABEL, "float", nullable=True, minimum=0, maximum=1, max_null_share=0.2),
)
NAMES = rolling.feature_names(ENTITY, LABEL, MEANS)


def load(path: Path | None) -> pd.DataFrame:
    return files.read(path or DATA, [c.name for c in COLUMNS])


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows.copy()
    frame["event_timestamp"] = columns.utc(frame[TIME])
    frame["label_available_at"] = frame["event_timestamp"] + LABEL_DELAY
    frame[ENTITY] = columns.key(frame[ENTITY])
    return frame


def history(frame: pd.DataFrame) -> pd.DataFrame:
    return rolling.entity_history(
        frame,
        entity=ENTITY,
        event_time="event_timestamp",
        label=LABEL,
        label_time="label_available_at",
        names=NAMES,
        window=WINDOW,
        last=LAST,
    )


WORKLOAD = Workload(
    name="orders",
    source=Source(
        load=load,
        columns=COLUMNS,
        key=("order_id",),
        event_time="event_timestamp",
        freshness=timedelta(days=3),
        minimum_rows=500,
    ),
    prepare=prepare,
    entities=(ENTITY,),
    label=Label(column=LABEL, available_at="label_available_at"),
    views=(View("orders_shop_history", ENTITY, tuple(NAMES), timedelta(days=30), history),),
    request_fields=(
        RequestField("price"),
        RequestField("weight"),
        RequestField("colour", "string", ("blue", "green", "red")),
    ),
    feature_service="orders_v1",
    estimators=(
        Estimator("linear", {"C": Range(0.01, 10.0, log=True)}),
        Estimator("xgboost", {"learning_rate": Range(0.1, 0.3), "max_depth": Range(2, 3, integer=True)}),
    ),
    gates=Gates(
        minimum_auc=0.6,
        champion_margin=0.05,
        calibration_bound=0.2,
        slice_margin=0.2,
        missing_feature_auc_floor=0.4,
    ),
    release={
        "strategy": {
            "type": "canary",
            "mirror": True,
            "steps": [{"weight": 20, "minSamples": 60}, {"weight": 50, "minSamples": 120}],
        },
        "checks": [
            {
                "name": "errors",
                "kind": "guardrail",
                "metric": "errorRate",
                "source": "envoy",
                "relativeToChampion": True,
                "alpha": 0.01,
            },
            {
                "name": "latency",
                "kind": "guardrail",
                "metric": "latencyP99",
                "source": "envoy",
                "bound": "250ms",
                "alpha": 0.01,
            },
        ],
    },
    retrain=RetrainPolicy(cooldown=timedelta(days=7)),
    evaluation_window=timedelta(days=10),
)
