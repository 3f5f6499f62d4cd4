"""Versions that other machines made: with an object store set, the list of versions lies there beside their data."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from monitoring.data_versions import version
from monitoring.data_versions.version import Version
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
