"""Processes that want to lead, on a real API server: one is stopped, one ends in order, one is killed."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import LEASE
from serving.release.cluster.lease import NAME
from serving.release.cluster.store import ClusterStore
from tests.cluster import candidate
from tests.cluster.api_server import ApiServer
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROOT = Path(__file__).parents[2]
NAMESPACE = "lease"
#: On a machine that compiles beside it; nobody waits so long.
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    api_server.kubectl("create", "namespace", NAMESPACE)
    return api_server


@pytest.fixture
def api(server: ApiServer) -> KubernetesApi:
    return KubernetesApi.connect(server.kubeconfig)


class Candidate:
    """A running `candidate.py`, and the lines that it said."""

    def __init__(self, server: ApiServer, identity: str) -> None:
        self.identity = identity
        command = [sys.executable, "-m", "tests.cluster.candidate", server.kubeconfig, NAMESPACE, identity]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def until(self, beginning: str) -> str:
        """The next line that begins so."""
        until = time.monotonic() + PATIENCE_S
        while True:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            if line.startswith(beginning):
                return line

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start(server: ApiServer) -> Iterator[type]:
    started: list[Candidate] = []

    class Started(Candidate):
        def __init__(self, identity: str) -> None:
            super().__init__(server, identity)
            started.append(self)

    yield Started
    for each in started:
        each.process.kill()
        each.process.wait()


def test_the_lead_passes_on_and_the_journal_with_it(start: type[Candidate], api: KubernetesApi) -> None:
    """Verify that a stopped leader is followed and, woken, writes nothing more; and the two other ways to go."""
    one = start("one")
    assert one.until("leads") == "leads after 1 looks"
    two = start("two")
    assert two.until("looked") == "looked 1 one"
    one.until("appended 5")
    one.signal(signal.SIGSTOP)
    two.until("leads")
    two.until("appended")
    one.signal(signal.SIGCONT)
    one.until("overtaken")
    assert one.ended() == 3
    two.until("appended")  # and goes on

    two.signal(signal.SIGTERM)
    two.until("gave back")
    assert two.ended() == 0
    found = api.get(LEASE, NAMESPACE, NAME)
    assert found is not None and found["spec"]["holderIdentity"] == ""
    three = start("three")
    assert three.until("leads") == "leads after 1 looks"
    three.until("appended")

    four = start("four")
    assert four.until("looked") == "looked 1 three"
    three.signal(signal.SIGKILL)
    three.ended()
    left = api.get(LEASE, NAMESPACE, NAME)
    assert left is not None and left["spec"]["holderIdentity"] == "three"
    four.until("leads")
    four.until("appended")

    found = api.get(LEASE, NAMESPACE, NAME)
    assert found is not None and found["spec"]["holderIdentity"] == "four"
    # a dead one's time is waited out; all clocks are this machine's
    renewed = datetime.fromisoformat(left["spec"]["renewTime"])
    acquired = datetime.fromisoformat(found["spec"]["acquireTime"])
    assert (acquired - renewed).total_seconds() > candidate.DURATION_S - 0.1
    assert found["spec"]["leaseTransitions"] == 3
    records = list(ClusterStore(api, NAMESPACE, None).records(candidate.ENTRY))
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert list(dict.fromkeys(record["by"] for record in records)) == ["one", "two", "three", "four"]
    changes = sum(a["by"] != b["by"] for a, b in itertools.pairwise(records))
    assert changes == 3
