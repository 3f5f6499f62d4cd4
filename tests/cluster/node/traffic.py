"""Callers of a model on the node: through the real gateway, all the time, every answer counted."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

#: A flight of the sample.
REQUEST = {
    "instances": [
        {
            "carrier": "UA",
            "origin": "EWR",
            "dest": "ORD",
            "tailnum": "N14228",
            "distance": 719,
            "hour": 8,
            "month": 3,
        }
    ]
}
VERSION = "x-windlass-version"


@dataclass
class Callers:
    """Some connections that ask one after the other until they are stopped.

    Attributes:
        pause_s: between two requests of a connection.
        every_s: from the beginning of one to that of the next, where the answer is there by then.
        answers: version -> answers of status 200.
        failed: what every failed request saw.
        failed_at: when each of them ended, by the monotonic clock.
        slowest_s: longest time of a request in seconds.
    """

    address: str
    port: int
    model: str
    connections: int = 4
    pause_s: float = 0.0
    every_s: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.connections)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def total(self) -> int:
        return sum(self.answers.values()) + len(self.failed)

    def wait_for(self, number: int, seconds: float) -> None:
        """Wait until `number` more requests were answered or failed."""
        aim, deadline = self.total + number, time.monotonic() + seconds
        while self.total < aim:
            assert time.monotonic() < deadline, f"{aim - self.total} of {number} requests are missing"
            time.sleep(0.05)

    def _ask(self) -> None:
        body = json.dumps(REQUEST).encode()
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/v1/models/{self.model}:predict", body, headers)
                answer = connection.getresponse()
                said = answer.read()
                version, status = answer.headers.get(VERSION, ""), answer.status
                if answer.headers.get("connection") == "close":
                    connection.close()
                    connection = None
                trouble = None if status == 200 else f"{status}: {said[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                connection, version, trouble = None, "", repr(error)
            with self._lock:
                ended = time.monotonic()
                self.slowest_s = max(self.slowest_s, ended - started)
                if trouble is None:
                    self.answers[version] += 1
                else:
                    self.failed.append(trouble)
                    self.failed_at.append(ended)
            pause = max(self.pause_s, started + self.every_s - time.monotonic())
            if pause > 0:
                self._stop.wait(pause)
