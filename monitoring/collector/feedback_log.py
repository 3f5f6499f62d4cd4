"""The file that labels are acknowledged into.

Callers that come while one fsync runs share the next: the disk sets the pace and none of them waits for more
than two. A line that could not be written is taken back, so that what is in the file was acknowledged or its
caller never got an answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import orjson

from monitoring.labels import Label, plain
from windlass.atomic import cut_torn_tail, sync_directory
from windlass.errors import WindlassError


def line(label: Label) -> bytes:
    return orjson.dumps(plain(label)) + b"\n"


class FeedbackLog:
    """Appends labels durably; only one process may have it open."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        sync_directory(path.parent)
        cut_torn_tail(self._file)
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Callers that wait for the disk."""
        return len(self._pending)

    async def append(self, labels: Iterable[Label]) -> None:
        """Return once the labels are on the disk.

        Raises:
            WindlassError: they could not be written; none of them is in the file.
        """
        done = asyncio.get_running_loop().create_future()
        self._pending.append((b"".join(map(line, labels)), done))
        if self._committer is None:
            self._committer = asyncio.get_running_loop().create_task(self._commit())
        await done

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            failure: WindlassError | None = None
            try:
                await loop.run_in_executor(None, self.write, b"".join(data for data, _ in batch))
            except WindlassError as error:
                failure = error
            for _, done in batch:
                if done.done():
                    continue  # its caller went away
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
        self._committer = None

    def write(self, data: bytes) -> None:
        """Append whole lines and fsync them, all or nothing.

        Raises:
            WindlassError: the disk did not take them.
        """
        start = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, start)
            raise WindlassError(
                f"cannot append to {self._path}: {error.strerror}; nothing of this request was kept, send it again"
            ) from error

    def close(self) -> None:
        os.close(self._file)
