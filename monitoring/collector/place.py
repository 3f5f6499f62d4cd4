"""Where the store's files lie: a folder of this machine, or a prefix of an S3 bucket with a folder as its cache.

Files other than the manifest are written once and never changed, so a copy in the cache is as good as the original.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from windlass import atomic
from windlass.settings import Settings

if TYPE_CHECKING:
    from windlass.objectstore import ObjectStore

PREFIX = "events"


class Place(Protocol):
    """Files by their paths relative to the store's root, in POSIX form."""

    def writing(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """Yield a local path to write to; on success the file appears whole under `path`, durable."""
        ...

    def local(self, path: str) -> Path:
        """A file of this machine with the content of `path`.

        Raises:
            FileNotFoundError: there is none, or no more.
        """
        ...

    def read(self, path: str) -> bytes | None:
        """The content of a small file, None where there is none."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Replace a small file, all or nothing."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; none is as good."""
        ...

    def paths(self) -> list[str]:
        """Every part and held file that there is, named by a manifest or not."""
        ...


class Folder:
    """Files of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        with atomic.replacing(self._root / path) as temporary:
            yield temporary

    def local(self, path: str) -> Path:
        return self._root / path

    def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        atomic.write_bytes(self._root / path, content)

    def remove(self, path: str) -> None:
        target = self._root / path
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a partition's folder goes with its last file
            target.parent.rmdir()

    def paths(self) -> list[str]:
        found = (*self._root.glob("*/*/**/*.parquet"), *self._root.glob("held/*.jsonl"))
        return sorted(p.relative_to(self._root).as_posix() for p in found)


class Bucket:
    """Objects under a prefix, with copies on this machine of those that were read."""

    def __init__(self, store: ObjectStore, cache: Path, scratch: Path) -> None:
        self._store = store
        self._cache = cache
        #: where parts lie until they are uploaded, under names that a sweep removes
        self._scratch = scratch

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=".upload-") as file:
            yield Path(file.name)
            self._store.upload(Path(file.name), f"{PREFIX}/{path}")

    def local(self, path: str) -> Path:
        copy = self._cache / path
        if not copy.exists():
            if not self._store.exists(f"{PREFIX}/{path}"):
                raise FileNotFoundError(self._store.address(f"{PREFIX}/{path}"))
            self._store.download(f"{PREFIX}/{path}", copy)
        return copy

    def read(self, path: str) -> bytes | None:
        key = f"{PREFIX}/{path}"
        return self._store.read(key) if self._store.exists(key) else None

    def write(self, path: str, content: bytes) -> None:
        self._store.write(f"{PREFIX}/{path}", content)

    def remove(self, path: str) -> None:
        self._store.remove(f"{PREFIX}/{path}")
        (self._cache / path).unlink(missing_ok=True)

    def paths(self) -> list[str]:
        keys = (key.removeprefix(f"{PREFIX}/") for key in self._store.keys(f"{PREFIX}/"))
        return [key for key in keys if key.endswith((".parquet", ".jsonl"))]


def root(settings: Settings) -> Path:
    """The collector's folder on this machine: its journal and indexes, and the parts where they are not on S3."""
    return settings.home / "events"


def place(settings: Settings) -> Place:
    """Where the settings put the parts.

    Raises:
        UsageError: an object store is named that cannot be meant.
    """
    if settings.object_store is None:
        return Folder(root(settings))
    from windlass.objectstore import ObjectStore

    # files of two stores may have one name: copies of one are none of the other
    store = hashlib.sha256(f"{settings.s3_endpoint} {settings.object_store}".encode()).hexdigest()[:16]
    return Bucket(ObjectStore(settings), settings.home / "cache" / "events" / store, root(settings))
