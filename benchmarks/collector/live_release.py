"""A live release whose evidence is asked for again and again while events come."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.collector import load

EVERY_S = 5.0
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
    """What became of the questions; `statuses` counts the answers, None stands for no answer."""

    statuses: dict[int | None, int]


@contextlib.contextmanager
def asking(port: int) -> Iterator[Asked]:
    """Ask for a release's evidence every few seconds."""
    found = Asked({})
    over = threading.Event()
    body = json.dumps(
        {"release": RELEASE, "champion": "1", "since": datetime.now(UTC).isoformat(timespec="seconds")}
    )

    def run() -> None:
        while not over.is_set():
            status = None
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                with contextlib.closing(connection):
                    connection.request("POST", "/v1/evidence", body)
                    answer = connection.getresponse()
                    status = answer.status
                    answer.read()
            found.statuses[status] = found.statuses.get(status, 0) + 1
            over.wait(EVERY_S)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
