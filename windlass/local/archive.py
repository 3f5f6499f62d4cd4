"""Logs to the object store, where the settings name one."""

from __future__ import annotations

from windlass.settings import Settings


def publish_logs(settings: Settings) -> int:
    """Upload predictions, feedback, access log and journals that are not there yet; return how many files were.

    Raises:
        WindlassError: the object store cannot be reached; the logs stay where they are.
    """
    if settings.object_store is None:
        return 0
    from windlass.objectstore import ObjectStore

    store = ObjectStore(settings)
    return sum(
        store.sync_up(folder, prefix)
        for folder, prefix in ((settings.logs_dir, "logs"), (settings.journal_dir, "journal"))
        if folder.is_dir()
    )
