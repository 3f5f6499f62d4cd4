"""Aircraft: how late the previous leg was, and when it should be ready for the next.

Rows stand only where something happens to an aircraft: there are thousands, and most fly from New York once a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workloads.flights.grid import HOUR, mean
from workloads.flights.prepare import NO_TAIL
from workloads.flights.table import Flights, Keyed, frame_of

if TYPE_CHECKING:
    import pandas as pd

    from workloads.flights.grid import Floats, Ints

TAIL = ("tail_dep_delay", "tail_arr_delay", "tail_late_share_7d", "tail_arrivals_7d_count")
TURN = ("tail_ready_hours",)

# a value for every hour would make this one feature most of what is pushed online, and the model no better
READY_STEPS = (-4, -2, 0, 1, 2, 4, 8)
TURN_MINUTES = 90  # at the far airport and again at home, together


def tail_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """The previous leg of each aircraft: one row an hour in which it left or landed, with all known by then."""
    flights = Flights(frame)
    by = Keyed(flights, "tailnum")
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
    return frame_of("tailnum", by.names[tail], flights.axis.timestamps(hour), columns)


def tail_turn(frame: pd.DataFrame) -> pd.DataFrame:
    """Hours since each aircraft should be ready for its next flight from New York, negative before.

    Only flights out of New York are in the data, so an aircraft that left is expected back after the same time
    again and two turnarounds. The value is the last of `READY_STEPS` that has passed.
    """
    flights = Flights(frame)
    by = Keyed(flights, "tailnum")
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
    return frame_of("tailnum", by.names[code[row]], flights.axis.timestamps(hour), columns)


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
