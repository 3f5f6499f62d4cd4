"""Versions that other machines made: with an object store set, the list of versions lies there beside their data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from monitoring.data_versions import version
from monitoring.data_versions.version import Version
from windlass.errors import WindlassError
from windlass.journal import Journal
from windlass.objectstore import ObjectStore
from windlass.settings import Settings


def publish(settings: Settings, made: Version) -> None:
    """Let other machines know a version; nothing without an object store."""
    if settings.object_store is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "version.json"
        path.write_text(json.dumps(version.record_of(made)))
        ObjectStore(settings).upload(path, f"{_prefix(made.workload)}{made.id}.json")


def fetch(settings: Settings, workload: str) -> int:
    """Journal the versions that this machine does not know, oldest first; return how many. Local without a store."""
    if settings.object_store is None:
        return 0
    store = ObjectStore(settings)
    known = {v.id for v in version.versions(settings, workload)}
    keys = [k for k in store.keys(_prefix(workload)) if Path(k).stem not in known]
    found = [json.loads(store.read(key)) for key in keys]
    book = Journal(version.path(settings))
    try:
        for record in sorted(found, key=lambda r: str(r["at"])):
            book.append(record)
    finally:
        book.close()
    return len(found)


def _prefix(workload: str) -> str:
    return f"data-versions/{workload}/"


@contextlib.contextmanager
def partitions(settings: Settings, found: Version) -> Iterator[Path]:
    """Yield a folder with a version's partitions, read as DVC keeps them in the object store, without DVC.

    So a pod that trains needs nothing but the bucket; each file is held to its MD5.

    Raises:
        WindlassError: one is not there, or is not what the version says.
    """
    store = ObjectStore(settings)
    with tempfile.TemporaryDirectory() as name:
        for partition in found.partitions:
            path = Path(name) / partition.file
            store.download(f"dvc/files/md5/{partition.md5[:2]}/{partition.md5[2:]}", path)
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 != partition.md5:
                raise WindlassError(
                    f"partition {partition.name} of data version {found.id} in {settings.object_store} has the MD5 "
                    f"{md5} instead of {partition.md5}; bring it back with `dvc push` from a machine that has it"
                )
        yield Path(name)
