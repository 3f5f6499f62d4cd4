"""Real flights with the features that were known an hour before each, and a model of the first months' flights.

Shared by the tests that ask what an analysis says about months that really happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from monitoring.columns import Floats
from workloads.flights.workload import WORKLOAD

EVERY = 6
VIEWS = ("carrier_delays", "origin_delays", "origin_weather", "dest_delays")


@dataclass(frozen=True, eq=False)
class Flights:
    """Every sixth flight of 2013, in the order of time.

    Attributes:
        at: epoch seconds of the prediction.
        labels: 1 late, 0 not, NaN never known (cancelled).
        label_at: epoch seconds of the landing.
        inputs: flights x `names`; NaN is missing.
        scores: of a model trained on the flights up to `trained_to`.
    """

    at: Floats
    labels: Floats
    label_at: Floats
    inputs: Floats
    names: tuple[str, ...]
    scores: Floats
    trained_to: float

    def between(self, start: str, end: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Flights from the day `start` up to, not including, the day `end`."""
        low, high = (pd.Timestamp(day, tz="UTC").timestamp() for day in (start, end))
        return (self.at >= low) & (self.at < high)


@cache
def flights(trained_to: str = "2013-05-25") -> Flights:
    """Load, join and score the flights; the model never saw a flight from `trained_to` on."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = WORKLOAD.prepare(WORKLOAD.source.load(None))
    rows = frame.sort_values("event_timestamp", kind="stable").iloc[::EVERY].reset_index(drop=True)
    rows["event_timestamp"] = rows["event_timestamp"].astype("datetime64[us, UTC]")
    columns: dict[str, Floats] = {}
    for view in WORKLOAD.views:
        if view.name not in VIEWS:
            continue
        known = view.compute(frame).sort_values("event_timestamp", kind="stable")
        known["event_timestamp"] = known["event_timestamp"].astype("datetime64[us, UTC]")
        joined = pd.merge_asof(
            rows[["event_timestamp", view.entity]],
            known,
            on="event_timestamp",
            by=view.entity,
            tolerance=pd.Timedelta(view.ttl),
        )
        columns |= {name: joined[name].to_numpy(dtype=np.float64) for name in view.features}
    for field in WORKLOAD.request_fields:
        values = rows[field.name]
        if field.categories:
            values = values.map({c: float(i) for i, c in enumerate(field.categories)})
        columns[field.name] = values.to_numpy(dtype=np.float64)
    at = rows["event_timestamp"].astype("int64").to_numpy() / 1e6
    landed = pd.to_datetime(rows["label_available_at"], utc=True).astype("datetime64[us, UTC]")
    label_at = np.where(landed.isna(), np.nan, landed.astype("int64").to_numpy() / 1e6)
    labels = rows["late"].to_numpy(dtype=np.float64)
    inputs = np.column_stack(list(columns.values()))
    cut = pd.Timestamp(trained_to, tz="UTC").timestamp()
    learned = (at < cut) & np.isfinite(labels)
    model = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.06, min_samples_leaf=100, random_state=0
    ).fit(inputs[learned], labels[learned])
    scores = model.predict_proba(inputs)[:, 1]
    return Flights(at, labels, label_at, inputs, tuple(columns), scores, cut)
