"""The rows on which parity is judged: a file's, or the model's own example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.export.subject import Subject
from serving.runtime.engines.engine import DTYPES
from windlass.errors import UsageError

MOST_ROWS = 20_000


def read(subject: Subject, path: Path | None) -> tuple[Any, ...]:
    """Return one array for each input of the model, of the types that are served.

    Raises:
        UsageError: the file cannot be read, or its columns are not the model's inputs.
    """
    if path is None:
        table = subject.logged.example
        if table is None:
            raise UsageError(
                f"model {subject.logged.folder} has no input example; give --rows FILE with real rows"
            )
    else:
        table = _table(path)
    where = "the logged input example" if path is None else str(path)
    arrays = _arrays(subject, table, where)
    if not len(arrays[0]):
        raise UsageError(f"{where} holds no row; give --rows FILE with some")
    return tuple(a[:MOST_ROWS] for a in arrays)


def _table(path: Path) -> Any:
    import pandas as pd

    readers: dict[str, Callable[[Path], Any]] = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".npy": lambda p: np.load(p, allow_pickle=False),
    }
    if path.suffix not in readers:
        raise UsageError(f"rows file {path} is none of {', '.join(readers)}; write it as one of these")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors too
        raise UsageError(f"rows file {path} cannot be read: {error}") from error


def _arrays(subject: Subject, table: Any, where: str) -> tuple[Any, ...]:
    names = subject.names or tuple(s.name for s in subject.inputs)
    columns = {str(c): c for c in table.columns} if hasattr(table, "columns") else {}
    if isinstance(table, dict):
        columns = {str(c): c for c in table}
    if columns and subject.names and len(subject.inputs) == 1 and not set(names) <= set(columns):
        # names that nobody gave say nothing: the order counts
        if subject.names == tuple(f"f{i}" for i in range(len(names))) and len(columns) == len(names):
            return (_numbers(np.asarray(table), where),)
        missing = [n for n in names if n not in columns]
        raise UsageError(f"{where} lacks the column {missing[0]!r} ({len(missing)} of {len(names)} inputs)")
    if columns and subject.names:
        return (_numbers(np.asarray(table[[columns[n] for n in names]]), where),)
    if columns:
        lacking = [n for n in names if n not in columns]
        if lacking:
            raise UsageError(f"{where} lacks the input {lacking[0]!r}; it has {', '.join(columns)}")
        return tuple(
            np.asarray(table[columns[s.name]]).astype(DTYPES[s.datatype], copy=False) for s in subject.inputs
        )
    array = np.asarray(table)
    if len(subject.inputs) != 1:
        raise UsageError(
            f"{where} is one array, the model takes {len(subject.inputs)} inputs; give a table of them"
        )
    shape = subject.inputs[0].shape
    if array.ndim != len(shape) or any(n not in (-1, a) for n, a in zip(shape, array.shape, strict=True)):
        raise UsageError(f"{where} has the shape {array.shape}, the model takes {shape}")
    return (_numbers(array, where) if subject.names else array.astype(DTYPES[subject.inputs[0].datatype]),)


def _numbers(values: Any, where: str) -> Any:
    try:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values.astype(np.float32))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} holds something that is no number: {error}") from error
