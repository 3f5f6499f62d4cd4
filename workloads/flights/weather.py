"""Weather at the New York airports, usable once it was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workloads.flights import grid, source
from workloads.flights.grid import HOUR
from workloads.flights.table import Flights, frame_of

if TYPE_CHECKING:
    import pandas as pd

    from workloads.flights.grid import Floats

WEATHER = (
    "weather_temp", "weather_dewp", "weather_wind_speed", "weather_wind_gust", "weather_precip_3h",
    "weather_pressure", "weather_pressure_change_3h", "weather_visib_min_3h",
)  # fmt: skip

WIND_LIMIT = 200.0  # one row of the source says 1,048 miles an hour


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
    return frame_of(
        "origin", np.asarray(names, dtype=object)[key], stamps, {n: c[key, hour] for n, c in cells.items()}
    )
