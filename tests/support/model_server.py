"""The model server as a process, with both of its ports."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

WAIT_S = 180.0
TOKEN = "of-these-tests"  # noqa: S105 - nobody else's


@dataclass(frozen=True)
class Ports:
    """Where a server listens on 127.0.0.1; `errors` are its lines on stderr, so far."""

    http: int
    grpc: int
    errors: list[str]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Ports]:
    """Serve with `arguments`, and stop as an orchestrator would: by SIGTERM, and it must end well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.runtime", "--port", "0", "--grpc-port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WINDLASS_REPOSITORY_TOKEN": TOKEN},
    )
    errors: list[str] = []
    told: queue.Queue[tuple[str, int]] = queue.Queue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            errors.append(line)
            if found := re.match(r"serving .* on (http|grpc)://127\.0\.0\.1:(\d+)$", line):
                told.put((found[1], int(found[2])))
        told.put(("end", 0))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        ports = dict(told.get(timeout=WAIT_S) for _ in range(2))
        assert ports.keys() == {"http", "grpc"}, "".join(errors)
        yield Ports(ports["http"], ports["grpc"], errors)
        process.terminate()
        assert process.wait(WAIT_S) == 0, "".join(errors)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(10)
