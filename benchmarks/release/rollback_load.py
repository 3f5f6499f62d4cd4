"""Requests at a fixed rate, whatever the answers do.

`python -m benchmarks.release.rollback_load URL PATH BODY RATE OUT`

A process of its own, so that what is measured does not wait for the one who measures. Until SIGTERM; then `OUT` holds
one line a request: seconds on the machine's monotonic clock when it was due and when it was answered, status, version.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from windlass.local.client import Client

CONNECTIONS = 256


async def run(url: str, path: str, body: bytes, rate: float, out: Path) -> None:
    """Send until told to stop, then wait for what is under way."""
    import numpy as np

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = Client(url, connections=CONNECTIONS)
    rows: list[tuple[float, float, int, str]] = []
    under_way: set[asyncio.Task[None]] = set()

    async def ask(due: float) -> None:
        answer = await client.post(path, body)
        rows.append((due, time.monotonic(), answer.status, answer.headers.get("x-windlass-version", "")))

    # independent callers: the gaps are exponential, not equal
    gaps = np.random.default_rng(1)
    due = time.monotonic()
    while not stop.is_set():
        due += float(gaps.exponential(1 / rate))
        if (pause := due - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(ask(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    client.close()
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(arguments: list[str]) -> None:
    import uvloop

    url, path, body, rate, out = arguments
    uvloop.run(run(url, path, Path(body).read_bytes(), float(rate), Path(out)))


if __name__ == "__main__":
    main(sys.argv[1:])
