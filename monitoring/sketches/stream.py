"""Read columns in bounded batches and profile them.

From parquet files each thread takes one column after another through all files: no more than a batch of one column is
in its hands, and the work shares itself out however differently the columns are. Decoding, sorting and arithmetic
release the interpreter's lock. Batches that come from elsewhere are taken row by row, their columns side by side.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monitoring.sketches.accumulate import Accumulator, CategoricalColumn, NumericColumn
from monitoring.sketches.categories import Categories
from monitoring.sketches.grid import Grid
from monitoring.sketches.limits import LIMITS, Limits
from monitoring.sketches.profile import ColumnProfile, Profile, grid_for
from windlass.errors import UsageError

BATCH_ROWS = 1 << 16
READ_BYTES = 1 << 20
"""Bytes of a column that are read from a file at a time: a row group of any size takes no more memory."""


def profile(
    source: Sequence[Path | str] | Iterable[Any],
    columns: Sequence[str] | None = None,
    reference: Mapping[str, ColumnProfile] | None = None,
    *,
    categorical: Collection[str] = (),
    limits: Limits = LIMITS,
    threads: int | None = None,
) -> Profile:
    """Profile the columns of parquet files or of pyarrow record batches.

    Args:
        source: paths of parquet files with the same columns, or record batches, taken once.
        columns: which; default: all of the first file or batch.
        reference: what they will be compared with: its kind of a column, its grid and its labels are taken over.
            Without one, columns of texts and truth values are categorical, and a column beyond `limits` is counted
            on a grid around 0 with scale 1, whose bounds are relative to the distance from there.
        categorical: further columns whose numbers are labels.
        threads: how many work at a time (default: the cores).

    Raises:
        UsageError: no source, a file that is not there, a column that is not there or holds no numbers or labels.
    """
    reader = _Reader(columns, reference or {}, frozenset(categorical), limits, threads or os.cpu_count() or 1)
    given = iter(source)
    first = next(given, None)
    if first is None:
        raise UsageError("nothing to profile: no parquet file and no batch was given")
    if isinstance(first, (str, Path)):
        return reader.files([Path(first), *(Path(path) for path in given)])
    return reader.batches(first, given)


class _Reader:
    def __init__(
        self,
        columns: Sequence[str] | None,
        reference: Mapping[str, ColumnProfile],
        categorical: frozenset[str],
        limits: Limits,
        threads: int,
    ) -> None:
        self._columns, self._reference, self._categorical = columns, reference, categorical
        self._limits, self._threads = limits, threads

    def files(self, paths: list[Path]) -> Profile:
        import pyarrow.parquet as pq

        for path in paths:
            if not path.is_file():
                raise UsageError(f"{path} is no file; give the paths of parquet files")
        schema = pq.read_schema(paths[0])
        wanted = {name: self._accumulator(name, schema, str(paths[0])) for name in self._names(schema)}
        metadata = [pq.read_metadata(path) for path in paths]

        def column(name: str) -> ColumnProfile:
            # a dictionary is read as one: its texts are looked at once, not once a row
            as_dictionary = [name] if _is_text(schema.field(name).type) else None
            for path, known in zip(paths, metadata, strict=True):
                file = pq.ParquetFile(
                    path,
                    metadata=known,
                    read_dictionary=as_dictionary,
                    buffer_size=READ_BYTES,
                    pre_buffer=False,
                )
                with file:
                    if name not in file.schema_arrow.names:
                        raise UsageError(f"{path} has no column {name!r}, which {paths[0]} has")
                    for batch in file.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
                        wanted[name].add(batch.column(0))
            return wanted[name].profile()

        with ThreadPoolExecutor(self._threads) as pool:
            return dict(zip(wanted, pool.map(column, wanted), strict=True))

    def batches(self, first: Any, rest: Iterable[Any]) -> Profile:
        wanted = {
            name: self._accumulator(name, first.schema, "the batch") for name in self._names(first.schema)
        }
        with ThreadPoolExecutor(self._threads) as pool:

            def take(batch: Any) -> None:
                if missing := [name for name in wanted if name not in batch.schema.names]:
                    raise UsageError(f"a batch has no column {missing[0]!r}, which the first one has")
                list(pool.map(lambda name: wanted[name].add(batch.column(name)), wanted))

            take(first)
            for batch in rest:
                take(batch)
        return {name: column.profile() for name, column in wanted.items()}

    def _names(self, schema: Any) -> list[str]:
        return list(schema.names if self._columns is None else self._columns)

    def _accumulator(self, name: str, schema: Any, where: str) -> Accumulator:
        import pyarrow as pa

        if name not in schema.names:
            raise UsageError(f"{where} has no column {name!r}; it has {', '.join(schema.names)}")
        kind = schema.field(name).type
        labels = _is_text(kind) or pa.types.is_boolean(kind)
        numbers = any(
            is_kind(kind)
            for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
        )
        if not labels and not numbers:
            raise UsageError(
                f"column {name!r} of {where} is of type {kind}; only numbers, texts and truth values have statistics"
            )
        reference = self._reference.get(name)
        as_labels = labels or name in self._categorical if reference is None else reference.categorical
        if not as_labels:
            if not numbers:
                raise UsageError(f"column {name!r} of {where} holds texts; its reference holds numbers")
            grid = Grid() if reference is None else grid_for(reference)
            return NumericColumn(name, grid, self._limits)
        known: frozenset[Any] = frozenset()
        if reference is not None and isinstance(reference.content, Categories):
            exact = reference.content.buckets is None
            known = frozenset(reference.content.counts) if exact else reference.content.known
        return CategoricalColumn(name, known, self._limits)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held))
