"""The feature views' rows: what was known of carriers, airports and aircraft at each full hour.

A departure delay is known once the flight has left, an arrival delay once it has landed; a cancelled flight does
neither. Nothing looks at the schedule of later flights. Delays are clipped so that one flight a day late does not
drown its hour's mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workloads.flights import grid, source
from workloads.flights.grid import HOUR, Axis, Running, mean
from workloads.flights.prepare import LATE_MINUTES, NO_TAIL

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from workloads.flights.grid import Floats, Ints

CARRIER = (
    "carrier_arr_delay_3h", "carrier_dep_delay_2h", "carrier_added_delay_3h", "carrier_late_share_24h",
    "carrier_arrivals_24h_count",
)  # fmt: skip
ORIGIN = (
    "origin_dep_delay_1h", "origin_dep_delay_3h", "origin_dep_late_share_3h", "origin_added_delay_3h",
    "origin_departures_24h_count", "origin_overdue_count", "origin_overdue_hours",
)  # fmt: skip
DEST = (
    "dest_arr_delay_6h", "dest_added_delay_6h", "dest_dep_delay_3h", "dest_late_share_24h", "dest_arrivals_6h_count",
)  # fmt: skip
DEST_HISTORY = ("dest_late_share_7d", "dest_late_share_28d")
TAIL = ("tail_dep_delay", "tail_arr_delay", "tail_late_share_7d", "tail_arrivals_7d_count")
TURN = ("tail_ready_hours",)
WEATHER = (
    "weather_temp", "weather_dewp", "weather_wind_speed", "weather_wind_gust", "weather_precip_3h",
    "weather_pressure", "weather_pressure_change_3h", "weather_visib_min_3h",
)  # fmt: skip

HEARTBEAT_HOURS = 24
HISTORY_DAYS = 28
GIVEN_UP_HOURS = 4
# a value for every hour would make this one feature most of what is pushed online, and the model no better
READY_STEPS = (-4, -2, 0, 1, 2, 4, 8)
TURN_MINUTES = 90  # at the far airport and again at home, together
WIND_LIMIT = 200.0  # one row of the source says 1,048 miles an hour


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


class _Keyed:
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
        return _frame(self.column, self.names[key], self.flights.axis.timestamps(hour), columns)


def carrier_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How late each carrier's flights leave and land of late."""
    flights = Flights(frame)
    by = _Keyed(flights, "carrier")
    landed, left = by.sums(flights.arrived), by.sums(flights.departed)
    return by.rows(
        CARRIER,
        [
            mean(by.sums(flights.arrived, flights.arr_delay).window(3), landed.window(3)),
            mean(by.sums(flights.departed, flights.dep_delay).window(2), left.window(2)),
            mean(by.sums(flights.arrived, flights.added_delay).window(3), landed.window(3)),
            mean(by.sums(flights.arrived, flights.late).window(24), landed.window(24)),
            landed.window(24),
        ],
    )


def origin_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How each New York airport runs: departure delays, minutes lost on the way, and who still waits."""
    flights = Flights(frame)
    by = _Keyed(flights, "origin")
    left, landed = by.sums(flights.departed), by.sums(flights.arrived)
    delay = by.sums(flights.departed, flights.dep_delay)
    return by.rows(
        ORIGIN,
        [
            mean(delay.window(1), left.window(1)),
            mean(delay.window(3), left.window(3)),
            mean(by.sums(flights.departed, flights.left_late).window(3), left.window(3)),
            mean(by.sums(flights.arrived, flights.added_delay).window(3), landed.window(3)),
            left.window(24),
            *by.overdue(),
        ],
    )


def dest_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How flights to each destination fare: landed ones, and those held at home before leaving for it."""
    flights = Flights(frame)
    by = _Keyed(flights, "dest")
    left, landed = by.sums(flights.departed), by.sums(flights.arrived)
    return by.rows(
        DEST,
        [
            mean(by.sums(flights.arrived, flights.arr_delay).window(6), landed.window(6)),
            mean(by.sums(flights.arrived, flights.added_delay).window(6), landed.window(6)),
            mean(by.sums(flights.departed, flights.dep_delay).window(3), left.window(3)),
            mean(by.sums(flights.arrived, flights.late).window(24), landed.window(24)),
            landed.window(6),
        ],
    )


def dest_history(frame: pd.DataFrame) -> pd.DataFrame:
    """Long-run late shares of each destination, computed once a week, on Monday at 00:00 UTC."""
    flights = Flights(frame)
    by = _Keyed(flights, "dest")
    landed, late = by.sums(flights.arrived), by.sums(flights.arrived, flights.late)
    hours = np.arange(flights.axis.count) + flights.axis.first
    mondays = np.flatnonzero((hours - 4 * 24) % (7 * 24) == 0)  # the epoch began on a Thursday
    shares = [mean(late.window(24 * days), landed.window(24 * days)) for days in (7, HISTORY_DAYS)]
    return by.rows(DEST_HISTORY, shares, mondays)


def tail_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """The previous leg of each aircraft: one row an hour in which it left or landed, with all known by then."""
    flights = Flights(frame)
    by = _Keyed(flights, "tailnum")
    named = np.flatnonzero(by.names[by.codes] != NO_TAIL)
    left = _Events.of(by.codes, flights.times("dep_at"), named)
    landed = _Events.of(by.codes, flights.times("arr_at"), named)
    span = flights.axis.count
    moves = np.concatenate(
        [
            by.codes[e.rows] * span + at[e.rows]
            for e, at in ((left, flights.departed), (landed, flights.arrived))
        ]
    )
    tail, hour = np.divmod(np.unique(moves), span)
    now = (hour + flights.axis.first) * HOUR
    week = landed.count(tail, now) - landed.count(tail, now - 7 * 24 * HOUR)
    late = landed.sum(tail, now, flights.late) - landed.sum(tail, now - 7 * 24 * HOUR, flights.late)
    columns = {
        "tail_dep_delay": left.last(tail, now, flights.dep_delay),
        "tail_arr_delay": landed.last(tail, now, flights.arr_delay),
        "tail_late_share_7d": mean(late, week),
        "tail_arrivals_7d_count": week,
    }
    return _frame("tailnum", by.names[tail], flights.axis.timestamps(hour), columns)


def tail_turn(frame: pd.DataFrame) -> pd.DataFrame:
    """Hours since each aircraft should be ready for its next flight from New York, negative before.

    Only flights out of New York are in the data, so an aircraft that left is expected back after the same time
    again and two turnarounds. The value is the last of `READY_STEPS` that has passed.
    """
    flights = Flights(frame)
    by = _Keyed(flights, "tailnum")
    named = np.flatnonzero(by.names[by.codes] != NO_TAIL)
    left = _Events.of(by.codes, flights.times("dep_at"), named)
    departed = flights.departed[left.rows]
    elapsed = (frame["sched_elapsed"].to_numpy(dtype="float64") * 60).astype("int64")[left.rows]
    back = flights.times("dep_at")[left.rows] + 2 * elapsed + TURN_MINUTES * 60
    ready = flights.axis.index(back)
    code = by.codes[left.rows]
    # an hour belongs to the aircraft's last departure known by then, so each reaches up to the next
    same = np.concatenate([code[1:] == code[:-1], [False]])
    until = np.minimum(np.where(same, np.append(departed[1:], 0), flights.axis.count), flights.axis.count)
    # one row when it leaves, one at each step it then reaches before it leaves again
    steps = np.asarray(READY_STEPS)
    begin = np.searchsorted(steps[1:], departed - ready, side="right")
    hours = np.concatenate([departed[:, None], ready[:, None] + steps[1:]], axis=1)
    values = np.concatenate(
        [steps[begin][:, None], np.broadcast_to(steps[1:], (len(code), len(steps) - 1))], axis=1
    )
    reached = (hours > departed[:, None]) & (hours < until[:, None])
    reached[:, 0] = departed < until
    row, step = np.nonzero(reached)
    hour = hours[row, step]
    columns = {"tail_ready_hours": values[row, step].astype("float64")}
    return _frame("tailnum", by.names[code[row]], flights.axis.timestamps(hour), columns)


def origin_weather(frame: pd.DataFrame) -> pd.DataFrame:
    """Weather at the airports that occur in the flights, over the time they span."""
    flights = Flights(frame)
    rows = weather_rows(source.load_weather())
    span = flights.axis.timestamps(np.array([0, flights.axis.count]))
    stamps = rows["event_timestamp"].dt.tz_localize(None).to_numpy()
    inside = (
        (stamps >= span[0]) & (stamps <= span[1]) & rows["origin"].isin(frame["origin"].unique()).to_numpy()
    )
    within: pd.DataFrame = rows[inside].reset_index(drop=True)
    return within


def weather_rows(weather: pd.DataFrame) -> pd.DataFrame:
    """One row an observation, one hour after the hour it is labelled with: it is taken at the end of that hour."""
    import pandas as pd

    at = grid.seconds(pd.to_datetime(weather["time_hour"], utc=True)) // HOUR + 1
    first = int(at.min())
    codes, names = pd.factorize(weather["origin"], sort=True)
    shape = (len(names), int(at.max()) - first + 1)

    def spread(column: str) -> Floats:
        cells = np.full(shape, np.nan)
        cells[codes, at - first] = weather[column].to_numpy(dtype="float64")
        return cells

    def past(cells: Floats, hours: int) -> Floats:
        return np.concatenate([np.full((shape[0], hours), np.nan), cells[:, :-hours]], axis=1)

    precip, pressure, visib, wind = (
        spread("precip"),
        spread("pressure"),
        spread("visib"),
        spread("wind_speed"),
    )
    recent_rain = np.nan_to_num(precip) + np.nan_to_num(past(precip, 1)) + np.nan_to_num(past(precip, 2))
    cells = {
        "weather_temp": spread("temp"),
        "weather_dewp": spread("dewp"),
        "weather_wind_speed": np.where(wind > WIND_LIMIT, np.nan, wind),
        "weather_wind_gust": np.nan_to_num(spread("wind_gust")),  # the source leaves out what is calm
        "weather_precip_3h": recent_rain,
        "weather_pressure": pressure,
        "weather_pressure_change_3h": pressure - past(pressure, 3),
        "weather_visib_min_3h": np.fmin(visib, np.fmin(past(visib, 1), past(visib, 2))),
    }
    key, hour = codes, at - first
    stamps = (at * HOUR).astype("datetime64[s]").astype("datetime64[us]")
    return _frame(
        "origin", np.asarray(names, dtype=object)[key], stamps, {n: c[key, hour] for n, c in cells.items()}
    )


@dataclass(frozen=True)
class _Events:
    """Events of each key in the order of time, to ask for the last one, or sums, as of any time.

    `rows` are positions in the flights; `ranks` sort by key, then time.
    """

    rows: Ints
    ranks: Ints

    SPAN = np.int64(1 << 34)  # seconds; more than any epoch time

    @classmethod
    def of(cls, codes: Ints, times: Ints, among: Ints) -> _Events:
        known = among[times[among] < cls.SPAN]
        ranks = codes[known] * cls.SPAN + times[known]
        order = np.argsort(ranks, kind="stable")
        return cls(known[order], ranks[order])

    def _until(self, code: Ints, now: Ints) -> Ints:
        """Number of events, of all keys, that sort up to `now` of key `code`."""
        return np.searchsorted(self.ranks, code * self.SPAN + now, side="right")

    def count(self, code: Ints, now: Ints) -> Floats:
        return (self._until(code, now) - np.searchsorted(self.ranks, code * self.SPAN)).astype("float64")

    def sum(self, code: Ints, now: Ints, values: Floats) -> Floats:
        total = np.concatenate([[0.0], np.cumsum(values[self.rows])])
        out: Floats = total[self._until(code, now)] - total[np.searchsorted(self.ranks, code * self.SPAN)]
        return out

    def last(self, code: Ints, now: Ints, values: Floats) -> Floats:
        position = self._until(code, now) - 1
        there = position >= np.searchsorted(self.ranks, code * self.SPAN)
        return np.where(there, values[self.rows[position]], np.nan)


def _frame(
    entity: str, keys: NDArray[np.object_], stamps: NDArray[np.datetime64], columns: dict[str, Floats]
) -> pd.DataFrame:
    import pandas as pd

    rows = pd.DataFrame(
        {entity: keys, "event_timestamp": pd.DatetimeIndex(stamps).tz_localize("UTC"), **columns}
    )
    return rows.sort_values(["event_timestamp", entity], kind="stable", ignore_index=True)
