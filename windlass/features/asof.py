"""The same point-in-time values as Feast's join, straight from the partitions, in milliseconds.

A release compares what a server saw with what it should have seen while it runs, and cannot wait for Feast. A test
holds this join to Feast's, value by value.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from windlass.contract import View, Workload
from windlass.errors import WindlassError
from windlass.features import partitions
from windlass.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


def lookup(workload: Workload, settings: Settings, entity_df: pd.DataFrame) -> pd.DataFrame:
    """Join the workload's features to rows of entities and `event_timestamp`, as they were known then.

    Returns:
        `entity_df` with a column for each feature, in its order and with its index.
    """
    import duckdb
    import pandas as pd

    names = [feature for view in workload.views for feature in view.features]
    if entity_df.empty:
        return entity_df.assign(**dict.fromkeys(names, pd.Series(dtype="float64")))
    asked = pd.DataFrame({e: entity_df[e].astype(str).to_numpy() for e in workload.entities})
    asked["asked_at"] = pd.DatetimeIndex(entity_df[partitions.TIME]).tz_convert("UTC").as_unit("us")
    asked["asked_row"] = range(len(asked))
    start, end = asked["asked_at"].min().to_pydatetime(), asked["asked_at"].max().to_pydatetime()
    columns: dict[str, object] = {}
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("asked", asked)
        for view in workload.views:
            columns.update(_join(connection, view, settings, start, end))
    return pd.concat([entity_df, pd.DataFrame(columns, index=entity_df.index)], axis=1)


def reach(workload: Workload, settings: Settings) -> float:
    """Up to when offline rows are known, epoch seconds: a build writes those of all views, and the newest row says how
    far it came. Infinite where a workload has no views.

    Raises:
        WindlassError: a view has no rows.
    """
    import pyarrow.parquet as pq

    newest = -math.inf if workload.views else math.inf
    for view in workload.views:
        paths = sorted(partitions.folder(settings, view.name).glob("*.parquet"))
        if not paths:
            raise WindlassError(
                f"feature view {view.name!r} has no offline rows; `windlass features build` computes them"
            )
        times = pq.read_table(paths[-1], columns=[partitions.TIME]).column(0).to_numpy()
        newest = max(newest, float(times.max().astype("datetime64[us]").astype("int64") / 1e6))
    return newest


def _join(
    connection: duckdb.DuckDBPyConnection, view: View, settings: Settings, start: datetime, end: datetime
) -> dict[str, object]:
    """Values of one view's features, in the order of the rows asked for; NaN where none is valid."""
    import numpy as np

    connection.register("known", partitions.read(settings, view, start - view.ttl, end))
    features = ", ".join(
        f"CASE WHEN k.{partitions.TIME} >= a.asked_at - to_microseconds({view.ttl // timedelta(microseconds=1)}) "
        f'THEN k."{name}" END AS "{name}"'
        for name in view.features
    )
    rows = connection.execute(
        f"SELECT {features} FROM asked a ASOF LEFT JOIN known k "  # noqa: S608 - names are the workload's own
        f'ON a."{view.entity}" = k."{view.entity}" AND a.asked_at >= k.{partitions.TIME} ORDER BY a.asked_row'
    ).fetchnumpy()
    connection.unregister("known")
    return {name: np.ma.filled(np.ma.asarray(rows[name], dtype="float64"), np.nan) for name in view.features}
