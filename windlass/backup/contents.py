"""Which files of a home a backup holds, and how each is copied so that the copy is whole although others write.

Files are of three kinds. A database of sqlite is copied by its own backup API. What is written once and then only
replaced or removed (parquet, models, bundles, artifacts) is linked: the link keeps what was there. The rest is copied;
of a file of lines, whole lines only.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["database", "written-once", "lines", "file"]

#: What a file system keeps at its root.
FILE_SYSTEM = "lost+found"

#: Left out, and why it is not missed; relative to the home.
LEFT_OUT: Mapping[str, str] = {
    "run": "describes processes that run now; what a live release needs of it (run/releases) is kept",
    "cache": "is computed again",
    "features/online.db": "is filled again by `windlass up` or `windlass features materialize`",
    "reports": "are drawn again",
    "report.html": "is drawn again",
    FILE_SYSTEM: "is the volume's, where a home is one, and only root may read it",
}
KEPT_OF_RUN = "run/releases"
#: What an earlier restore set aside.
ASIDE = "before-restore-"

#: Predictions, labels and access logs: large, and no part of what decides which version serves.
EVENTS = ("events", "logs", "analysis", "evidently")

_WRITTEN_ONCE = ("models", "registry/artifacts", "data-remote")
_WRITTEN_ONCE_SUFFIXES = (".parquet", ".run", ".npy")
_SQLITE = b"SQLite format 3\0"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_LINES = (".jsonl",)
#: Names of files that `atomic.replacing` is about to rename.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


@dataclass(frozen=True)
class Seen:
    """What a file was when it was looked at; another value means that it must be copied again."""

    inode: int
    size: int
    changed_ns: int


def scan(home: Path, *, events: bool = True) -> dict[str, Seen]:
    """Every file that a backup of `home` holds now: its path relative to it -> what it is."""
    found: dict[str, Seen] = {}
    for path, entry in _walk(home, PurePosixPath("."), events):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone while we looked
        found[path] = Seen(status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _walk(folder: Path, where: PurePosixPath, events: bool) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except FileNotFoundError:
        return
    for entry in entries:
        path = (where / entry.name).as_posix()
        if _left_out(path, events):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, where / entry.name, events)
        elif entry.is_file(follow_symlinks=False) and not _passing(entry.name):
            yield path, entry


def _left_out(path: str, events: bool) -> bool:
    if path == "run" or path == KEPT_OF_RUN or path.startswith(f"{KEPT_OF_RUN}/"):
        return False
    first = path.partition("/")[0]
    if first == "run" or first.startswith((ASIDE, ".")):
        return True
    return path in LEFT_OUT or (not events and first in EVENTS)


def _passing(name: str) -> bool:
    """Whether a file is a lock, somebody's half-written one, or belongs to a database that is copied as a whole."""
    return bool(
        name.endswith((".lock", *(f".db{end}" for end in _BESIDE_SQLITE))) or _TEMPORARY.fullmatch(name)
    )


def kind_of(home: Path, path: str) -> Kind:
    """How the file is copied."""
    if path.startswith(tuple(f"{folder}/" for folder in _WRITTEN_ONCE)) or path.endswith(
        _WRITTEN_ONCE_SUFFIXES
    ):
        return "written-once"
    with (home / path).open("rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            return "database"
    return "lines" if path.endswith(_LINES) else "file"


def copy(home: Path, path: str, target: Path) -> None:
    """Copy one file to `target`, with its mode.

    Raises:
        FileNotFoundError: it is gone.
    """
    kind, source = kind_of(home, path), home / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if kind == "database":
        _copy_database(source, target)
    elif kind == "written-once":
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)
        return
    else:
        shutil.copyfile(source, target)
        if kind == "lines":
            _end_with_a_line(target)
    shutil.copystat(source, target)


def grew(path: str, before: Seen, after: Seen) -> bool:
    """Whether a log only got more lines: what was copied is what had been written by then, and nothing else tells of
    it. A journal's lines are told by the registry too."""
    return (
        path.startswith(tuple(f"{name}/" for name in EVENTS))
        and before.inode == after.inode
        and before.size <= after.size
    )


def _copy_database(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as live,
        closing(sqlite3.connect(target)) as copied,
    ):
        live.backup(copied)


def _end_with_a_line(path: Path) -> None:
    from windlass import atomic

    with path.open("rb+") as file:
        atomic.cut_torn_tail(file.fileno())
