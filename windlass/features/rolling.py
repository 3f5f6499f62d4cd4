"""Rolling features of an entity on the hourly grid: counts and means over what was known at each full hour.

A row stands at every hour at which something about its entity changes, so the newest row at or before a time is what
was known then. An event counts from the first full hour *after* it: one that happens on the hour is never part of its
own features. An outcome counts from the first full hour at or after it became known, which is later than its event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

HOUR_US = 3_600_000_000
# entity and hour in one sortable number: hours since 1970 fit in 32 bits for longer than anyone will care
_SHIFT = 32


@dataclass(frozen=True)
class History:
    """Values of entities in the order in which they became known.

    Attributes:
        keys: entity code and hour in one number, ascending.
        sums: running sum of the values, with a leading zero.
    """

    keys: NDArray[np.int64]
    sums: NDArray[np.float64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], hours: NDArray[np.int64], values: NDArray[np.float64]) -> History:
        """Order values by entity and hour; missing values are left out."""
        import numpy as np

        known = ~np.isnan(values)
        keys = (codes[known] << _SHIFT) | hours[known]
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], np.concatenate([[0.0], np.cumsum(values[known][order])]))

    def counts(
        self, codes: NDArray[np.int64], hours: NDArray[np.int64], window: timedelta
    ) -> NDArray[np.float64]:
        """How many values each entity has in the window that ends with each hour."""
        import numpy as np

        until = np.searchsorted(self.keys, (codes << _SHIFT) | hours, side="right")
        since = np.searchsorted(self.keys, (codes << _SHIFT) | (hours - whole_hours(window)), side="right")
        return (until - since).astype(np.float64)

    def means(self, codes: NDArray[np.int64], hours: NDArray[np.int64], last: int) -> NDArray[np.float64]:
        """Mean of each entity's newest `last` values at each hour, NaN where it has none yet."""
        import numpy as np

        until = np.searchsorted(self.keys, (codes << _SHIFT) | hours, side="right")
        first = np.searchsorted(self.keys, codes << _SHIFT, side="left")
        since = np.maximum(first, until - last)
        number = (until - since).astype(np.float64)
        total = self.sums[until] - self.sums[since]
        means: NDArray[np.float64] = np.divide(
            total, number, out=np.full(len(number), np.nan), where=number > 0
        )
        return means


def entity_history(
    frame: pd.DataFrame,
    *,
    entity: str,
    event_time: str,
    label: str,
    label_time: str,
    names: Mapping[str, str],
    window: timedelta,
    last: int,
) -> pd.DataFrame:
    """Rows of one entity's view: how busy it was, how often its label was 1, the means of its numeric columns.

    Args:
        label_time: column with the time at which the label became known.
        names: feature name -> what it is: `"count"` (rows in the window), `"label"` (mean of the newest known labels)
            or the name of a numeric column (mean of its newest values).
        last: how many of the newest values a mean is taken of.
    """
    import numpy as np
    import pandas as pd

    codes, uniques = pd.factorize(frame[entity])
    codes = codes.astype(np.int64)
    happened = known_after(frame[event_time])
    outcome = known_from(frame[label_time])
    grid_codes, grid_hours = grid(
        (codes, happened), (codes, outcome), (codes, happened + whole_hours(window))
    )
    columns: dict[str, Any] = {}
    for name, what in names.items():
        if what == "count":
            one = History.of(codes, happened, np.ones(len(frame)))
            columns[name] = one.counts(grid_codes, grid_hours, window)
        else:
            hours = outcome if what == "label" else happened
            values = frame[label if what == "label" else what].to_numpy(dtype=np.float64, na_value=np.nan)
            columns[name] = History.of(codes, hours, values).means(grid_codes, grid_hours, last)
    times = pd.DatetimeIndex((grid_hours * HOUR_US).astype("datetime64[us]")).tz_localize("UTC")
    return pd.DataFrame({entity: np.asarray(uniques)[grid_codes], "event_timestamp": times, **columns})


def grid(
    *changes: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Entity codes and hours of all rows: each hour at which an entity changes, once, ordered by hour."""
    import numpy as np

    keys = np.unique(np.concatenate([(codes << _SHIFT) | hours for codes, hours in changes]))
    codes, hours = keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)
    order = np.argsort(hours, kind="stable")
    return codes[order], hours[order]


def known_after(times: pd.Series[Any]) -> NDArray[np.int64]:
    """The first full hour after each time, in hours since 1970."""
    return _microseconds(times) // HOUR_US + 1


def known_from(times: pd.Series[Any]) -> NDArray[np.int64]:
    """The first full hour at or after each time, in hours since 1970."""
    return -(-_microseconds(times) // HOUR_US)


def whole_hours(window: timedelta) -> int:
    return int(window / timedelta(hours=1))


def _microseconds(times: pd.Series[Any]) -> NDArray[np.int64]:
    import numpy as np

    stamps = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    values: NDArray[np.int64] = stamps.astype(np.int64)
    return values


def feature_names(entity: str, label: str, numeric: Sequence[str]) -> dict[str, str]:
    """The features that `entity_history` computes of an entity by default."""
    names = {f"{entity}_rows": "count", f"{entity}_{label}_rate": "label"}
    return names | {f"{entity}_{column}_mean": column for column in numeric}
