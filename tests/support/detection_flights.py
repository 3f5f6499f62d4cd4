"""A year of real flights, one in twenty, with the weather at departure: small enough to learn from in a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.detection import baseline
from monitoring.detection.baseline import Baseline
from monitoring.detection.judging import judge
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import Detection
from monitoring.detection.rows import DAY_S, Matured, Rows
from monitoring.detection.state import DetectionState

Floats = NDArray[np.float64]
NUMBERS = ("temp", "dewp", "humid", "wind_speed", "pressure", "sched_minute", "distance")
COLUMNS = (*NUMBERS, "carrier")
CARRIERS = ("9E", "AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN")
YEAR_S = 364 * DAY_S
WEEKS = 52
POLICY = DetectionPolicy(minimum_rows=100)
WEEK_S = 7 * DAY_S


@dataclass(frozen=True, eq=False)
class Flights:
    """Rows in the order of time; labels are 1 where the flight arrived late."""

    at: Floats
    features: Floats
    labels: Floats
    scores: Floats

    def where(self, chosen: Any) -> Flights:
        return Flights(self.at[chosen], self.features[chosen], self.labels[chosen], self.scores[chosen])

    def live(self, place: int) -> Flights:
        """The held-out week nearest to week `place` of the year, dated as that week of the next year."""
        k = min((w for w in range(WEEKS) if held_out(w)), key=lambda w: abs(w - place))
        start = self.at.min() // DAY_S * DAY_S + k * WEEK_S
        week = self.where((self.at >= start) & (self.at < start + WEEK_S))
        return replace(week, at=week.at + YEAR_S + (place - k) * WEEK_S)

    @property
    def end(self) -> float:
        return float((self.at.max() // DAY_S + 1) * DAY_S)

    def column(self, name: str) -> Floats:
        return self.features[:, COLUMNS.index(name)]

    def changed(self, name: str, change: Callable[[Floats], Floats]) -> Flights:
        features = self.features.copy()
        features[:, COLUMNS.index(name)] = change(features[:, COLUMNS.index(name)])
        return replace(self, features=features)


def load() -> Flights:
    """Read and join them."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    from workloads.flights import source

    frame = source.load(None).iloc[::20]
    weather = source.load_weather()[["origin", "time_hour", *NUMBERS[:5]]]
    frame = frame.merge(
        weather.drop_duplicates(["origin", "time_hour"]), how="left", on=["origin", "time_hour"]
    )
    frame["sched_minute"] = frame["hour"] * 60.0 + frame["minute"]
    frame["carrier"] = frame["carrier"].map({c: float(i) for i, c in enumerate(CARRIERS)})
    frame["at"] = (
        pd.to_datetime(frame["time_hour"], utc=True).dt.tz_localize(None).astype("datetime64[s]").astype(int)
    )
    frame = frame.sort_values("at", kind="stable")
    features = frame[list(COLUMNS)].to_numpy(dtype=np.float64)
    labels = (frame["arr_delay"] > 15).astype(float).where(frame["arr_delay"].notna()).to_numpy()
    # how late it left is most of how late it lands: a score that ranks well, by the model of the other weeks
    told = np.column_stack(
        (np.nan_to_num(frame["dep_delay"].to_numpy(dtype=np.float64)).clip(-20, 60), features[:, 5:7])
    )
    told = (told - told.mean(axis=0)) / told.std(axis=0)
    at = frame["at"].to_numpy(dtype=np.float64)
    odd = at // WEEK_S % 2 == 1
    scores = np.empty(len(at))
    for part in (odd, ~odd):
        model = LogisticRegression().fit(
            told[~part & np.isfinite(labels)], labels[~part & np.isfinite(labels)]
        )
        scores[part] = model.predict_proba(told[part])[:, 1]
    return Flights(at, features, labels, scores)


def held_out(k: int) -> bool:
    """Whether week k is live: the reference has none of its days."""
    return k % 4 == 2


def reference_of(flights: Flights) -> Flights:
    """The weeks that are not held out."""
    week = ((flights.at - flights.at.min() // DAY_S * DAY_S) // WEEK_S).astype(int)
    return flights.where(np.array([not held_out(k) for k in range(week.max() + 1)])[week])


def learn(reference: Flights, *, timed: bool = True) -> Baseline:
    """Learn a baseline from these rows."""
    known = np.isfinite(reference.labels)
    return baseline.build(
        {name: reference.column(name) for name in COLUMNS},
        at=reference.at if timed else None,
        scores=reference.scores,
        categories={"carrier": len(CARRIERS)},
        labels=reference.labels[known],
        label_scores=reference.scores[known],
        label_at=reference.at[known] if timed else None,
    )


@dataclass
class Watch:
    """Looks at one week after the other, each dated after the one before."""

    baseline: Baseline
    policy: DetectionPolicy = POLICY
    state: DetectionState = field(default_factory=DetectionState)

    def look(self, week: Flights, *, labelled: bool = True) -> Detection:
        """Judge `week`; its labels have all come."""
        matured = None
        if labelled:
            known = np.isfinite(week.labels)
            matured = Matured(week.end, week.at[known], week.labels[known], week.scores[known])
        rows = Rows(week.end, week.at, week.features, week.scores)
        found, self.state = judge(self.baseline, rows, self.state, self.policy, matured)
        return found
