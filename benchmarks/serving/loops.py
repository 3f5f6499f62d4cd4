"""The loops of the load generator: closed, where a caller waits for its answer, and open, by a schedule.

Latencies of the open loop count from the time that the schedule intends, so that a server which makes its callers
wait cannot hide it (what Gil Tene named coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import grpc
import numpy as np

from benchmarks.serving.client import Connection
from benchmarks.serving.wire import Format

TICK_S = 0.001
DRAIN_S = 2.0


@dataclass(frozen=True)
class Target:
    """A server and what it is asked: `messages` are requests, of gRPC their bodies."""

    port: int
    format: Format
    grpc: bool
    messages: list[bytes]


class Closed:
    """`concurrency` connections; ends after `requests` answers or `seconds`."""

    def __init__(self, target: Target, concurrency: int, requests: int, seconds: float) -> None:
        self._target = target
        self._messages = cycle(target.messages)
        self._concurrency = concurrency
        self._left = requests
        self._seconds = seconds
        self._open = 0
        self._lost = 0
        self._deadline = float("inf")
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []

    def opened(self, connection: Connection) -> None:
        self._open += 1
        self._next(connection, time.perf_counter())

    def answered(self, connection: Connection, status: int, sent: float, now: float) -> None:
        self.latencies.append(now - sent)
        self.statuses[str(status)] += 1
        self._next(connection, now)

    def lost(self, connection: Connection) -> None:
        self._open -= 1
        if connection.sent:
            self.statuses["connection lost"] += 1
        if self._left > 0 and time.perf_counter() < self._deadline:
            self._spawn(self._connect())
        elif not self._open:
            self._done.set_result(None)

    def _next(self, connection: Connection, now: float) -> None:
        if self._left > 0 and now < self._deadline:
            self._left -= 1
            connection.send(next(self._messages), now, now)
        else:
            connection.transport.close()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        await self._loop.create_connection(lambda: Connection(self), "127.0.0.1", self._target.port)

    async def run(self) -> dict[str, Any]:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        begun = time.perf_counter()
        self._deadline = begun + self._seconds
        await asyncio.gather(*(self._connect() for _ in range(self._concurrency)))
        await self._done
        return summary(self.latencies, self.statuses, time.perf_counter() - begun)


async def closed_grpc(target: Target, concurrency: int, requests: int, seconds: float) -> dict[str, Any]:
    """The closed loop over one HTTP/2 connection."""
    messages = cycle(target.messages)
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    left = iter(range(requests))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        call = channel.unary_unary(target.format.path)
        await channel.channel_ready()
        begun = now = time.perf_counter()

        async def ask() -> None:
            nonlocal now
            for _ in left:
                sent = time.perf_counter()
                try:
                    await call(next(messages))
                    statuses["200"] += 1
                except grpc.aio.AioRpcError as problem:
                    statuses[problem.code().name] += 1
                now = time.perf_counter()
                latencies.append(now - sent)
                if now - begun > seconds:
                    return

        await asyncio.gather(*(ask() for _ in range(concurrency)))
        return summary(latencies, statuses, now - begun)


@dataclass
class Open:
    """`rate` requests a second for `seconds`, over at most `connections`.

    Attributes:
        statuses: of the answers that came while the load was on: they are the throughput.
        answers: all of them, in the drain after it too.
    """

    target: Target
    rate: float
    seconds: float
    connections: int
    idle: list[Connection] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    from_sending: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    def opened(self, connection: Connection) -> None:
        self.idle.append(connection)

    def answered(self, connection: Connection, status: int, sent: float, now: float) -> None:
        kind = str(status)
        self.answers[kind] += 1
        if now < self._end:
            self.statuses[kind] += 1
        self.latencies.setdefault(kind, []).append(now - connection.intended)
        self.from_sending.setdefault(kind, []).append(now - sent)
        self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection.sent:
            self.answers["connection lost"] += 1

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        all_connections = []
        self._end = float("inf")
        for _ in range(self.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self.target.port
            )
            all_connections.append(connection)
        messages = cycle(self.target.messages)
        begun = time.perf_counter()
        self._end = begun + self.seconds
        count = round(self.rate * self.seconds)
        while (now := time.perf_counter()) < self._end:
            due = min(count, int((now - begun) * self.rate) + 1)
            while self.sent < due and self.idle:
                connection = self.idle.pop()
                connection.send(next(messages), begun + self.sent / self.rate, now)
                self.sent += 1
            await asyncio.sleep(TICK_S if self.sent < count else self._end - now)
        drained = time.perf_counter() + DRAIN_S
        while self.answers.total() < self.sent and time.perf_counter() < drained:
            await asyncio.sleep(TICK_S)
        for connection in all_connections:
            connection.transport.close()
        return {
            "offered": count,
            "sent": self.sent,
            "seconds": self.seconds,
            "statuses": dict(self.statuses),
            "answers": dict(self.answers),
            "latency_ms": {kind: percentiles(found) for kind, found in self.latencies.items()},
            "latency_from_sending_ms": {
                kind: percentiles(found) for kind, found in self.from_sending.items()
            },
        }


def summary(latencies: list[float], statuses: Counter[str], seconds: float) -> dict[str, Any]:
    return {"seconds": seconds, "statuses": dict(statuses), "latency_ms": percentiles(latencies)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds."""
    if not seconds:
        return {}
    p50, p99, most = (np.percentile(seconds, [50, 99, 100]) * 1000).tolist()
    return {"p50": p50, "p99": p99, "max": most}
