"""Which version of the training data a file is: written into the file, so that it can be neither lost nor mixed up.

Versions are made by monitoring.data_versions; a training run reads one file and asks here what it holds.
"""

from __future__ import annotations

from pathlib import Path

KEY = b"windlass.data_version"


def of_file(path: Path | None) -> str | None:
    """Return the version that a parquet file says it holds; None for any other file, and for no file."""
    import pyarrow
    import pyarrow.parquet

    if path is None:
        return None
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
    except (pyarrow.ArrowException, OSError):
        return None
    found: bytes | None = metadata.get(KEY)
    return None if found is None else found.decode()
