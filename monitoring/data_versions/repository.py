"""The DVC repository of the training data: `data/` with its remote, and what one folder of it is called.

    data/<workload>/*.parquet   the newest partitions        data/<workload>.dvc   their version
    data-remote/                where versions are kept, unless WINDLASS_OBJECT_STORE names a bucket

The configuration is written anew for each use, since a setting may have changed; secrets are in none of it: the S3
client reads its credentials from the usual AWS environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from monitoring.data_versions import tool
from windlass import atomic
from windlass.errors import WindlassError
from windlass.settings import Settings

DIRECTORY = ".dir"


class Repository:
    """Folders of partitions under DVC; use it inside `locked`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.root = settings.home / "data"

    @contextlib.contextmanager
    def locked(self, *, dvc: bool = True) -> Iterator[None]:
        """One process at a time: DVC refuses a second one, and a version must not mix two additions.

        Args:
            dvc: whether it is for a use of DVC; who only reads what others made needs none.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if dvc:
                self._prepare()
            yield

    def folder(self, workload: str) -> Path:
        """Where the newest partitions of a workload lie."""
        return self.root / workload

    def keep(self, workload: str) -> str:
        """Put the folder as it is under DVC and into the remote; return its id."""
        self._run("add", workload)
        found = self._id(self.root / f"{workload}.dvc")
        self.push(workload)
        return found

    def push(self, workload: str) -> None:
        """Bring the newest version to the remote, where it is not there yet."""
        self._run("push", f"{workload}.dvc")

    def listing(self, version: str) -> Mapping[str, str]:
        """File names of a version that was just kept -> MD5."""
        cache = self.root / ".dvc" / "cache" / "files" / "md5" / version[:2] / (version[2:] + DIRECTORY)
        return {entry["relpath"]: entry["md5"] for entry in json.loads(cache.read_text())}

    @contextlib.contextmanager
    def at(self, workload: str, version: str) -> Iterator[Path]:
        """Yield a folder with the files of a version, from the cache or the remote; DVC holds them to their MD5.

        Raises:
            WindlassError: neither has them.
        """
        place = self.root / ".at" / f"{workload}-{version}"
        shutil.rmtree(place, ignore_errors=True)
        (place / "files").mkdir(parents=True)
        pointer = f"outs:\n- md5: {version}{DIRECTORY}\n  hash: md5\n  path: files\n"
        atomic.write_text(place / "files.dvc", pointer)
        name = (place / "files.dvc").relative_to(self.root)
        try:
            try:
                self._run("checkout", "--force", name)
            except WindlassError:
                self._run("pull", "--force", name)
            yield place / "files"
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _prepare(self) -> None:
        complete = self.root / ".dvc" / "complete"
        if not complete.is_file():
            self._run("init", "--no-scm", "--force")
            # written last: an initialization that was interrupted is made again
            complete.touch()
        remote = f"    url = {self._settings.home / 'data-remote'}\n"
        if self._settings.object_store is not None:
            remote = f"    url = {self._settings.object_store}/dvc\n"
            if self._settings.s3_endpoint is not None:
                remote += f"    endpointurl = {self._settings.s3_endpoint}\n"
        config = (
            "[core]\n    no_scm = True\n    analytics = false\n    check_update = false\n    remote = store\n"
            f"['remote \"store\"']\n{remote}"
        )
        path = self.root / ".dvc" / "config"
        if not path.is_file() or path.read_text() != config:
            atomic.write_text(path, config)

    def _id(self, pointer: Path) -> str:
        for line in pointer.read_text().splitlines():
            key, _, value = line.strip().removeprefix("- ").partition(": ")
            if key == "md5":
                return value.removesuffix(DIRECTORY)
        raise WindlassError(f"{pointer} names no version; remove it and add the partition again")

    def _run(self, *words: str | Path) -> None:
        tool.run(self._settings, self.root, words)
