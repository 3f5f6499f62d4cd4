"""Bringing a source's columns into the shape that the engine wants: keys as text, times in UTC, outcomes as 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MISSING = "unknown"


def key(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return entity keys as text; whole numbers without a decimal point, however the file held them."""
    import pandas as pd
    from pandas.api import types

    if types.is_float_dtype(values):
        values = values.astype("Int64")
    text = values.astype("string").fillna(MISSING)
    return pd.Series(text.to_numpy(dtype=object), index=values.index, name=values.name)


def utc(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return times as aware UTC in microseconds; one without a zone is taken to be UTC already."""
    import pandas as pd

    return pd.to_datetime(values, utc=True, format="ISO8601").dt.as_unit("us")


def outcome(values: pd.Series[Any], positive: object) -> pd.Series[Any]:
    """Return 1.0 where a value is `positive`, 0.0 where it is another, NaN where it is missing."""
    return (values == positive).astype("float64").where(values.notna())
