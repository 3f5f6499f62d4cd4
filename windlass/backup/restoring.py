"""Putting a backup back: all of it is checked first, what was there is set aside and never removed."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from windlass import atomic
from windlass.backup import archive, contents
from windlass.errors import UsageError
from windlass.local import state
from windlass.local.lock import PlatformLock
from windlass.settings import Settings

#: Columns of MLflow's database that hold addresses of artifacts.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_ARTIFACTS = "/registry/artifacts"


@dataclass(frozen=True)
class Restored:
    """What was put back.

    Attributes:
        aside: folder with all that the home held before; None where it held nothing.
    """

    manifest: archive.Manifest
    aside: Path | None


def restore(
    settings: Settings,
    path: Path,
    at: datetime,
    *,
    step: Callable[[str], None] = lambda text: None,
    tell: Callable[[int, int], None] = lambda done, all_: None,
) -> Restored:
    """Make the home what it was when the backup `path` was taken.

    Until every file is unpacked, checked and on the disk, the home is untouched. Then what it holds is moved to
    `before-restore-<time>/` in it, and the files are moved in; a crash between leaves both there, and the same call
    again completes it.

    Raises:
        UsageError: the file is no backup, or damaged; or a platform uses the home.
    """
    home = settings.home
    manifest = archive.read(path)
    if not manifest.files:
        raise UsageError(
            f"{path} holds no home, only what namespace {manifest.namespace} had; put that back by `windlass restore "
            f"{path} --cluster`"
        )
    if state.serving(settings) is not None:
        raise UsageError(f"a platform uses {home}; end it by `windlass down`, then restore")
    atomic.make_directory(home)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restoring-") as name:
        fresh = Path(name) / archive.HOME
        step(f"checking {path}, made {manifest.made_at} by Windlass {manifest.windlass}")
        archive.unpack(path, Path(name), lambda done: tell(done, manifest.size))
        _readdress(fresh, manifest.home, home)
        _sync(fresh)
        # nobody may begin to use what is about to move
        lock = PlatformLock(state.lock_path(settings))
        try:
            aside = _swap(settings, fresh, at)
        finally:
            lock.release()
    return Restored(manifest, aside)


def _swap(settings: Settings, fresh: Path, at: datetime) -> Path | None:
    """Move what is there aside and what is fresh in; the lock that is being held stays where it is."""
    home = settings.home
    aside = home / f"{contents.ASIDE}{at:%Y%m%dT%H%M%SZ}"
    lock = state.lock_path(settings)
    there = [
        *(
            e
            for e in home.iterdir()
            if e.name not in ("run", contents.FILE_SYSTEM)
            and not e.name.startswith((contents.ASIDE, ".restoring-"))
        ),
        # what ran last, with routes to versions that the backup may not know
        *(e for e in (home / "run").iterdir() if e != lock),
    ]
    for entry in sorted(there):
        target = aside / entry.relative_to(home)
        atomic.make_directory(target.parent)
        entry.rename(target)
    for entry in sorted(fresh.iterdir()):
        for moved in sorted(entry.iterdir()) if entry.name == "run" else (entry,):
            moved.rename(home / moved.relative_to(fresh))
    for folder in (home / "run", home, *((aside,) if there else ())):
        atomic.sync_directory(folder)
    return aside if there else None


def _readdress(folder: Path, old: str, home: Path) -> None:
    """Let the registry's database name artifacts where they lie now, where the home was elsewhere."""
    database = folder / "registry" / "mlflow.db"
    if not database.is_file():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        # a home that was moved by hand before still names the place where it was made
        places = {old} | {
            location.removesuffix(_ARTIFACTS)
            for (location,) in connection.execute("SELECT artifact_location FROM experiments")
            if location and location.startswith("/") and location.endswith(_ARTIFACTS)
        }
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        for table, column in _ADDRESSES:
            if table not in tables or column not in _columns(connection, table):
                continue
            for place in places - {str(home)}:
                connection.execute(
                    # the names are ours, the values are bound
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (f"{home}/", len(place) + 2, len(place) + 1, f"{place}/"),
                )
    # it is made again from the database
    (folder / "registry" / "snapshot.json").unlink(missing_ok=True)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _sync(folder: Path) -> None:
    for where, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(where) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        atomic.sync_directory(Path(where))
