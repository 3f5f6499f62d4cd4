"""What features are computed from where nobody names a file: the newest data version, as training reads it.

What is served would otherwise be of other rows than what was learned, and a pod has no file of a workload's own source.
"""

from __future__ import annotations

from pathlib import Path

from monitoring.data_versions.store import DataVersions
from windlass.contract import Workload
from windlass.settings import Settings


def newest(settings: Settings, workload: Workload) -> Path | None:
    """A file with the rows of the newest version; None where the workload has none, and its own source is read.

    One file of each workload is kept, in the home's cache.

    Raises:
        WindlassError: the version cannot be had, or the object store does not say which there are.
    """
    store = DataVersions(settings, workload)
    found = store.newest()
    if found is None:
        return None
    folder = settings.home / "cache" / "data-versions" / workload.name
    path = store.checkout(found, folder)
    for older in folder.glob("*.parquet"):
        # a home may be a small volume, and each version has all rows of the one before
        if older != path:
            older.unlink(missing_ok=True)
    return path
