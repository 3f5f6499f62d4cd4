"""Reading a table from a file that somebody hands us, with errors that say what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

PARQUET = (".parquet", ".pq")


def read(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a CSV (UTF-8, with a header) or a parquet file; only `columns` where they are given.

    Types are the values' own, so that a wrong one stays visible to validation.

    Raises:
        DataError: there is no such file, it cannot be read, it holds no row, or a column is missing.
    """
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise DataError(f"data file {path}: there is no such file; name a CSV or parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"data file {path} is empty; it needs a header and rows")
    try:
        if path.suffix in PARQUET:
            table = pyarrow.parquet.read_table(path)
        else:
            options = pyarrow.csv.ConvertOptions(
                null_values=["", "NA", "NaN", "null"], strings_can_be_null=True
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        kind = "parquet" if path.suffix in PARQUET else "CSV"
        reason = str(error).splitlines()[0]
        raise DataError(
            f"data file {path} cannot be read as {kind}: {reason}; "
            "give a CSV file (UTF-8, commas, a header) or a file whose name ends in .parquet"
        ) from error
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise DataError(
            f"data file {path}: column {', '.join(map(repr, missing))} is missing; it has {table.column_names}"
        )
    if table.num_rows == 0:
        raise DataError(f"data file {path} holds no row, only a header; give it at least one row")
    plain = _plain(table.select(list(columns)) if columns else table)
    frame: pd.DataFrame = plain.to_pandas(date_as_object=False)
    return frame


def _plain(table: pyarrow.Table) -> pyarrow.Table:
    """Cast what pandas would show as objects: truth values (0 and 1 then), decimals, dictionaries."""
    import pyarrow
    from pyarrow import types

    for index, field in enumerate(table.schema):
        kind = field.type
        if types.is_boolean(kind):
            target = pyarrow.int8()
        elif types.is_decimal(kind):
            target = pyarrow.float64()
        elif types.is_dictionary(kind):
            target = kind.value_type
        else:
            continue
        table = table.set_column(index, field.name, table.column(index).cast(target))
    return table
