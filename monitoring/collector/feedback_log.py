"""The file that labels are acknowledged into, and that the store is filled with labels from.

It is a journal of its own because others follow it: the release controller and the demo read labels from it the moment
they are durable, and `windlass feedback` appends to it where no collector runs. A line that could not be written is
taken back, so that what is in the file was acknowledged or its caller never got an answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from monitoring.collector.group_commit import GroupCommit
from monitoring.collector.wal import StorageError
from monitoring.labels import Label, plain
from windlass.atomic import cut_torn_tail, make_directory, sync_directory


def line(label: Label) -> bytes:
    return orjson.dumps(plain(label)) + b"\n"


class FeedbackLog:
    """Appends labels durably; only one process may have it open.

    Args:
        observe: told of each commit, the seconds that it took.
    """

    def __init__(self, path: Path, observe: Callable[[float], None] | None = None) -> None:
        make_directory(path.parent)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        sync_directory(path.parent)
        cut_torn_tail(self._file)
        #: where the file should have been cut and could not be
        self._cut: int | None = None
        self.commits = GroupCommit(self.write, observe)

    async def append(self, labels: Iterable[Label]) -> None:
        """Return once the labels are on the disk.

        Raises:
            StorageError: they could not be written; none of them is in the file.
        """
        await self.commits.append(b"".join(map(line, labels)))

    def write(self, data: bytes) -> None:
        """Append whole lines and fsync them, all or nothing.

        Raises:
            StorageError: the disk did not take them.
        """
        start = None
        try:
            if self._cut is not None:
                os.ftruncate(self._file, self._cut)
                self._cut = None
            start = os.fstat(self._file).st_size
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            if start is not None:
                try:
                    os.ftruncate(self._file, start)
                except OSError:  # before anything follows half a line, it is tried again
                    self._cut = start
            raise StorageError(
                f"cannot append to {self._path}: {error.strerror}; nothing of this request was kept, send it again"
            ) from error

    def close(self) -> None:
        self.commits.close()
        os.close(self._file)
