"""Flights as arrays, and their sums on the hourly grid by carrier, airport or aircraft.

Delays are clipped so that one flight a day late does not drown its hour's mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workloads.flights import grid
from workloads.flights.grid import Axis, Running, mean
from workloads.flights.prepare import LATE_MINUTES

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from workloads.flights.grid import Floats, Ints

HEARTBEAT_HOURS = 24
GIVEN_UP_HOURS = 4


@dataclass(frozen=True)
class Flights:
    """The columns that features need, as arrays."""

    frame: pd.DataFrame

    def times(self, column: str) -> Ints:
        return grid.seconds(self.frame[column])

    @cached_property
    def axis(self) -> Axis:
        return Axis.over(self.times("sched_dep"), self.times("dep_at"), self.times("arr_at"))

    @cached_property
    def departed(self) -> Ints:
        """Hour from which each departure counts."""
        return self.axis.index(self.times("dep_at"))

    @cached_property
    def arrived(self) -> Ints:
        return self.axis.index(self.times("arr_at"))

    @cached_property
    def dep_delay(self) -> Floats:
        return _clipped(self.frame["dep_delay"], -30, 180)

    @cached_property
    def arr_delay(self) -> Floats:
        return _clipped(self.frame["arr_delay"], -60, 180)

    @cached_property
    def added_delay(self) -> Floats:
        """Minutes lost between leaving the gate and reaching the other: queues for the runway, holding patterns."""
        return _clipped(self.frame["arr_delay"] - self.frame["dep_delay"], -60, 120)

    @cached_property
    def late(self) -> Floats:
        return np.asarray(self.frame["arr_delay"] > LATE_MINUTES, dtype=np.float64)

    @cached_property
    def left_late(self) -> Floats:
        return np.asarray(self.frame["dep_delay"] > LATE_MINUTES, dtype=np.float64)


def _clipped(minutes: pd.Series[float], low: float, high: float) -> Floats:
    """Minutes as an array; what is missing becomes 0, and counts nowhere since its time never comes."""
    out: Floats = np.clip(np.nan_to_num(minutes.to_numpy(dtype="float64")), low, high)
    return out


class Keyed:
    """Running sums over the flights of each value of one column."""

    def __init__(self, flights: Flights, column: str) -> None:
        import pandas as pd

        self.flights = flights
        self.column = column
        codes, names = pd.factorize(flights.frame[column], sort=True)
        self.codes = codes.astype("int64")
        self.names = np.asarray(names, dtype=object)

    def sums(self, at: Ints, values: Floats | None = None) -> Running:
        weights = np.ones(len(at)) if values is None else values
        return Running.of(self.flights.axis, self.codes, len(self.names), at, weights)

    def overdue(self) -> tuple[Floats, Floats]:
        """At each hour, how many flights are past their time and still here, and for how long on average.

        A cancelled flight is told from a late one by nothing but time, so after some hours nobody waits for it.
        """
        flights = self.flights
        due = flights.axis.index(flights.times("sched_dep"))
        gone = np.maximum(np.minimum(flights.departed, due + GIVEN_UP_HOURS), due)
        since = due.astype("float64")
        count = self.sums(due).now - self.sums(gone).now
        hours = np.arange(flights.axis.count) * count - (
            self.sums(due, since).now - self.sums(gone, since).now
        )
        return count, mean(hours, count)

    def rows(self, names: tuple[str, ...], values: list[Floats], hours: Ints | None = None) -> pd.DataFrame:
        """Turn grids into rows: those of `hours`, or wherever something changed."""
        stacked = np.stack(values)
        if hours is None:
            keep = grid.changed(stacked, HEARTBEAT_HOURS)
        else:
            keep = np.zeros(stacked.shape[1:], dtype=bool)
            keep[:, hours] = ~np.isnan(stacked[:, :, hours]).all(axis=0)
        key, hour = np.nonzero(keep)
        columns = {name: grid_of[key, hour] for name, grid_of in zip(names, stacked, strict=True)}
        return frame_of(self.column, self.names[key], self.flights.axis.timestamps(hour), columns)


def frame_of(
    entity: str, keys: NDArray[np.object_], stamps: NDArray[np.datetime64], columns: dict[str, Floats]
) -> pd.DataFrame:
    import pandas as pd

    rows = pd.DataFrame(
        {entity: keys, "event_timestamp": pd.DatetimeIndex(stamps).tz_localize("UTC"), **columns}
    )
    return rows.sort_values(["event_timestamp", entity], kind="stable", ignore_index=True)
