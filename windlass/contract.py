"""The workload contract: what a model must state so that the engine can run its whole loop.

A workload is a folder `workloads/<name>/` whose `workload.py` holds one `WORKLOAD`. Nothing here imports a
heavy package, and the engine never looks behind these fields: a new model is a new folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

DType = Literal["string", "int", "float", "timestamp"]


@dataclass(frozen=True)
class Column:
    """One column of the source.

    Attributes:
        nullable: whether single values may be missing; a column that is missing altogether is always refused.
        minimum, maximum: inclusive range of the values that are present.
        max_null_share: the largest share of nulls, in [0, 1], above which the data is refused.
    """

    name: str
    dtype: DType
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    max_null_share: float = 0.5


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        load: returns all raw rows; takes the path of a file to read instead of the built-in data, or None.
        key: columns that together name a row; duplicates are refused.
        event_time: column with the time a prediction is made (aware UTC), the "as of" of its features.
        freshness: how old the newest row may be at the end of the window asked for.
        minimum_rows: fewer rows in the window asked for are refused.
    """

    load: Callable[[Path | None], pd.DataFrame]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    event_time: str
    freshness: timedelta = timedelta(days=3)
    minimum_rows: int = 100


@dataclass(frozen=True)
class Label:
    """The outcome to predict, 0 or 1.

    Attributes:
        column: null where no outcome will ever be known (such rows are served, never scored).
        available_at: column with the time the outcome became known (aware UTC).
    """

    column: str
    available_at: str


@dataclass(frozen=True)
class RequestField:
    """A value that the caller knows and sends.

    Attributes:
        categories: for a string, the values in their order; the model sees the position, an unknown value is missing.
    """

    name: str
    dtype: Literal["float", "string"] = "float"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One feature view: how its rows are computed from the source. Its Feast definition lies in `feature_repo/`.

    Attributes:
        entity: the join key column, present in the source.
        features: names, in order; all are float64, counts included.
        ttl: age above which a value counts as expired, online as offline.
        compute: source rows (or a workload's richer raw data) -> rows of `entity`, `event_timestamp`
            (aware UTC, microseconds) and the features: the values as known at that time.
        stream: True where new rows are pushed as they come, False where they are materialized in batches.
    """

    name: str
    entity: str
    features: tuple[str, ...]
    ttl: timedelta
    compute: Callable[[pd.DataFrame], pd.DataFrame]
    stream: bool = True


@dataclass(frozen=True)
class Transformation:
    """Inputs that are computed at the time of the request, by the same Python in training and in the server.

    Attributes:
        function: a function of the top level of a module that imports the standard library and numpy only. It takes
            and gives columns, name to a list of one value a row, and treats each row by itself.
        inputs: features of views and request fields, as the model takes them: numbers, NaN where missing, of a
            string its category's position.
        outputs: model inputs that it makes, numbers; NaN (or None) where missing.
    """

    name: str
    function: Callable[[dict[str, list[float]]], Mapping[str, Sequence[float | None]]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A search range of one hyper-parameter."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Estimator:
    """A candidate family: "hist_gradient_boosting", "xgboost" or "linear", with its search space."""

    family: Literal["hist_gradient_boosting", "xgboost", "linear"]
    space: Mapping[str, Range]


@dataclass(frozen=True)
class Gates:
    """Bounds that a candidate must keep before it may be released.

    Attributes:
        minimum_auc: absolute floor on the evaluation window.
        champion_margin: the candidate's AUC may be below the champion's by at most this, at confidence 1 - alpha
            (DeLong's paired test, one-sided non-inferiority).
        alpha: level of that test.
        slice_margin: no slice with `slice_minimum_rows` or more may be worse than the champion by more in AUC.
        calibration_bound: largest expected calibration error (10 equal-mass bins).
        latency_budget_ms: median single-row latency of the exported artifact.
        missing_feature_auc_floor: AUC with all of one view's features missing must stay above this.
    """

    minimum_auc: float
    champion_margin: float = 0.01
    alpha: float = 0.05
    slice_margin: float = 0.05
    slice_minimum_rows: int = 500
    calibration_bound: float = 0.10
    latency_budget_ms: float = 5.0
    missing_feature_auc_floor: float = 0.5


@dataclass(frozen=True)
class RetrainPolicy:
    """When signals become a retraining run (see monitoring.retrain.decision and docs/retraining.md).

    Attributes:
        cooldown: least time between two accepted signals of the workload.
        per_day: most runs in any 24 hours.
        concurrency: most runs at a time.
        escalate_after: so many retrainings in a row that did not help, then a person decides.
        signals: kinds that may start a run.
        schedule: a run after so long without one; None for no schedule.
        new_rows: rows of new partitions that make a newData signal count: a number of 1 or more, or below 1 a share
            of the rows that the champion was trained on; None for any partition.
        release: strategy and checks of a retrained candidate's Release; empty for the workload's own.
    """

    cooldown: timedelta = timedelta(days=30)
    per_day: int = 2
    concurrency: int = 1
    escalate_after: int = 2
    signals: tuple[str, ...] = (
        "featureDrift",
        "predictionDrift",
        "performanceDecay",
        "dataQuality",
        "newData",
        "schedule",
        "manual",
    )
    schedule: timedelta | None = None
    new_rows: float | None = None
    release: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    """Everything the engine knows of one model.

    Attributes:
        name: also the registered model's name.
        prepare: source rows -> the richer frame that `views[*].compute` takes (derived columns, times in UTC).
        views: feature views, in the feature service's order.
        request_fields: what a caller sends besides the entity keys.
        transformations: inputs made of the two at the time of the request.
        feature_service: name of the Feast feature service, with its version.
        decision_metric: the metric that decides a release ("brier").
        slices: columns (entities or request fields) by which metrics are also given.
        false_negative_cost, false_positive_cost: cost of a missed and of a false alarm, for the business metric.
        release: `spec.strategy` and `spec.checks` of the Release that a candidate goes through.
        evaluation_window: the newest labelled rows, kept out of training, on which gates are judged.
        static_answer: what the server answers where the model does not, marked as such; None for an error, which a
            release sees and a caller can handle.
        privacy: personal entities and inputs, by name: "drop" keeps no value of them in what the collector stores,
            "hash" (entities and request fields of text) a keyed hash, by which rows can still be grouped.
    """

    name: str
    source: Source
    prepare: Callable[[pd.DataFrame], pd.DataFrame]
    entities: tuple[str, ...]
    label: Label
    views: tuple[View, ...]
    request_fields: tuple[RequestField, ...]
    feature_service: str
    estimators: tuple[Estimator, ...]
    gates: Gates
    slices: tuple[str, ...] = ()
    decision_metric: str = "brier"
    false_negative_cost: float = 5.0
    false_positive_cost: float = 1.0
    release: Mapping[str, Any] = field(default_factory=dict)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)
    evaluation_window: timedelta = timedelta(days=7)
    static_answer: float | None = None
    transformations: tuple[Transformation, ...] = ()
    privacy: Mapping[str, Literal["hash", "drop"]] = field(default_factory=dict)

    @property
    def given_inputs(self) -> tuple[str, ...]:
        """Names of what is read or sent, in order: every view's features, then the request fields."""
        return (*(f for v in self.views for f in v.features), *(f.name for f in self.request_fields))

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, in order: what is given, then what the transformations make of it."""
        return (*self.given_inputs, *(o for t in self.transformations for o in t.outputs))


NOT_INPUTS = ("event_timestamp", "label", "score")
SLICE_PREFIX = "slice_"
"""Columns that stand beside the inputs in a bundle's rows: an input of such a name would be written over."""


def check(workload: Workload) -> Sequence[str]:
    """Return what contradicts itself in a workload, as sentences; empty where it is consistent."""
    problems: list[str] = []
    columns = {c.name for c in workload.source.columns}
    problems += [
        f"source.key names {k!r}, which is not a column" for k in workload.source.key if k not in columns
    ]
    known = set(workload.entities)
    problems += [
        f"view {v.name!r} is about entity {v.entity!r}, which is not among entities {sorted(known)}"
        for v in workload.views
        if v.entity not in known
    ]
    problems += [
        f"view {v.name!r} has no feature; name one or drop the view" for v in workload.views if not v.features
    ]
    given = set(workload.given_inputs)
    for made in workload.transformations:
        if not made.name.isidentifier():
            problems.append(f"transformation {made.name!r} must be named like a variable")
        problems += [
            f"transformation {made.name!r} takes {n!r}, which is neither a feature nor a request field"
            for n in made.inputs
            if n not in given
        ]
        if not made.outputs:
            problems.append(f"transformation {made.name!r} has no output; name one or drop it")
    called = [t.name for t in workload.transformations]
    problems += [f"transformation {n!r} is stated twice" for n in sorted(set(called)) if called.count(n) > 1]
    names = workload.model_inputs
    problems += [f"feature {n!r} is stated twice" for n in sorted({n for n in names if names.count(n) > 1})]
    problems += [
        f"input {n!r} has a name that a bundle's own columns have; call it otherwise"
        for n in names
        if n in NOT_INPUTS or n.startswith(SLICE_PREFIX)
    ]
    if not names:
        problems.append("no view and no request field: the model has no input")
    if not workload.estimators:
        problems.append("estimators is empty; state at least one family")
    fields = {f.name for f in workload.request_fields}
    problems += [
        f"slice {s!r} is neither an entity nor a request field"
        for s in workload.slices
        if s not in known | fields
    ]
    texts = known | {f.name for f in workload.request_fields if f.dtype == "string"}
    for name, way in workload.privacy.items():
        if name not in known | set(names):
            problems.append(f"privacy names {name!r}, which is neither an entity nor an input of the model")
        elif way not in ("hash", "drop"):
            problems.append(f"privacy of {name!r} is {way!r}; use hash or drop")
        elif way == "hash" and name not in texts:
            problems.append(f"privacy of {name!r} is 'hash', which a number is guessed from; use drop")
        elif way == "drop" and name in workload.slices:
            problems.append(f"slice {name!r} is dropped by privacy; hash it, or drop the slice")
    return problems
