"""The writing end of the store: parts, and the manifest that makes them count."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.collector import manifest, parts, rebuild
from monitoring.collector.manifest import Kind, Manifest, Part
from monitoring.collector.place import place, root
from windlass.atomic import make_directory, write_text
from windlass.errors import AlreadyRunningError
from windlass.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

#: holds when the store began, until a manifest does
BEGAN = "began"


class Store:
    """The newest manifest, and how to write the next one; who has it holds the lock of `holding`.

    Args:
        now: epoch seconds, what files that are replaced are dated with.

    Raises:
        WindlassError: the manifest cannot be read, or is none.
    """

    def __init__(self, configured: Settings, *, now: float) -> None:
        self.folder = root(configured)
        self.place = place(configured)
        self.now = now
        #: of parts that no manifest names yet
        self._latest: dict[str, float] = {}
        content = self.place.read(manifest.NAME)
        if content is None:
            self.manifest = Manifest(began=_began(self.folder))
        else:
            self.manifest = manifest.decode(content, manifest.NAME)
        if rebuild.missing(self.manifest, self.folder):
            sys.stderr.write("windlass collector: the indexes are not on this machine; making them again\n")
            runs = rebuild.rebuilt(self.manifest, self.place, self.folder)
            self.commit(replace(self.manifest, runs=runs))

    @property
    def generation(self) -> int:
        """The number of the next commit, which names its files."""
        return self.manifest.generation + 1

    def commit(self, changed: Manifest) -> Manifest:
        """Make a manifest the one that holds."""
        latest = {**changed.latest, **self._latest}
        named = {part.path: latest[part.path] for part in changed.parts if part.path in latest}
        done = replace(changed, generation=self.generation, written=self.now, latest=named)
        self.place.write(manifest.NAME, manifest.encode(done))
        self.manifest = done
        self._latest.clear()
        return done

    def put(
        self,
        kind: Kind,
        model: str,
        date: str,
        table: pa.Table,
        between: tuple[float, float],
        versions: tuple[str, ...] = (),
    ) -> Part:
        """Write a table as a part of a partition; it counts once a manifest names it."""
        folder = f"{kind}/model={model}/date={date}" if model else f"{kind}/date={date}"
        path = f"{folder}/g{self.generation:09d}.parquet"
        with self.place.writing(path) as temporary:
            parts.write(table, temporary)
            size = temporary.stat().st_size
        if kind in ("predictions", "labels"):
            self._latest[path] = parts.latest(table)
        return Part(kind, model, date, path, table.num_rows, size, *between, versions)


def begin(folder: Path, now: float) -> None:
    """Note when a store begins that holds nothing yet, neither in parts nor in its journal; epoch seconds."""
    make_directory(folder)
    write_text(folder / BEGAN, f"{now}\n")


def _began(folder: Path) -> float:
    try:
        return float((folder / BEGAN).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0.0  # a collector that noted nothing left a journal


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only one who writes the store; wait for another one to end."""
    make_directory(folder)
    file = os.open(folder / "consolidation.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only collector of a home.

    Raises:
        AlreadyRunningError: another one is.
    """
    make_directory(folder)
    file = os.open(folder / "collector.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise AlreadyRunningError(
            f"another collector writes to {folder}; end it first, or name another --home"
        ) from None
    try:
        yield
    finally:
        os.close(file)
