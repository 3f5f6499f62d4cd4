"""A live release whose evidence is asked for again and again while events come."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.collector import load

EVERY_S = 5.0
COMES_IN_S = 300.0
#: a canary with a reward: each prediction of both versions waits for one
RELEASE: dict[str, Any] = {
    "apiVersion": "windlass.dev/v1alpha1",
    "kind": "Release",
    "metadata": {"name": "bench"},
    "spec": {
        "model": load.MODEL,
        "champion": "1",
        "candidate": "2",
        "strategy": {"type": "canary", "steps": [{"weight": 50}]},
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2},
            {"name": "worth", "kind": "guardrail", "metric": "reward", "source": "feedback", "margin": 0.1},
        ],
    },
}


@dataclass
class Asked:
    """What became of the questions.

    Attributes:
        statuses: counts the answers; None stands for no answer.
        at: everything up to then is in the newest evidence, epoch seconds; 0 before there is any.
    """

    statuses: dict[int | None, int]
    at: float = 0.0

    def until(self, moment: float) -> None:
        """Wait until everything up to a moment is in the evidence.

        Raises:
            RuntimeError: that did not come.
        """
        deadline = time.monotonic() + COMES_IN_S
        while self.at < moment:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the evidence ends {moment - self.at:.0f} s before the last event")
            time.sleep(0.1)


@contextlib.contextmanager
def asking(port: int) -> Iterator[Asked]:
    """Ask for a release's evidence every few seconds."""
    found = Asked({})
    over = threading.Event()
    question = json.dumps(
        {"release": RELEASE, "champion": "1", "since": datetime.now(UTC).isoformat(timespec="seconds")}
    )

    def run() -> None:
        while not over.is_set():
            status = None
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                with contextlib.closing(connection):
                    connection.request("POST", "/v1/evidence", question)
                    answer = connection.getresponse()
                    status, body = answer.status, answer.read()
                    if status == 200:
                        found.at = datetime.fromisoformat(json.loads(body)["at"]).timestamp()
            found.statuses[status] = found.statuses.get(status, 0) + 1
            over.wait(EVERY_S)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
