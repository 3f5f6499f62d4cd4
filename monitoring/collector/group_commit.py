"""One fsync for everything that arrived during the last one: the disk sets the pace, and no caller waits for two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from windlass.errors import WindlassError


class GroupCommit:
    """Hands what gathered to `write`, in one thread of its own.

    Args:
        write: makes bytes durable, all or nothing; raises WindlassError where it could not.
        observe: told of each commit, the seconds that it took.
    """

    def __init__(
        self, write: Callable[[bytes], None], observe: Callable[[float], None] | None = None
    ) -> None:
        self._write = write
        self._observe = observe
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "commit")
        self._in_flight = 0
        self._bytes = 0

    @property
    def pending(self) -> int:
        """Callers that wait for the disk."""
        return len(self._waiting) + self._in_flight

    @property
    def pending_bytes(self) -> int:
        """What they wait to see written."""
        return self._bytes

    async def append(self, data: bytes) -> None:
        """Return once `data` is durable.

        Raises:
            WindlassError: it is not.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((data, done))
        self._bytes += len(data)
        if self._committer is None:
            self._committer = loop.create_task(self._commit())
        await done

    async def settled(self) -> None:
        """Return once all that was handed in before is written, or was refused."""
        if self._committer is not None:
            with contextlib.suppress(WindlassError):  # nothing of ours is in that write
                await self.append(b"")

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self._in_flight = len(batch)
            together = b"".join(data for data, _ in batch)
            failure: BaseException | None = None
            started = loop.time()
            try:
                if together:
                    await loop.run_in_executor(self._thread, self._write, together)
            except WindlassError as error:
                failure = error
            except BaseException as error:  # every caller is told, whatever it was
                failure = WindlassError(f"the journal failed: {error!r}")
            if self._observe is not None and together:
                self._observe(loop.time() - started)
            self._in_flight = 0
            self._bytes -= len(together)
            for _, done in batch:
                if done.done():
                    continue  # its caller went away
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
        self._committer = None

    async def alone(self, act: Callable[[], None]) -> None:
        """Run something in the writing thread, between two commits."""
        await asyncio.get_running_loop().run_in_executor(self._thread, act)

    def close(self) -> None:
        """End the thread once it has written what it was given."""
        self._thread.shutdown(wait=True)
