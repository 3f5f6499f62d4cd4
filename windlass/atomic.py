"""Writing to disk so that a reader, or the next start after a crash, never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from windlass.errors import WindlassError


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it onto `path`, else remove it.

    Args:
        private: the file is its owner's alone from its first moment on.

    Raises:
        WindlassError: the disk is full; `path` is as it was before.
    """
    make_directory(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # mkstemp makes files private; a published file follows the umask like any other
        if not private:
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WindlassError(
                f"cannot write {path}: no space left on the device; free some space and run the command again, "
                "nothing was half-written"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """Yield where to write a folder; on success it is durable and takes the place of what is at `place`."""
    make_directory(place.parent)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as name:
        folder = Path(name) / "folder"
        yield folder
        for path in folder.rglob("*"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        if place.exists():
            place.rename(Path(name) / "replaced")
        folder.rename(place)
        sync_directory(place.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`, all or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8), all or nothing."""
    write_bytes(path, text.encode())


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in the directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, where they are not there; what lies in it is as durable as it is itself."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def cut_torn_tail(descriptor: int) -> None:
    """Remove a last line without its end, left in a file of lines by a process that was killed while it wrote."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
