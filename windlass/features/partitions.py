"""Where offline feature rows lie: one folder a view, one parquet file a month, ordered by time.

Rows are small slices of time when they are read, so a reader opens only the months it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.contract import View
from windlass.errors import WindlassError
from windlass.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow
    from numpy.typing import NDArray

TIME = "event_timestamp"
# small enough that the statistics of a row group let a reader skip most of a month
ROW_GROUP = 16_384


def folder(settings: Settings, view: str) -> Path:
    return settings.offline_dir / view


def pattern(settings: Settings, view: str) -> str:
    """Glob of all files of a view, as DuckDB reads it."""
    return str(folder(settings, view) / "*.parquet")


def month(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m}"


def by_month(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut rows, ordered by time, into the months of UTC they lie in."""
    import numpy as np

    months = frame[TIME].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[M]")
    starts = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        yield str(months[start]), frame.iloc[start:end]


def files(settings: Settings, view: str, start: datetime, end: datetime) -> list[Path]:
    """Files that may hold rows from `start` to `end`, oldest first.

    Raises:
        WindlassError: the view has no rows at all.
    """
    every = sorted(folder(settings, view).glob("*.parquet"))
    if not every:
        raise WindlassError(
            f"feature view {view!r} has no offline rows in {folder(settings, view)}; "
            "compute them with `windlass features build WORKLOAD`"
        )
    return [p for p in every if month(start) <= p.stem <= month(end)]


def read(settings: Settings, view: View, start: datetime, end: datetime) -> pyarrow.Table:
    """Rows with a time from `start` to `end`, both included, ordered by time."""
    import pyarrow
    import pyarrow.parquet

    schema = schema_of(view)
    there = files(settings, view.name, start, end)
    if not there:
        return schema.empty_table()
    within = [(TIME, ">=", start.astimezone(UTC)), (TIME, "<=", end.astimezone(UTC))]
    tables = [pyarrow.parquet.read_table(p, filters=within, schema=schema) for p in there]
    return pyarrow.concat_tables(tables)


def write(path: Path, view: View, rows: pd.DataFrame) -> None:
    """Write one month of a view, all or nothing."""
    import pyarrow
    import pyarrow.parquet

    from windlass import atomic

    table = pyarrow.Table.from_pandas(rows, schema=schema_of(view), preserve_index=False)
    with atomic.replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def schema_of(view: View) -> pyarrow.Schema:
    """Entity, time, features: everything else about a view is in the workload."""
    import pyarrow

    return pyarrow.schema(
        [
            (view.entity, pyarrow.string()),
            (TIME, pyarrow.timestamp("us", tz="UTC")),
            *((name, pyarrow.float64()) for name in view.features),
        ]
    )


def times(settings: Settings, view: View) -> NDArray[np.int64]:
    """All times at which a view has rows, in microseconds since 1970."""
    import numpy as np
    import pyarrow.parquet

    there = files(settings, view.name, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    columns = [pyarrow.parquet.read_table(p, columns=[TIME]).column(TIME).to_numpy() for p in there]
    return np.unique(np.concatenate(columns).astype("datetime64[us]").astype("int64"))


def months(start: datetime, end: datetime) -> list[str]:
    """Names of the months from `start` to `end`."""
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    span = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in span]
