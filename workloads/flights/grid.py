"""Hourly grids: what was known at each full hour, for each key, without a loop over rows.

An event at time t counts from the first full hour at or after t. Sums run over whole minutes, which float64 adds
exactly, so a value never depends on what came after it: the same prefix of events gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

HOUR = 3600
NEVER = np.int64(1 << 40)  # an hour, or a second, that no grid reaches


def seconds(times: pd.Series[pd.Timestamp]) -> Ints:
    """Epoch seconds of aware times; a missing time never comes."""
    stamps = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[s]")
    return np.where(np.isnat(stamps), NEVER * HOUR, stamps.astype("int64"))


@dataclass(frozen=True)
class Axis:
    """The full hours that a grid covers: `count` of them from the epoch hour `first`."""

    first: int
    count: int

    @classmethod
    def over(cls, *times: Ints) -> Axis:
        """Cover all of these times, and the hour in which the last becomes known."""
        known = [t[t < NEVER * HOUR] for t in times]
        low = min(int(t.min()) for t in known if len(t))
        high = max(int(t.max()) for t in known if len(t))
        first = low // HOUR
        return cls(first, -(-high // HOUR) - first + 1)

    def index(self, times: Ints) -> Ints:
        """Position of the hour from which each time counts; what never comes lies beyond the grid."""
        out: Ints = -(-times // HOUR) - self.first
        return out

    def timestamps(self, positions: Ints) -> NDArray[np.datetime64]:
        return ((positions + self.first) * HOUR).astype("datetime64[s]").astype("datetime64[us]")


@dataclass(frozen=True)
class Running:
    """Sums of events since the start of the grid, one row a key."""

    total: Floats

    @classmethod
    def of(cls, axis: Axis, keys: Ints, key_count: int, at: Ints, values: Floats) -> Running:
        """Add up `values` of events known from hour `at`; those that no hour of the grid sees are left out."""
        seen = at < axis.count
        cells = np.bincount(
            keys[seen] * axis.count + at[seen], weights=values[seen], minlength=key_count * axis.count
        ).reshape(key_count, axis.count)
        return cls(np.concatenate([np.zeros((key_count, 1)), np.cumsum(cells, axis=1)], axis=1))

    @property
    def now(self) -> Floats:
        """The sum at each hour of the grid."""
        return self.total[:, 1:]

    def window(self, hours: int) -> Floats:
        """Sum over the events of the last `hours`, at each hour of the grid."""
        count = self.total.shape[1] - 1
        since = np.maximum(np.arange(1, count + 1) - hours, 0)
        out: Floats = self.total[:, 1:] - self.total[:, since]
        return out


def mean(total: Floats, count: Floats) -> Floats:
    """Mean where there was any event, NaN where there was none."""
    out: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return out


def changed(values: Floats, heartbeat: int) -> Bools:
    """Mark the hours that need a row, of `values` [feature, key, hour].

    A row is needed where any value differs from the hour before, and where the last row is `heartbeat` hours old:
    with a time to live of that many hours a key then never expires while the grid goes on. Before a key's first
    event all is empty (NaN or zero), and no row says so.
    """
    now, before = values[:, :, 1:], values[:, :, :-1]
    differs = ~((now == before) | (np.isnan(now) & np.isnan(before))).all(axis=0)
    first = (np.nan_to_num(values[:, :, :1]) != 0).any(axis=0)
    change = np.concatenate([first, differs], axis=1)
    hours = np.arange(values.shape[2])
    last = np.maximum.accumulate(np.where(change, hours, -1), axis=1)
    marked: Bools = (last >= 0) & ((hours - last) % heartbeat == 0)
    return marked
