"""Ingest and data validation: nothing is trained on rows that break the workload's contract.

Every fault of the file is reported at once, each with its column, a value and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from components.window import Window
from windlass.contract import Column, Workload
from windlass.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

MOST_FAULTS_SHOWN = 8

LABEL = "label"
AVAILABLE_AT = "label_available_at"
EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True)
class Volume:
    """What the window holds."""

    rows: int
    labelled: int
    oldest: datetime
    newest: datetime


def check_source(workload: Workload, frame: pd.DataFrame, name: str) -> None:
    """Check columns, types, nulls, ranges and the key of all source rows.

    Raises:
        DataError: the faults, at most `MOST_FAULTS_SHOWN` in full.
    """
    columns = {c.name: c for c in workload.source.columns}
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise DataError(
            f"{name}: column {', '.join(map(repr, missing))} is missing; it has {list(frame.columns)}; "
            f"add it, or take it out of workload {workload.name!r}"
        )
    if frame.empty:
        raise DataError(f"{name} holds no row; give it at least {workload.source.minimum_rows}")
    faults = _pandera_faults(workload, columns, frame)
    if faults:
        more = f"; and {len(faults) - MOST_FAULTS_SHOWN} more" if len(faults) > MOST_FAULTS_SHOWN else ""
        raise DataError(f"{name}: " + "; ".join(faults[:MOST_FAULTS_SHOWN]) + more)


def select(
    workload: Workload, prepared: pd.DataFrame, window: Window, name: str
) -> tuple[pd.DataFrame, Volume]:
    """Return the window's rows with what training needs of them, oldest first, and check freshness and volume.

    A label that became known after the window's end is removed: at that time nobody knew it.

    Raises:
        UsageError: the window lies outside the data.
        DataError: too few rows, or the newest is too old.
    """
    import pandas as pd

    wanted = _columns(workload)
    missing = [c for c in (workload.source.event_time, workload.label.column, workload.label.available_at, *wanted)
               if c not in prepared.columns]  # fmt: skip
    if missing:
        raise DataError(
            f"{name}: prepare() of workload {workload.name!r} gave no column {', '.join(map(repr, missing))}; "
            "add it there or to the source"
        )
    times = pd.to_datetime(prepared[workload.source.event_time], utc=True)
    _check_range(times, window, name)
    inside = (times >= window.start) & (times < window.end)
    known_at = pd.to_datetime(prepared[workload.label.available_at], utc=True)
    label = pd.to_numeric(prepared[workload.label.column]).astype("float64")
    values = set(label[inside].dropna().unique())
    if not values <= {0.0, 1.0}:
        odd = next(iter(sorted(values - {0.0, 1.0})))
        raise DataError(
            f"{name}: label {workload.label.column!r} holds {float(odd)!r}; it must be 0, 1 or empty"
        )
    rows = pd.DataFrame(
        {
            **{f"in_{c}": prepared[c] for c in wanted},
            EVENT_TIMESTAMP: times.dt.as_unit("us"),
            LABEL: label.where(known_at <= window.end),
            AVAILABLE_AT: known_at.dt.as_unit("us"),
        }
    )[inside]
    rows = rows.sort_values(EVENT_TIMESTAMP, kind="stable").reset_index(drop=True)
    if len(rows) < workload.source.minimum_rows:
        raise DataError(
            f"{name}: {len(rows)} rows between {window.start:%Y-%m-%d %H:%M} and {window.end:%Y-%m-%d %H:%M}, "
            f"at least {workload.source.minimum_rows} are needed; ask for a longer window"
        )
    newest = rows[EVENT_TIMESTAMP].iloc[-1].to_pydatetime()
    if window.end - newest > workload.source.freshness:
        raise DataError(
            f"{name}: the newest row is of {newest:%Y-%m-%d %H:%M}, more than {workload.source.freshness} before the "
            f"window's end {window.end:%Y-%m-%d %H:%M}; load newer data or end the window earlier"
        )
    oldest = rows[EVENT_TIMESTAMP].iloc[0].to_pydatetime()
    return rows, Volume(len(rows), int(rows[LABEL].notna().sum()), oldest, newest)


def check_partition(workload: Workload, frame: pd.DataFrame, name: str) -> Volume:
    """Check rows that came together, a day or a month of them, by the rules of a training run's source.

    All rules hold but the least number of rows, which is one of the run's window: it may span many partitions.

    Raises:
        DataError: as `check_source` and `select`.
    """
    import pandas as pd

    check_source(workload, frame, name)
    prepared = workload.prepare(frame)
    if workload.source.event_time not in prepared.columns:
        raise DataError(
            f"{name}: prepare() of workload {workload.name!r} gave no column {workload.source.event_time!r}; "
            "add it there or to the source"
        )
    times = pd.to_datetime(prepared[workload.source.event_time], utc=True)
    days = Window(
        times.min().floor("D").to_pydatetime(), times.max().floor("D").to_pydatetime() + timedelta(days=1)
    )
    any_number = replace(workload, source=replace(workload.source, minimum_rows=1))
    return select(any_number, prepared, days, name)[1]


def rows_between(workload: Workload, frame: pd.DataFrame, window: Window, name: str) -> pd.DataFrame:
    """Return the source rows of a window, as they are.

    Raises:
        DataError: the source breaks the contract.
        UsageError: it has no row there; nothing was offered that could be refused.
    """
    import pandas as pd

    check_source(workload, frame, name)
    times = pd.to_datetime(workload.prepare(frame)[workload.source.event_time], utc=True)
    inside = times.index[(times >= window.start) & (times < window.end)]
    # in the source's order: prepare() may have another, and leave rows out
    rows = frame.loc[frame.index.isin(inside)].reset_index(drop=True)
    if rows.empty:
        raise UsageError(
            f"{name} has no row between {window.start:%Y-%m-%d %H:%M} and {window.end:%Y-%m-%d %H:%M}; "
            "ask for days that it has"
        )
    return rows


def _columns(workload: Workload) -> list[str]:
    fields = [f.name for f in workload.request_fields]
    return list(dict.fromkeys([*workload.entities, *fields, *workload.slices]))


def _check_range(times: pd.Series[Any], window: Window, name: str) -> None:
    # days are what people ask for: the first and the last day count as a whole
    first = times.min().to_pydatetime().replace(hour=0, minute=0, second=0, microsecond=0)
    last = times.max().to_pydatetime().replace(hour=0, minute=0, second=0, microsecond=0)
    if window.start < first:
        raise UsageError(
            f"--from {window.start:%Y-%m-%d} lies before the data: {name} begins on {first:%Y-%m-%d}; "
            "start there or later"
        )
    if window.end > last + timedelta(days=1):
        raise UsageError(
            f"--to {window.end:%Y-%m-%d %H:%M} lies after the data: {name} ends on {last:%Y-%m-%d}; "
            "end there or earlier"
        )


def _pandera_faults(workload: Workload, columns: dict[str, Column], frame: pd.DataFrame) -> list[str]:
    import pandera.pandas as pandera

    schema = pandera.DataFrameSchema(
        {
            name: pandera.Column(checks=_checks(column), nullable=True, name=name)
            for name, column in columns.items()
        },
        strict=False,
    )
    try:
        schema.validate(frame[list(columns)], lazy=True)
    except pandera.errors.SchemaErrors as errors:
        found = {(str(e.schema.name), str(e.check.name)): e for e in errors.schema_errors}
        faults = [_sentence(columns[column], check, frame[column]) for column, check in found]
    else:
        faults = []
    key = list(workload.source.key)
    # factorize-free: sorting a year of keys for pandera's uniqueness report would take longer than all the rest
    twice = frame.duplicated(key) if key else None
    if twice is not None and bool(twice.any()):
        example = frame.loc[twice, key].iloc[0].map(_plain).to_dict()
        faults.append(
            f"key {tuple(key)} occurs twice in {int(twice.sum())} rows, for example {example}; remove the duplicates"
        )
    return faults


def _checks(column: Column) -> list[Any]:
    import pandera.pandas as pandera

    def check(name: str) -> Any:
        return pandera.Check(lambda values: not _faulty(column, name, values), name=name, ignore_na=False)

    names = ["all-null", "type", "nulls"]
    if column.minimum is not None or column.maximum is not None:
        names.append("range")
    return [check(name) for name in names]


def _faulty(column: Column, check: str, values: pd.Series[Any]) -> bool:
    """Whether a column breaks one rule; a rule that another one makes pointless holds."""
    share = float(values.isna().mean())
    if check == "all-null":
        return share == 1.0
    if share == 1.0:
        return False
    if check == "nulls":
        return share > (column.max_null_share if column.nullable else 0.0)
    if check == "type":
        return _first_of_wrong_type(column, values) is not None
    if _first_of_wrong_type(column, values) is not None or column.dtype in ("string", "timestamp"):
        return False
    return bool(_outside(column, values).any())


def _outside(column: Column, values: pd.Series[Any]) -> pd.Series[bool]:
    import math

    import pandas as pd

    numbers = pd.to_numeric(values)
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    return (numbers < low) | (numbers > high)


def _first_of_wrong_type(column: Column, values: pd.Series[Any]) -> Any:
    """Return a value that is not of the column's type, None where all are."""
    import pandas as pd
    from pandas.api import types

    present = values.dropna()
    nothing, one = present.iloc[:0], present.iloc[:1]
    if column.dtype == "string":
        wrong = nothing if types.is_string_dtype(present) else one
    elif column.dtype == "timestamp":
        if types.is_datetime64_any_dtype(present):
            wrong = nothing
        elif types.is_numeric_dtype(present):
            wrong = one
        else:
            wrong = present[pd.to_datetime(present, utc=True, errors="coerce", format="ISO8601").isna()]
    elif types.is_bool_dtype(present):
        wrong = nothing if column.dtype == "int" else one
    elif not types.is_numeric_dtype(present):
        # text that reads as numbers is of the wrong type all the same: the source must parse it
        unreadable = present[pd.to_numeric(present, errors="coerce").isna()]
        wrong = unreadable if len(unreadable) else one
    elif column.dtype == "int" and types.is_float_dtype(present):
        wrong = present[present % 1 != 0]
    else:
        wrong = nothing
    return wrong.iloc[0] if len(wrong) else None


def _sentence(column: Column, check: str, values: pd.Series[Any]) -> str:
    where = f"column {column.name!r}"
    share = float(values.isna().mean())
    if check == "all-null":
        return f"{where} is empty in all {len(values)} rows; fill it, or take it out of the workload"
    if check == "nulls":
        bound = column.max_null_share if column.nullable else 0.0
        row = int(values.isna().to_numpy().argmax())
        return (
            f"{where} is empty in {share:.1%} of the rows (first: row {row}), at most {bound:.1%} may be; "
            "fill or remove them"
        )
    if check == "type":
        wrong = _first_of_wrong_type(column, values)
        return (
            f"{where} holds {_plain(wrong)!r} of type {type(_plain(wrong)).__name__}, it must be {column.dtype}; "
            "correct the value or the column's type"
        )
    outside = _outside(column, values)
    row = int(outside.to_numpy().argmax())
    return (
        f"{where} holds {_plain(values.iloc[row])!r} in row {row} ({int(outside.sum())} rows), it must lie in "
        f"[{column.minimum}, {column.maximum}]; correct or remove these rows"
    )


def _plain(value: Any) -> Any:
    """A value as a person would write it: 5 and not np.int64(5)."""
    return value.item() if hasattr(value, "item") else value
