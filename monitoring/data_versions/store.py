"""Versions of a workload's training data: a partition that passes its checks makes one, one that fails makes none.

A version is every partition there is at that time, so going back is naming an older one. Nothing counts before the
journal says so: what an addition left behind when it was killed is removed by the next one, and asked for again it is
made as if nothing had been.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.data_versions import rows, shared, version
from monitoring.data_versions.repository import Repository
from monitoring.data_versions.version import Partition, Version
from windlass import data_version
from windlass.contract import Workload
from windlass.errors import DataError, WindlassError
from windlass.journal import Journal
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

Check = Callable[[Workload, "pd.DataFrame", str], tuple[datetime, datetime]]
"""Judge a partition by the workload's contract; event time of its oldest and newest row (aware UTC).

Raises DataError with every fault. The rules are components.validate's; whoever calls brings them.
"""
Load = Callable[[], "pd.DataFrame"]


@dataclass(frozen=True)
class Addition:
    """What became of a partition that passed.

    Attributes:
        version: the head after it.
        new: False where these rows were there already: nothing was made.
    """

    version: Version
    new: bool


class DataVersions:
    """The versions of one workload; several processes may add."""

    def __init__(self, settings: Settings, workload: Workload) -> None:
        self._settings = settings
        self._workload = workload
        self._repository = Repository(settings)

    def add(self, load: Load, name: str, check: Check, now: datetime, *, replace: bool = False) -> Addition:
        """Take a partition; `name` says where its rows come from.

        Args:
            load: gives the rows, as `Source.load` does.
            replace: put it in the place of the partition of the same days, instead of refusing it.

        Raises:
            DataError: it cannot be read, breaks the contract, or holds rows that are there already; the
                refusal is journaled.
            WindlassError: DVC or the remote failed, or another machine was first; nothing changed.
        """
        with self._repository.locked():
            shared.fetch(self._settings, self._workload.name)
            try:
                return self._add(load(), name, check, now, replace)
            except DataError as error:
                self._journal(
                    {
                        "event": version.REFUSED,
                        "workload": self._workload.name,
                        "at": now.isoformat(),
                        "file": name,
                        "reason": str(error),
                    }
                )
                raise

    def known(self) -> tuple[Version, ...]:
        """All versions, those of other machines included; the head last."""
        if self._settings.object_store is None:
            return version.versions(self._settings, self._workload.name)
        with self._repository.locked(dvc=False):
            shared.fetch(self._settings, self._workload.name)
            return version.versions(self._settings, self._workload.name)

    def newest(self) -> Version | None:
        """The version that is read where nobody names one, by training as by features; None where there is none."""
        known = self.known()
        return known[-1] if known else None

    def checkout(self, found: Version, folder: Path | None = None) -> Path:
        """Return a file with all rows of a version, fit for `pipelines.local.Request.data`.

        Args:
            folder: where to put it; by default one of this home, in which it stays.

        Raises:
            WindlassError: neither this machine nor the remote has them.
        """
        folder = folder or self._settings.home / "data-versions" / self._workload.name
        path = folder / f"{found.id}.parquet"
        if data_version.of_file(path) == found.id:
            return path
        with contextlib.ExitStack() as held:
            if self._settings.object_store is None:
                held.enter_context(self._repository.locked())
                parts = held.enter_context(self._repository.at(self._workload.name, found.id))
            else:
                parts = held.enter_context(shared.partitions(self._settings, found))
            written = rows.join([parts / p.file for p in found.partitions], found.id, path)
        if written != found.rows:
            path.unlink()
            raise WindlassError(
                f"data version {found.id} of {self._workload.name!r} holds {written} rows instead of {found.rows}; "
                "the journal and the remote are not of one home"
            )
        return path

    def _add(self, frame: pd.DataFrame, name: str, check: Check, now: datetime, replace: bool) -> Addition:
        oldest, newest = check(self._workload, frame, name)
        content = rows.content(frame)
        head = version.head(self._settings, self._workload.name)
        there = () if head is None else head.partitions
        if head is not None and any(p.content == content for p in there):
            # it may have been journaled and not pushed by a process that died, or while the remote was down
            self._repository.push(self._workload.name)
            shared.publish(self._settings, head)
            if version.refusal(self._settings, self._workload.name) is not None:
                # the newest that was offered is in order
                self._journal(
                    {
                        "event": version.REPEATED,
                        "workload": self._workload.name,
                        "at": now.isoformat(),
                        "file": name,
                    }
                )
            return Addition(head, new=False)
        called = version.partition_name(oldest, newest)
        folder = self._repository.folder(self._workload.name)
        self._restore(head, folder)
        kept = self._beside(frame, name, called, there, folder, replace)
        file = f"{called}.{content[:8]}.parquet"
        self._readable(frame, name)
        folder.mkdir(exist_ok=True)
        rows.write(frame, folder / file)
        for gone in (p for p in there if p not in kept):
            (folder / gone.file).unlink()
        identity = self._repository.keep(self._workload.name)
        listing = self._repository.listing(identity)
        for partition in kept:
            if listing.get(partition.file) != partition.md5:
                raise WindlassError(
                    f"{folder / partition.file} is not what was added; nothing was changed: remove that file and add "
                    "the partition again, the old one is restored then"
                )
        partition = Partition(
            called, file, listing[file], content, len(frame), oldest.isoformat(), newest.isoformat()
        )
        made = Version(
            self._workload.name,
            identity,
            now.isoformat(),
            None if head is None else head.id,
            called,
            tuple(sorted((*kept, partition), key=lambda p: (p.start, p.file))),
        )
        if shared.fetch(self._settings, self._workload.name):
            # a version of what both had before would leave out what the other machine added
            raise WindlassError(
                f"{name}: another machine has added to the data of {self._workload.name!r} meanwhile; nothing was "
                "changed, run the command again"
            )
        self._journal(version.record_of(made))
        shared.publish(self._settings, made)
        return Addition(made, new=True)

    def _beside(
        self,
        frame: pd.DataFrame,
        name: str,
        called: str,
        there: Sequence[Partition],
        folder: Path,
        replace: bool,
    ) -> list[Partition]:
        """The partitions that stay beside a new one."""
        same = [p for p in there if p.name == called]
        if same and not replace:
            raise DataError(
                f"{name}: partition {called} of workload {self._workload.name!r} is there with other values; "
                "give the same rows, or put these in their place with --replace"
            )
        kept = [p for p in there if p.name != called]
        for partition in kept:
            twice = rows.repeated(frame, self._workload.source.key, folder / partition.file)
            if twice:
                raise DataError(
                    f"{name}: {twice} of {len(frame)} rows are in partition {partition.name} already, by their key "
                    f"{self._workload.source.key}; remove them from the file"
                )
        return kept

    def _restore(self, head: Version | None, folder: Path) -> None:
        """Make the folder what the journal says: what was never acknowledged goes, what is missing comes back."""
        expected = set() if head is None else {p.file for p in head.partitions}
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.name not in expected:
                path.unlink()
        missing = [name for name in expected if not (folder / name).is_file()]
        if head is not None and missing:
            folder.mkdir(exist_ok=True)
            with self._repository.at(self._workload.name, head.id) as files:
                for name in missing:
                    (files / name).replace(folder / name)

    def _readable(self, frame: pd.DataFrame, name: str) -> None:
        """Retraining reads parquet through the workload's own `load`: it must give the same values."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "rows.parquet"
            rows.write(frame, path)
            try:
                again = self._workload.source.load(path)
            except Exception as error:
                raise WindlassError(
                    f"load() of workload {self._workload.name!r} cannot read a parquet file ({error}); "
                    "let it, for example by windlass.features.files.read"
                ) from error
        if rows.content(again) != rows.content(frame):
            raise WindlassError(
                f"{name}: load() of workload {self._workload.name!r} gives other values or types when it reads the "
                "same rows from parquet; let it give the types that the file has"
            )

    def _journal(self, record: dict[str, object]) -> None:
        book = Journal(version.path(self._settings))
        try:
            book.append(json.loads(json.dumps(record)))
        finally:
            book.close()
