"""Users of a model on the node: each with a name of its own, who come again, and who tell the collector what came of
their requests."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serving.release.envoy.lua import BUCKET_HEADER
from serving.release.traffic import BUCKETS
from tests.cluster.node import team
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT
from tests.cluster.node.traffic import REQUEST, VERSION
from tests.cluster.tools.build import tool

UNIT = "x-user-id"
_REQUEST_ID = "x-request-id"
_TOLD_EVERY_S = 0.3


@contextmanager
def collector(node: Node) -> Iterator[int]:
    """The port of this machine that reaches the collector, as an administrator's `kubectl port-forward`."""
    command = [str(tool("kubectl")), "--kubeconfig", str(node.kubeconfig), "-n", team.NAMESPACE, "port-forward",
               "service/windlass-collector", ":8088"]  # fmt: skip
    with (node.logs / "port-forward.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:43567 -> 8088
        yield int(line.split(" -> ")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


@dataclass
class Users:
    """Asks through the gateway until it is left; a context manager.

    Two requests of three are of somebody new, each third of somebody who has asked before. All of them try to choose
    their version, by a bucket of their own invention.

    Attributes:
        collector: its port on this machine; what it does not take is sent again.
        earns: version -> chance that a request which it answered has a good end.
        answers: version -> answers of status 200.
        met: user -> versions that answered them.
        failed: what every failed request saw.
        untold: labels that the collector has not acknowledged, once the users are gone.
    """

    node: Node
    model: str
    collector: int
    earns: Mapping[str, float]
    connections: int = 4
    pause_s: float = 0.01
    answers: Counter[str] = field(default_factory=Counter)
    met: dict[str, set[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(7)
        self._number = 0
        self._labels: deque[dict[str, Any]] = deque()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._askers = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.connections)]
        self._asked = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Users:
        for thread in (*self._askers, self._teller):
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._askers:
            thread.join(60)
        self._asked.set()
        self._teller.join(60)

    @property
    def untold(self) -> int:
        return len(self._labels)

    def wait_for(self, number: int, seconds: float) -> None:
        """Wait until `number` more requests were answered."""
        aim, deadline = self.answers.total() + number, time.monotonic() + seconds
        while self.answers.total() < aim:
            assert time.monotonic() < deadline, (
                f"{aim - self.answers.total()} of {number} answers are missing"
            )
            time.sleep(0.05)

    def _next(self) -> tuple[str, str, bytes]:
        with self._lock:
            self._number += 1
            number = self._number
            user = self._rng.randrange(1, number + 1) if number % 3 == 0 else number
            invented = f"{self._rng.randrange(BUCKETS):04d}"
        flight = {**REQUEST["instances"][0], "hour": 5 + user % 18, "distance": 200 + user % 7 * 300}
        return f"user-{user}", invented, json.dumps({"instances": [flight]}).encode()

    def nobody_asks(self, number: int) -> Counter[str]:
        """Which versions answer requests that name no user, and do invent a bucket."""
        found: Counter[str] = Counter()
        connection = http.client.HTTPConnection(self.node.address, NODE_PORT, timeout=30)
        for _ in range(number):
            _, invented, body = self._next()
            headers = {"Content-Type": "application/json", BUCKET_HEADER: invented}
            connection.request("POST", f"/v1/models/{self.model}:predict", body, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            found[answer.headers[VERSION]] += 1
        connection.close()
        return found

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.wait(self.pause_s):
            user, invented, body = self._next()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.node.address, NODE_PORT, timeout=30)
                headers = {"Content-Type": "application/json", UNIT: user, BUCKET_HEADER: invented}
                connection.request("POST", f"/v1/models/{self.model}:predict", body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.headers.get("connection") == "close":
                    connection.close()
                    connection = None
                trouble = None if answer.status == 200 else f"{answer.status}: {said[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                connection, trouble = None, repr(error)
            with self._lock:
                if trouble is not None:
                    self.failed.append(trouble)
                    continue
                version = answer.headers[VERSION]
                self.answers[version] += 1
                self.met.setdefault(user, set()).add(version)
                label = int(self._rng.random() < self.earns[version])
            self._labels.append({"request_id": answer.headers[_REQUEST_ID], "label": label})

    def _tell(self) -> None:
        """What has gathered, the oldest first; once nobody asks any more, what is left, for a while."""
        deadline = None
        while True:
            over = self._asked.wait(_TOLD_EVERY_S)
            if over and deadline is None:
                deadline = time.monotonic() + 20
            labels = [self._labels[index] for index in range(min(len(self._labels), 1000))]
            if labels and self._taken(labels):
                for _ in labels:
                    self._labels.popleft()
            if deadline is not None and (not self._labels or time.monotonic() > deadline):
                return

    def _taken(self, labels: list[dict[str, Any]]) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.collector, timeout=10)
        try:
            connection.request("POST", "/feedback", json.dumps(labels), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        assert answer.status < 300 or answer.status >= 500, said
        return answer.status < 300
