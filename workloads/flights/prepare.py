"""Flights in UTC: when each was due, when it left and landed, and so when its delay became known.

`arr_time` and `sched_arr_time` are local to the destination. Everything that asks what was known when works on
the columns added here, which are aware UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.flights import source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

NO_TAIL = "unknown"
LATE_MINUTES = 15
HOME_ZONE = "America/New_York"
NOTICE_MINUTES = 60  # a prediction is made this long before the scheduled departure


def prepare(flights: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that features, labels and requests are made of; rows and their order stay.

    Added: `sched_dep`, `dep_at`, `arr_at`, `sched_elapsed` (minutes), `sched_minute` (local minute of
    the day), `day_of_week` (Monday is 0), `event_timestamp` (when the prediction is made), `late` (1, 0 or null
    where it will never be known) and `label_available_at`.
    """
    import numpy as np
    import pandas as pd

    frame = flights.copy()
    frame["tailnum"] = frame["tailnum"].fillna(NO_TAIL)
    hour = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    due = hour + _minutes(frame["minute"])
    elapsed = _scheduled_elapsed(frame, due)
    local_minute = _clock_minutes(frame["sched_dep_time"])
    late = (frame["arr_delay"] > LATE_MINUTES).astype("float64")
    date = pd.to_datetime(frame[["year", "month", "day"]])
    frame["sched_dep"] = _utc(due)
    frame["sched_elapsed"] = elapsed
    frame["dep_at"] = _utc(due + _minutes(frame["dep_delay"]))
    frame["arr_at"] = _utc(due + _minutes(frame["arr_delay"] + elapsed))
    frame["sched_minute"] = local_minute
    frame["day_of_week"] = date.dt.dayofweek.astype("float64")
    frame["event_timestamp"] = _utc(due - np.timedelta64(NOTICE_MINUTES, "m"))
    frame["late"] = late.where(frame["arr_delay"].notna())
    frame["label_available_at"] = frame["arr_at"]
    return frame


def _minutes(values: pd.Series[float]) -> NDArray[np.timedelta64]:
    """Whole minutes as a duration; a missing value stays missing (NaT)."""
    import numpy as np

    minutes = values.to_numpy(dtype="float64")
    known = ~np.isnan(minutes)
    out = np.full(len(minutes), np.timedelta64("NaT"), dtype="timedelta64[us]")
    out[known] = minutes[known].astype("int64") * np.timedelta64(60_000_000, "us")
    return out


def _utc(times: NDArray[np.datetime64]) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(times).tz_localize("UTC")


def _clock_minutes(clock: pd.Series[float]) -> NDArray[np.float64]:
    """Minutes since midnight of a clock time written as the number hhmm."""
    value = clock.to_numpy(dtype="float64")
    minutes: NDArray[np.float64] = value // 100 * 60 + value % 100
    return minutes


def _scheduled_elapsed(frame: pd.DataFrame, due: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Scheduled minutes from gate to gate.

    The two schedule columns are wall clocks in two time zones. A destination whose zone is unknown (only a file
    of one's own has any) is estimated from the distance.
    """
    import numpy as np

    # offsets change on the hour only, so a year of flights needs few conversions
    hours, hour_of = np.unique(due.astype("datetime64[h]"), return_inverse=True)
    home = _offsets(hours, HOME_ZONE)
    ahead = np.full(len(frame), np.nan)
    for zone, rows in frame.groupby(frame["dest"].map(source.zones())).indices.items():
        ahead[rows] = (_offsets(hours, str(zone)) - home)[hour_of[rows]]
    elapsed = np.mod(
        _clock_minutes(frame["sched_arr_time"]) - _clock_minutes(frame["sched_dep_time"]) - ahead, 1440
    )
    estimate = np.round(40 + frame["distance"].to_numpy(dtype="float64") / 8)
    return np.where(np.isnan(elapsed), estimate, elapsed)


def _offsets(hours: NDArray[np.datetime64], zone: str) -> NDArray[np.float64]:
    """Minutes by which wall clocks in `zone` are ahead of UTC at each of `hours`."""
    import pandas as pd

    utc = pd.DatetimeIndex(hours.astype("datetime64[us]")).tz_localize("UTC")
    wall = utc.tz_convert(zone).tz_localize(None)
    minutes: NDArray[np.float64] = ((wall - utc.tz_localize(None)).total_seconds() / 60).to_numpy()
    return minutes
