"""Where a drill may play: nowhere that anything is in service, and on nobody's files."""

from __future__ import annotations

from pathlib import Path

from windlass.errors import UsageError
from windlass.local import lock, state
from windlass.local.plane import DataPlane
from windlass.settings import Settings

MARK = ".windlass-drill"
"""A file of this name says that a folder is a drill's: `home/` and `project/` alone may be somebody's platform."""


def refuse(folder: Path) -> None:
    """Refuse a folder in which something is in service, or that is somebody's own.

    Raises:
        UsageError: it is one.
    """
    for home in (folder, folder / "home"):
        settings = Settings(home=home, project=folder)
        pid = lock.holder(state.lock_path(settings))
        if pid is not None or DataPlane(settings).exists():
            raise UsageError(
                f"a platform is in service on {home}; a drill breaks things on purpose: name another folder, "
                "or leave it out for a scratch one"
            )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UsageError(f"{folder} holds other things than a drill's; name an empty or a new folder")
