"""`POST /v1/evidence`: what became of a release's requests, out of the store, by a process of its own.

That process (`monitoring.release_evidence`) is started with the first question and ends with the collector. If it dies,
the next question starts another one, which reads the store again and comes to the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

import orjson

from monitoring.collector.http import Request, Response, error
from monitoring.collector.metrics import Metrics
from monitoring.release_evidence.pipe import LENGTH_DIGITS, frame
from windlass.settings import Settings

#: questions that wait for their answer at most
MOST_WAITING = 64
#: so long after a question the store goes on saying up to when it is complete
ASKED_S = 600.0
RETRY_S = 5
#: a process that says nothing for so long does not come back
ANSWER_S = 60.0
CLOSE_S = 2.0


class Evidence:
    """Hands questions to the process one after the other.

    Args:
        command: how the process is started.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        command: tuple[str, ...] = (sys.executable, "-m", "monitoring.release_evidence"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = (*command, "--home", str(settings.home))
        self._metrics = metrics
        self._clock = clock
        self._asked = -ASKED_S
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    def wanted(self) -> bool:
        """Whether somebody asked lately."""
        return self._clock() - self._asked < ASKED_S

    async def __call__(self, request: Request) -> Response:
        self._asked = self._clock()
        if self._waiting >= MOST_WAITING:
            return _wait(f"{self._waiting} questions wait for their answer; ask again later")
        self._waiting += 1
        try:
            # whoever asked may go away: what is on the pipe is read to its end all the same
            return await asyncio.shield(asyncio.ensure_future(self._answer(request.body)))
        finally:
            self._waiting -= 1

    async def _answer(self, body: bytes) -> Response:
        async with self._turn:
            try:
                process = await self._running()
                assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both are pipes
                async with asyncio.timeout(ANSWER_S):
                    process.stdin.write(frame(body))
                    await process.stdin.drain()
                    length = int(await process.stdout.readexactly(LENGTH_DIGITS))
                    told = orjson.loads(await process.stdout.readexactly(length))
            # ValueError: whatever else was written to the pipe, nobody knows where an answer begins on it
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failure:
                await self.close()
                self._metrics.evidence_releases.set(0)
                sys.stderr.write(
                    f"windlass collector: the process that sums up evidence ended: {failure!r}\n"
                )
                return _wait("what sums up evidence has ended; it starts again with the next question")
        self._metrics.evidence_releases.set(told["releases"])
        self._metrics.evidence_rows.inc(told["rows"])
        if told["rebuild_s"] is not None:
            self._metrics.evidence_rebuild_seconds.set(told["rebuild_s"])
        if told["status"] == 503:
            return _wait(orjson.loads(told["body"])["error"])
        return Response(told["status"], told["body"].encode())

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        return self._process

    async def close(self) -> None:
        """End the process; what it holds is in the store."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), CLOSE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                process.kill()
            await process.wait()


def _wait(message: str) -> Response:
    refusal = error(503, message)
    return Response(refusal.status, refusal.body, headers=(("retry-after", str(RETRY_S)),))
