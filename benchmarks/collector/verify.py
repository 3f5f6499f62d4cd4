"""An independent count of what is in the store: DuckDB reads the parquet files, none of our reading code does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """Attributes:
    rows, distinct: predictions in the files that the manifest names, and their distinct ids.
    missing: ids that should be there and are not.
    foreign: ids that should not be there.
    halves: predictions that lack their request or their response.
    """

    rows: int
    distinct: int
    missing: int
    foreign: int
    halves: int


def count(home: Path, expected: int) -> Count:
    """Count the predictions `e0` to `e<expected - 1>` of a store."""
    import duckdb

    root = home / "events"
    parts = json.loads((root / "manifest.json").read_text())["parts"]
    files = [str(root / part["path"]) for part in parts if part["kind"] == "predictions"]
    connection = duckdb.connect()
    connection.execute("set threads = 1; set memory_limit = '1GB'")
    connection.read_parquet(files, hive_partitioning=False, union_by_name=True).create_view("stored")
    connection.execute("create table wanted as select 'e' || range as id from range(?)", [expected])

    def ask(query: str) -> int:
        found = connection.execute(query).fetchone()
        assert found is not None
        return int(found[0])

    rows = ask("select count(*) from stored")
    distinct = ask("select count(distinct request_id) from stored")
    missing = ask("select count(*) from wanted anti join stored on id = request_id")
    foreign = ask("select count(*) from stored anti join wanted on id = request_id")
    halves = ask('select count(*) from stored where score is null or "feature.0" is null')
    return Count(rows, distinct, missing, foreign, halves)
