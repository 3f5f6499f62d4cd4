"""The prediction log as parquet files, partitioned by day: `DIR/date=YYYY-MM-DD/<name>.parquet`.

A file holds what gathered for a minute, or 16 MiB of lines. It appears under its name when it is complete and
on disk; what a killed process was about to write is lost, and never half there. The lines go through Arrow's own
JSON reader, which holds no lock of the interpreter while requests are answered.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from serving.runtime.payload.queue import Written, json_lines
from windlass import atomic
from windlass.errors import UsageError, WindlassError

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400
LAST_SECOND = 253_402_300_799  # of the year 9999: a date has no later one
# as Hive names the partition of rows without a value
NO_DATE = "__HIVE_DEFAULT_PARTITION__"
TEXTS = ("request_id", "model", "version", "entities", "request", "source", "answered_by", "route", "unit")


def encode(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Encode records as lines in which entities and request fields are JSON texts: their types vary by caller.

    Raises:
        TypeError: a record holds what JSON does not.
    """
    return json_lines(
        [
            {
                **record,
                "entities": orjson.dumps(record.get("entities")).decode(),
                "request": orjson.dumps(record.get("request")).decode(),
            }
            for record in records
        ]
    )


class ParquetWriter:
    """Writes each batch of lines into a file of its own for each day of event time that it spans.

    Raises:
        WindlassError: the folder cannot be written.
        UsageError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import pyarrow.json
            import pyarrow.parquet  # noqa: F401 - fails now, and not at the first batch
        except ImportError as error:
            text = f"the prediction log parquet:{folder} needs pyarrow; install it or log to a file"
            raise UsageError(text) from error
        self.name = f"parquet:{folder}"
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot write the prediction log {self.name}: {error.strerror}; give another --log"
            raise WindlassError(text) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WindlassError(
                f"cannot write the prediction log {self.name}: not permitted; give another --log"
            )

    def write(self, lines: bytes, give_up: threading.Event) -> Written:
        """Publish the lines' files one after the other; what fails leaves those before it."""
        import pyarrow.parquet as pq

        written = 0
        try:
            for date, rows in by_date(table(lines)):
                path = self._folder / f"date={date}" / f"{uuid.uuid4().hex}.parquet"
                with atomic.replacing(path) as temporary:
                    pq.write_table(rows, temporary, compression="zstd", use_dictionary=list(TEXTS))
                written += rows.num_rows
        except (OSError, WindlassError) as error:
            return Written(written, str(error))
        return Written(written)

    def close(self) -> None:
        """Nothing is held between batches."""


def table(lines: bytes) -> pa.Table:
    """Lines of `encode` as a table; fields unknown here get the column type that they look like."""
    import pyarrow as pa
    import pyarrow.json

    double = pa.float64()
    known = [(name, pa.string()) for name in TEXTS]
    known += [
        ("at", double),
        ("latency_ms", double),
        ("features", pa.list_(double)),
        ("mirrored", pa.bool_()),
    ]
    # one block: a type is inferred once for all of it, and no record is longer than a block
    blocks = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    parsing = pyarrow.json.ParseOptions(explicit_schema=pa.schema(known))
    rows = pyarrow.json.read_json(pa.BufferReader(lines), blocks, parsing)
    position = rows.schema.get_field_index("score")
    score = rows.column(position)
    # whole numbers, or none at all, must not make another schema
    return rows.set_column(position, "score", score.cast(_doubles(score.type)))


def _doubles(kind: pa.DataType) -> pa.DataType:
    """The type of the same nesting that holds doubles."""
    import pyarrow as pa

    return pa.list_(_doubles(kind.value_type)) if pa.types.is_list(kind) else pa.float64()


def by_date(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Split a table by the UTC day of its event time."""
    import pyarrow.compute as pc

    at = rows["at"]
    in_range = pc.and_(pc.greater_equal(at, 0), pc.less_equal(at, LAST_SECOND))
    days = pc.if_else(in_range, pc.floor(pc.divide(at, float(DAY))), None)
    for day in days.unique().to_pylist():
        if day is None:
            yield NO_DATE, rows.filter(pc.is_null(days))
        else:
            yield f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m-%d}", rows.filter(pc.equal(days, day))
