"""What a file's columns are: types, ranges, which of them name a row, which a model may take."""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from windlass.contract import NOT_INPUTS, SLICE_PREFIX, Column, DType
from windlass.errors import DataError, UsageError
from windlass.scaffold.request import Request

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 50
MOST_MEANS = 8
LEAST_ROWS = 200
# a single column that orders the outcomes as well as this has probably seen them
SUSPICIOUS_AUC = 0.97
RESERVED = ("event_timestamp", "label_available_at")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Profile:
    """What was found in the file.

    Attributes:
        renamed: column of the file -> the name used from `prepare` on, for all columns that are used.
        numbers: names of numeric request fields.
        categories: names of text request fields, with their values.
        means: numeric fields whose rolling mean becomes a feature.
        key: columns of the file that together name a row; empty where none do.
        positive: the label's value that means 1.
        left_out: column of the file -> why it is not used.
        suspicious: request field -> how well it alone orders the outcomes.
    """

    columns: tuple[Column, ...]
    renamed: dict[str, str]
    numbers: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    means: tuple[str, ...]
    key: tuple[str, ...]
    positive: Any
    left_out: dict[str, str]
    suspicious: dict[str, float]
    rows: int
    positive_share: float
    first: datetime
    last: datetime
    freshness: timedelta
    evaluation_window: timedelta


def profile(request: Request, frame: pd.DataFrame) -> Profile:
    """Look at every column once.

    Raises:
        UsageError: a column is missing, or is not what it was said to be.
        DataError: too few rows.
    """
    for column in (request.label, request.time, *request.entities, *request.ignore):
        _require(column, frame.columns)
    if len(frame) < LEAST_ROWS:
        raise DataError(
            f"data file {request.data}: {len(frame)} rows; at least {LEAST_ROWS} are needed to train on and to judge by"
        )
    times = _times(frame[request.time], request)
    positive, outcome = _label(frame[request.label], request)
    left_out = dict.fromkeys(request.ignore, "named in --ignore")
    numbers: list[str] = []
    categories: dict[str, tuple[str, ...]] = {}
    columns = [
        _column(name, frame[name], request) for name in (request.time, *request.entities, request.label)
    ]
    for name in frame.columns:
        if name in (request.time, request.label, *request.entities) or name in left_out:
            continue
        values = frame[name]
        reason = _unusable(values)
        if reason:
            left_out[name] = reason
            continue
        found = _column(name, values, request)
        columns.append(found)
        if found.dtype == "string":
            categories[name] = tuple(sorted(values.dropna().unique()))
        else:
            numbers.append(name)
    key = _key(frame, request)
    stated = {c.name for c in columns}
    # a name has no range: the next row's is the next number
    columns += [Column(name, _dtype(name, frame[name], request)) for name in key if name not in stated]
    renamed = _names([c.name for c in columns], request)
    suspicious = {renamed[n]: auc for n in numbers if (auc := _auc(frame[n], outcome)) >= SUSPICIOUS_AUC}
    span = times.max() - times.min()
    return Profile(
        columns=tuple(columns),
        renamed=renamed,
        numbers=tuple(renamed[n] for n in numbers),
        categories={renamed[n]: values for n, values in categories.items()},
        means=tuple(renamed[n] for n in numbers[:MOST_MEANS]),
        key=key,
        positive=positive,
        left_out=left_out,
        suspicious=suspicious,
        rows=len(frame),
        positive_share=float(outcome.mean()),
        first=times.min().to_pydatetime(),
        last=times.max().to_pydatetime(),
        freshness=max(3 * DAY, _whole_days(times.sort_values().diff().max().to_pytimedelta() * 2)),
        evaluation_window=max(DAY, _whole_days(span.to_pytimedelta() * 0.2)),
    )


def _require(column: str, there: Iterable[str]) -> None:
    names = list(there)
    if column not in names:
        close = difflib.get_close_matches(column, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"column {column!r} is not in the file{hint} It has {names}")


def _times(values: pd.Series[Any], request: Request) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(values):
        raise UsageError(
            f"--time {request.time} holds numbers ({values.iloc[0]}), not times; write them as ISO 8601, "
            "for example 2026-01-31T12:00:00Z"
        )
    times = pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce")
    wrong = times.isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UsageError(
            f"--time {request.time} holds {values.iloc[row]!r} in row {row} ({int(wrong.sum())} rows), "
            "which is no time; write all as ISO 8601, for example 2026-01-31T12:00:00Z"
        )
    return times


def _label(values: pd.Series[Any], request: Request) -> tuple[Any, pd.Series[float]]:
    from pandas.api import types

    from windlass.features import columns

    found = sorted(values.dropna().unique().tolist(), key=str)
    shown = ", ".join(map(repr, found[:6])) + (", …" if len(found) > 6 else "")
    if request.positive is not None:
        positive = next((v for v in found if str(v) == request.positive), None)
        if positive is None:
            raise UsageError(
                f"--positive {request.positive}: --label {request.label} holds no such value; it holds {shown}"
            )
    elif set(found) <= {0, 1} and types.is_numeric_dtype(values):
        positive = 1
    else:
        raise UsageError(
            f"--label {request.label} holds {shown}, not 0 and 1; say which value means 1 with --positive, "
            f"for example --positive {found[-1] if found else 'yes'}"
        )
    outcome = columns.outcome(values, positive)
    if outcome.dropna().nunique() < 2:
        raise UsageError(f"--label {request.label} holds {shown} only; there is nothing to tell apart")
    return positive, outcome


def _column(name: str, values: pd.Series[Any], request: Request) -> Column:
    share = float(values.isna().mean())
    nullable = share > 0 and name != request.time
    # what was seen, and as much again: a wrong unit or a broken sensor is outside, next month's data is not
    most = round(min(1.0, 2 * share + 0.05), 2) if nullable else 0.5
    dtype = _dtype(name, values, request)
    if dtype in ("string", "timestamp") or name in (request.label, *request.entities):
        return Column(name, dtype, nullable, max_null_share=most)
    low, high = float(values.min()), float(values.max())
    room = max(high - low, 1.0)
    return Column(name, dtype, nullable, 0.0 if low >= 0 else low - room, high + room, most)


def _dtype(name: str, values: pd.Series[Any], request: Request) -> DType:
    from pandas.api import types

    if name == request.time:
        return "timestamp"
    if types.is_integer_dtype(values):
        return "int"
    if types.is_float_dtype(values):
        # whole numbers with gaps come as floats
        present = values.dropna()
        if name in request.entities and bool((present % 1 != 0).any()):
            raise UsageError(
                f"--entity {name} holds {present[present % 1 != 0].iloc[0]}; an entity is a name or a whole number"
            )
        return "int" if bool((present % 1 == 0).all()) else "float"
    if types.is_string_dtype(values.dropna()):
        return "string"
    raise UsageError(f"column {name!r} holds {values.dtype} values; an entity is a name or a whole number")


def _unusable(values: pd.Series[Any]) -> str | None:
    """Why a column cannot be a request field, None where it can."""
    from pandas.api import types

    present = values.dropna()
    distinct = present.nunique() if not present.map(type).isin([list, dict]).any() else None
    if present.empty:
        return "empty"
    if distinct is None:
        return "holds lists or structures"
    if distinct == 1:
        return "holds one value only"
    if types.is_numeric_dtype(values):
        whole = types.is_integer_dtype(values)
        return "names rows: a whole number that never repeats" if whole and distinct == len(values) else None
    if types.is_string_dtype(present):
        return (
            f"text with {distinct} values, more than {MOST_CATEGORIES}"
            if distinct > MOST_CATEGORIES
            else None
        )
    return f"of type {values.dtype}"


def _names(columns: list[str], request: Request) -> dict[str, str]:
    """A name that is safe in every store for each column, the column's own wherever it is one."""
    found: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column).strip("_").lower()
        name = f"c_{name}" if not name or name[0].isdigit() or keyword.iskeyword(name) else name
        other = next((c for c, n in found.items() if n == name), None)
        if other is not None:
            raise UsageError(
                f"columns {other!r} and {column!r} would both be called {name!r}; rename one in the file"
            )
        taken = name in RESERVED and column != request.time
        if column not in (request.time, request.label):
            taken |= name in NOT_INPUTS or name.startswith(SLICE_PREFIX)
        if taken:
            raise UsageError(
                f"column {column!r}: the name {name!r} is taken by the engine; rename it in the file"
            )
        found[column] = name
    return found


def _key(frame: pd.DataFrame, request: Request) -> tuple[str, ...]:
    candidates = [
        (*request.entities, request.time),
        *((name,) for name in frame.columns if name != request.label),
    ]
    for names in candidates:
        if not frame[list(names)].isna().any(axis=None) and not frame.duplicated(list(names)).any():
            return names
    return ()


def _auc(values: pd.Series[Any], outcome: pd.Series[float]) -> float:
    """How well a number alone orders the outcomes, in whichever direction."""
    known = values.notna() & outcome.notna()
    ranks = values[known].rank()
    ones = outcome[known] == 1.0
    positives, negatives = int(ones.sum()), int((~ones).sum())
    if not positives or not negatives:
        return 0.5
    auc = (ranks[ones].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(max(auc, 1 - auc))


def _whole_days(length: timedelta) -> timedelta:
    return timedelta(days=round(length / DAY))
