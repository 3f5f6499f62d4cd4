"""The load generator as the runner sees it: one process, one command at a time."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.serving.environments import python_of
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from benchmarks.serving.running import Running
    from benchmarks.serving.subject import Subject

ASK_S = 10.0
STEP_S = 5.0
TOLERANCE = 1e-4


class Generator:
    """Starts the process; `core` is where it is pinned to."""

    def __init__(self, rows: Path, core: int) -> None:
        self._process = subprocess.Popen(
            [str(python_of("floor")), "-m", "benchmarks.serving.load", str(rows), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def ready(self, running: Running, format: str, timeout_s: float) -> float:
        """When the first prediction was answered, by `time.monotonic`.

        Raises:
            WindlassError: none was in time, or the server ended.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # in short steps, since only we can see whether the server still lives
            answer = self._exchange(running, format, 1, do="ready", timeout_s=STEP_S)
            if "at" in answer:
                return float(answer["at"])
            if not running.child.alive() or time.monotonic() > deadline:
                raise _failed(running, format, answer["problem"])

    def check(self, running: Running, format: str, subject: Subject) -> None:
        """Hold an answer to XGBoost's own score of the row.

        Raises:
            WindlassError: they differ.
        """
        (score,) = self._command(running, format, 1, do="ask", timeout_s=ASK_S)["scores"]
        if running.server.module != "floor.constant" and abs(score - subject.scores[0]) > TOLERANCE:
            raise WindlassError(
                f"{running.server.name} answers {score} in {format} where the model says {subject.scores[0]}; "
                f"see its program, {running.server.module or 'serving.runtime'}"
            )

    def closed(
        self, running: Running, format: str, rows: int, concurrency: int, requests: int, seconds: float
    ) -> dict[str, Any]:
        """Run the closed loop; see `loops.summary` for what comes back."""
        return self._command(
            running, format, rows, do="closed", concurrency=concurrency, requests=requests, seconds=seconds
        )

    def open(
        self, running: Running, format: str, rows: int, rate: float, seconds: float, connections: int
    ) -> dict[str, Any]:
        """Run the open loop; see `loops.Open.run` for what comes back."""
        return self._command(
            running, format, rows, do="open", rate=rate, seconds=seconds, connections=connections
        )

    def _command(self, running: Running, format: str, rows: int, **command: Any) -> dict[str, Any]:
        answer = self._exchange(running, format, rows, **command)
        if "problem" in answer:
            raise _failed(running, format, answer["problem"])
        return answer

    def _exchange(self, running: Running, format: str, rows: int, **command: Any) -> dict[str, Any]:
        pipe = self._process.stdin, self._process.stdout
        assert pipe[0] is not None and pipe[1] is not None
        pipe[0].write(
            json.dumps({"port": running.port_of(format), "format": format, "rows": rows, **command}) + "\n"
        )
        pipe[0].flush()
        line = pipe[1].readline()
        if not line:
            raise RuntimeError("the load generator ended; its last words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _failed(running: Running, format: str, problem: str) -> WindlassError:
    name, log = running.server.name, running.child.tail()
    return WindlassError(f"{name} gives no prediction in {format}: {problem}; the end of its log:\n{log}")
