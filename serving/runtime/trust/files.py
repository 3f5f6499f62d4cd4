"""The files of a bundle's folder, found and read without following anything out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from windlass.errors import UsageError

REMEDY = "register the version again"


def refused(folder: Path, problem: str, remedy: str = REMEDY) -> UsageError:
    """The one way in which a bundle is refused: folder, file and what is wrong with it, remedy."""
    return UsageError(f"serving bundle {folder}: {problem}; {remedy}")


def names(folder: Path, most_files: int) -> list[str]:
    """Return all files below `folder`, by path relative to it with `/`, sorted.

    Raises:
        UsageError: there are more than `most_files`; or there is a link, a pipe, a socket, a device, or a name that
            cannot be written in a document or shown in a message.
    """
    found: list[str] = []
    for name in _walk(folder, ""):
        found.append(name)
        if len(found) > most_files:
            raise refused(
                folder,
                f"it has more than {most_files} files",
                "remove what no model needs, or raise the limit",
            )
    return sorted(found)


def _walk(folder: Path, below: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder / below))
    except OSError as error:
        raise refused(folder, f"cannot read {below or '.'!r}: {error.strerror}") from error
    for entry in entries:
        name = below + entry.name
        if not entry.name.isprintable() or "\\" in entry.name:
            raise refused(folder, f"{name!r} is no name for a file of a bundle")
        if entry.is_symlink():
            raise refused(
                folder, f"{name!r} lies outside the bundle's folder, or may at any time: it is a link"
            )
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield name
        else:
            raise refused(folder, f"{name!r} is neither a file nor a folder")


def read(folder: Path, name: str, most_bytes: int | None = None) -> bytes:
    """Return the content of a regular file.

    Raises:
        UsageError: it is none, is gone, cannot be read, or is larger than `most_bytes`.
    """
    try:
        # NONBLOCK: somebody may have put a pipe in the place of a file since it was found
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused(folder, f"cannot read {name!r}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refused(folder, f"{name!r} is neither a file nor a folder")
        if most_bytes is not None and status.st_size > most_bytes:
            raise refused(
                folder,
                f"{name!r} is larger than {most_bytes} bytes",
                "take a smaller model, or raise the limit",
            )
        content = file.read(status.st_size + 1)
    if len(content) > status.st_size:
        raise refused(folder, f"{name!r} grows while it is read")
    return content
