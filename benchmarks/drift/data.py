"""The rows that are measured: columns of six kinds, written to parquet a million rows at a time.

The window of the largest size is generated once; a smaller one is its first files. The reference is drawn from the same
distributions, which have moved a little in every other column of the window.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, SeedSequence

from windlass.errors import WindlassError

CHUNK = 1 << 20
"""Rows that are generated at a time, and of a row group."""
LARGEST_PART = 10_000_000
REFERENCE_ROWS = 1_000_000
BYTES_PER_VALUE = 4
"""Generously: half of the kinds take 4 bytes a value, one takes 8, the others are dictionaries of few."""
SPARE_BYTES = 2 * 2**30
MOVED = 0.08
KINDS = ("normal", "heavy", "count", "label", "amount", "number")


@dataclass(frozen=True)
class Files:
    """What was generated.

    Attributes:
        windows: the files of each size.
        labels: names of the categorical columns.
    """

    reference: Path
    windows: dict[int, list[Path]]
    columns: list[str]
    labels: list[str]


def names(columns: int) -> list[str]:
    """The columns' names, which tell their kinds."""
    return [f"{KINDS[i % len(KINDS)]}_{i:02}" for i in range(columns)]


def generate(
    folder: Path, sizes: Sequence[int], columns: int, seed: int, say: Callable[[str], None]
) -> Files:
    """Write a reference and windows of the sizes.

    Raises:
        WindlassError: the disk has no room for them.
    """
    rows = max(sizes)
    needed = (rows + REFERENCE_ROWS) * columns * BYTES_PER_VALUE + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WindlassError(
            f"{folder} has {free / 2**30:.1f} GB free and {needed / 2**30:.1f} GB are needed for {rows:,} rows of "
            f"{columns} columns; set TMPDIR to a larger disk or ask for fewer --rows"
        )
    one, other = SeedSequence(seed).spawn(2)
    reference = folder / "reference.parquet"
    write(reference, min(min(sizes), REFERENCE_ROWS), columns, np.random.default_rng(one), moved=False)
    generator = np.random.default_rng(other)
    cuts = sorted({0, *sizes, *range(0, rows, LARGEST_PART)})
    parts: list[tuple[int, Path]] = []
    for start, stop in itertools.pairwise(cuts):
        say(f"generating rows {start:,} to {stop:,}")
        parts.append((stop, folder / f"window-{len(parts):03}.parquet"))
        write(parts[-1][1], stop - start, columns, generator, moved=True)
    windows = {size: [path for stop, path in parts if stop <= size] for size in sizes}
    named = names(columns)
    return Files(reference, windows, named, [name for name in named if name.startswith("label")])


def write(path: Path, rows: int, columns: int, generator: Generator, *, moved: bool) -> None:
    """Write one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = names(columns)
    few = [name for name in named if name.startswith(("count", "label"))]
    writer = None
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        arrays = [
            column(name, i, size, generator, MOVED if moved and i % 2 else 0.0)
            for i, name in enumerate(named)
        ]
        table = pa.table(dict(zip(named, arrays, strict=True)))
        writer = writer or pq.ParquetWriter(
            path, table.schema, compression="none", use_dictionary=few, write_statistics=False
        )
        writer.write_table(table, row_group_size=CHUNK)
    if writer is not None:
        writer.close()


def column(name: str, number: int, rows: int, r: Generator, shift: float) -> Any:
    """Rows of one column, moved by `shift` of about a standard deviation."""
    import pyarrow as pa

    kind = name.split("_")[0]
    if kind == "normal":  # doubles, far from zero in some columns
        return pa.array(r.standard_normal(rows) * (1 + number) + (number % 4) * 1000 + shift * (1 + number))
    if kind == "heavy":  # lognormal; every other one infinite now and then
        values = np.exp(r.standard_normal(rows, dtype=np.float32) * 1.5 + shift)
        if number % 4 == 1:
            values[:: 1 << 16] = np.inf
        return pa.array(values)
    if kind == "count":
        missing = r.random(rows, dtype=np.float32) < 0.03
        return pa.array(r.poisson(4.0 + number + shift * 3, rows).astype(np.int32), mask=missing)
    if kind == "label":
        labels = (4, 12, 40, 200, 1000)[number // len(KINDS) % 5]
        places = labels * r.random(rows, dtype=np.float32) ** (2.0 + shift)
        missing = r.random(rows, dtype=np.float32) < 0.02
        indices = pa.array(np.minimum(places.astype(np.int32), labels - 1), mask=missing)
        return pa.DictionaryArray.from_arrays(indices, pa.array([f"{name}-{i}" for i in range(labels)]))
    if kind == "amount":  # mostly nothing, a fifth unknown
        values = r.standard_exponential(rows, dtype=np.float32) * np.float32(1 + shift)
        values[r.random(rows, dtype=np.float32) < 0.6] = 0.0
        return pa.array(values, mask=r.random(rows, dtype=np.float32) < 0.2)
    return pa.array((r.standard_normal(rows, dtype=np.float32) * 1e5 + 1e6 + shift * 1e5).astype(np.int32))
