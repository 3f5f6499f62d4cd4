"""The load generator: a process of its own on a core of its own, told what to do by lines of JSON on stdin.

Each line is one command, each answer one line on stdout:

    {"do": "ready", …}   ask until a prediction is answered with 200: {"at": time.monotonic()}
    {"do": "ask", …}     ask once: {"scores": [...]}
    {"do": "closed", …}  closed loop: each connection asks again when it was answered
    {"do": "open", …}    open loop: a fixed schedule, whether answers come or not
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import uvloop

from benchmarks.serving.client import Connection
from benchmarks.serving.loops import Closed, Open, Target, closed_grpc
from benchmarks.serving.wire import FORMATS, message

DISTINCT = 64
RETRY_S = 0.02
# a channel that found nobody listening would wait ever longer, and so would the next one to the same address
IMPATIENT = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20))


async def ask(target: Target, timeout_s: float) -> bytes:
    """Ask once and return the answer's body.

    Raises:
        OSError: the server does not listen, closes the connection or answers anything but 200.
    """
    if target.grpc:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}", IMPATIENT) as channel:
            try:
                answer: bytes = await channel.unary_unary(target.format.path)(
                    target.messages[0], timeout=timeout_s
                )
            except grpc.aio.AioRpcError as problem:
                raise OSError(f"{problem.code().name}: {problem.details()}") from problem
            return answer
    once = Once(target.messages[0])
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: Connection(once), "127.0.0.1", target.port)
    return await asyncio.wait_for(once.body, timeout_s)


class Once:
    """One request."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def opened(self, connection: Connection) -> None:
        connection.send(self._request, 0.0, time.perf_counter())

    def answered(self, connection: Connection, status: int, sent: float, now: float) -> None:
        if self.body.done():  # it took too long
            pass
        elif status == 200:
            self.body.set_result(connection.body())
        else:
            self.body.set_exception(OSError(f"status {status}: {connection.content[:200]!r}"))
        connection.transport.close()

    def lost(self, connection: Connection) -> None:
        if not self.body.done():
            self.body.set_exception(OSError("the connection was closed"))


async def ready(target: Target, timeout_s: float) -> dict[str, Any]:
    """Ask until there is an answer; {"problem": …} where there is none in time."""
    deadline = time.monotonic() + timeout_s
    problem = "nothing was answered"
    while time.monotonic() < deadline:
        try:
            await ask(target, deadline - time.monotonic())
            return {"at": time.monotonic()}
        except OSError as error:  # includes a timeout
            problem = str(error)
            await asyncio.sleep(RETRY_S)
    return {"problem": problem}


async def obey(command: dict[str, Any], rows: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    """Carry out one command."""
    do = command.pop("do")
    name, count = command.pop("format"), command.pop("rows")
    format = FORMATS[name]
    write = format.encode if name == "grpc" else lambda chosen: message(format, chosen)
    starts = [i * count % (len(rows) - count + 1) for i in range(1 if do in ("ready", "ask") else DISTINCT)]
    target = Target(command.pop("port"), format, name == "grpc", [write(rows[i : i + count]) for i in starts])
    if do == "ready":
        return await ready(target, **command)
    if do == "ask":
        return {"scores": format.decode(await ask(target, **command))}
    if do == "open":
        return await Open(target, **command).run()
    return await (closed_grpc(target, **command) if target.grpc else Closed(target, **command).run())


async def main(rows_file: Path) -> None:
    rows = np.load(rows_file)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await obey(orjson.loads(line), rows)
        except (OSError, LookupError, TypeError, ValueError) as problem:
            # also an answer of another form than its protocol's: that is the contender's matter, not ours
            answer = {"problem": repr(problem)}
        print(orjson.dumps(answer).decode(), flush=True)


if __name__ == "__main__":
    if sys.argv[2:]:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    uvloop.run(main(Path(sys.argv[1])))
