"""The rows of partitions: written so that the same rows are the same bytes, and put together for a training run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import atomic, data_version

if TYPE_CHECKING:
    import pandas as pd


def content(frame: pd.DataFrame) -> str:
    """SHA-256 of the values, their types and the columns' names, in the order of the rows."""
    import pandas as pd

    frame = _storable(frame)
    values = pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()
    types = repr([(str(c), str(t)) for c, t in frame.dtypes.items()])
    return hashlib.sha256(values + types.encode()).hexdigest()


def repeated(frame: pd.DataFrame, key: Sequence[str], partition: Path) -> int:
    """How many rows have a key that a partition holds already."""
    import pandas as pd
    import pyarrow.parquet

    if not key:
        return 0
    there = pyarrow.parquet.read_table(partition, columns=list(key)).to_pandas().drop_duplicates()
    both = pd.concat([there, frame[list(key)]], ignore_index=True)
    return int(both.duplicated().iloc[len(there) :].sum())


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write one partition, all or nothing."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(_storable(frame), preserve_index=False)
    with atomic.replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def join(partitions: Sequence[Path], version: str, path: Path) -> int:
    """Write the rows of all partitions into one file that says which version it is; return their number.

    Where partitions differ in a column's type (whole numbers in one, numbers and gaps in another), the wider one holds
    for all.
    """
    import pyarrow
    import pyarrow.parquet

    tables = [pyarrow.parquet.read_table(p).replace_schema_metadata(None) for p in partitions]
    table = pyarrow.concat_tables(tables, promote_options="permissive")
    table = table.replace_schema_metadata({data_version.KEY: version.encode()})
    with atomic.replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    return int(table.num_rows)


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Times in units that parquet knows: it has no seconds, and would give back others."""
    named = {str(c): str(t) for c, t in frame.dtypes.items()}
    coarse = [c for c, t in named.items() if t.startswith(("datetime64[s", "datetime64[ms"))]
    return frame.assign(**{c: frame[c].dt.as_unit("us") for c in coarse}) if coarse else frame
