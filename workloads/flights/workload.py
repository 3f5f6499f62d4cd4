"""Will this flight arrive more than 15 minutes late? Asked one hour before its scheduled departure."""

from __future__ import annotations

from datetime import timedelta

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
from workloads.flights import features, tails, weather
from workloads.flights.prepare import prepare
from workloads.flights.source import load

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")

DAY = timedelta(days=1)

COLUMNS = (
    Column("year", "int", minimum=1987, maximum=2100),
    Column("month", "int", minimum=1, maximum=12),
    Column("day", "int", minimum=1, maximum=31),
    Column("dep_time", "float", nullable=True, minimum=0, maximum=2400),
    Column("sched_dep_time", "int", minimum=0, maximum=2400),
    Column("dep_delay", "float", nullable=True, minimum=-120, maximum=3000),
    Column("arr_time", "float", nullable=True, minimum=0, maximum=2400),
    Column("sched_arr_time", "int", minimum=0, maximum=2400),
    Column("arr_delay", "float", nullable=True, minimum=-180, maximum=3000),
    Column("carrier", "string"),
    Column("flight", "int", minimum=0, maximum=9999),
    Column("tailnum", "string", nullable=True),
    Column("origin", "string"),
    Column("dest", "string"),
    Column("air_time", "float", nullable=True, minimum=0, maximum=1440),
    Column("distance", "float", minimum=0, maximum=10_000),
    Column("hour", "int", minimum=0, maximum=24),
    Column("minute", "int", minimum=0, maximum=59),
    Column("time_hour", "timestamp"),
)

WORKLOAD = Workload(
    name="flights",
    source=Source(
        load=load,
        columns=COLUMNS,
        key=("year", "month", "day", "sched_dep_time", "carrier", "flight", "origin"),
        event_time="event_timestamp",
        freshness=timedelta(days=3),
        minimum_rows=1000,
    ),
    prepare=prepare,
    entities=("carrier", "origin", "dest", "tailnum"),
    label=Label(column="late", available_at="label_available_at"),
    views=(
        View("carrier_delays", "carrier", features.CARRIER, DAY, features.carrier_delays),
        View("origin_delays", "origin", features.ORIGIN, DAY, features.origin_delays),
        View("origin_weather", "origin", weather.WEATHER, timedelta(hours=6), weather.origin_weather),
        View("dest_delays", "dest", features.DEST, DAY, features.dest_delays),
        View(
            "dest_history",
            "dest",
            features.DEST_HISTORY,
            timedelta(days=8),
            features.dest_history,
            stream=False,
        ),
        View("tail_delays", "tailnum", tails.TAIL, timedelta(days=7), tails.tail_delays),
        View("tail_turn", "tailnum", tails.TURN, timedelta(days=2), tails.tail_turn),
    ),
    request_fields=(
        RequestField("sched_minute"),
        RequestField("day_of_week"),
        RequestField("distance"),
        RequestField("sched_elapsed"),
        RequestField("carrier", "string", CARRIERS),
        RequestField("origin", "string", ORIGINS),
    ),
    feature_service="flights_v1",
    estimators=(
        Estimator(
            "hist_gradient_boosting",
            {
                "learning_rate": Range(0.05, 0.2, log=True),
                "max_iter": Range(60, 160, integer=True),
                "max_leaf_nodes": Range(15, 63, log=True, integer=True),
                "min_samples_leaf": Range(40, 400, log=True, integer=True),
                "l2_regularization": Range(0.01, 10.0, log=True),
            },
        ),
        Estimator(
            "xgboost",
            {
                "learning_rate": Range(0.05, 0.25, log=True),
                "n_estimators": Range(80, 180, integer=True),
                "max_depth": Range(4, 8, integer=True),
                "min_child_weight": Range(1.0, 50.0, log=True),
                "subsample": Range(0.6, 1.0),
                "colsample_bytree": Range(0.5, 1.0),
                "reg_lambda": Range(0.1, 10.0, log=True),
            },
        ),
        Estimator("linear", {"C": Range(0.001, 10.0, log=True)}),
    ),
    gates=Gates(
        minimum_auc=0.62,
        champion_margin=0.01,
        alpha=0.05,
        slice_margin=0.05,
        slice_minimum_rows=500,
        calibration_bound=0.12,  # the late rate moves by 20 points over a year, so a week may sit well off the mean
        latency_budget_ms=5.0,
        missing_feature_auc_floor=0.55,
    ),
    slices=("carrier", "origin"),
    decision_metric="brier",
    false_negative_cost=5.0,
    false_positive_cost=1.0,
    release={
        "strategy": {
            "type": "canary",
            "mirror": True,
            "steps": [{"weight": 10, "minSamples": 200}, {"weight": 50, "minSamples": 400}],
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
                "bound": "50ms",
                "relativeToChampion": True,
                "alpha": 0.001,  # one stall of the machine makes a handful of answers slow at once
            },
            {
                "name": "feature-skew",
                "kind": "guardrail",
                "metric": "featureSkew",
                "source": "predictions",
                "bound": 1,
                "alpha": 0.01,
            },
            {
                "name": "brier",
                "kind": "decision",
                "metric": "brier",
                "source": "feedback",
                "direction": "decrease",
                "margin": 0.01,
                "alpha": 0.05,
            },
        ],
    },
    retrain=RetrainPolicy(cooldown=timedelta(days=30), per_day=2, concurrency=1, escalate_after=2),
    evaluation_window=timedelta(days=7),
)
