"""Ten minutes of things that go away, under a hundred requests a second: what failed, and how long it took to mend.

`make test-cluster-long`. There are two replicas of everything that a request passes, and no request may fail, but those
that a server was just answering when it was killed. Redis, the collector and the registry have one: a prediction does
not need them.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from monitoring.rules.programs import binary
from tests.cluster.node import platform, team
from tests.cluster.node.faults import Fault, Faults
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT, wait
from tests.cluster.node.releases import IMAGES, MODEL, apply_canary, champion, get, phase
from tests.cluster.node.traffic import Callers

MINUTES = 10
#: Eight connections that ask so often send a hundred requests a second.
CONNECTIONS, EVERY_S = 8, 0.08
#: What fails so long after a thing is whole again is still its fault.
_AFTERWARDS_S = 3.0
pytestmark = [pytest.mark.node_long, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Mended:
    """One fault that passed.

    Attributes:
        recovered_s: from its beginning until everything was Ready again.
        failed: requests that failed meanwhile.
        failing_s: from its beginning to the last of them; 0 where none failed.
    """

    fault: str
    recovered_s: float
    failed: int
    failing_s: float


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("n"), IMAGES) as found:
        platform.install(found)
        platform.two_proxies(found)
        team.prepare(found, binary("prometheus"))
        yield found


def test_what_goes_away_is_not_missed(node: Node, tmp_path: Path) -> None:
    # two of each version on two cores, beside all else
    serving = {"resources": {"cpu": "200m"}, "scaling": {"minReplicas": 2, "maxReplicas": 2}}
    team.install(node, team.values(node, operator={"serving": serving}))
    team.train(node, "train-one", "2013-01-01", "2013-02-20")
    good = team.train(node, "train-two", "2013-01-01", "2013-03-15")
    name = apply_canary(node, good, [{"weight": 50, "minSamples": 100}])
    draw = random.Random(7)
    mended: list[Mended] = []
    with team.Discovery(node):
        with Callers(node.address, NODE_PORT, MODEL, connections=2):
            wait(lambda: phase(node, name) == "Promoted", "the release is over", 600)
        wait(lambda: champion(node) == good, "the registry follows", 60)
        before = get(node, "release", name)["status"]
        faults = Faults(node, MODEL, good, draw).all()
        with Callers(node.address, NODE_PORT, MODEL, CONNECTIONS, every_s=EVERY_S) as callers:
            began = time.monotonic()
            while time.monotonic() < began + MINUTES * 60:
                # every kind in every round, so that none is left out by chance
                for fault in draw.sample(sorted(faults), len(faults)):
                    mended.append(one(callers, fault, faults[fault]))
                    print(mended[-1], flush=True)
            took = time.monotonic() - began
    report(callers, took, mended, faults, tmp_path / "faults.json")
    # what was under way on a server that is killed is gone, and is not sent again: it may have been logged
    lost = {one.fault for one in mended if one.failed > (CONNECTIONS if faults[one.fault].abrupt else 0)}
    assert not lost, (lost, Counter(callers.failed).most_common(5))
    assert set(callers.answers) == {good}
    assert get(node, "release", name)["status"] == before
    assert champion(node) == good


def one(callers: Callers, name: str, fault: Fault) -> Mended:
    """Let one thing go away, and wait until all is whole; what failed meanwhile is printed."""
    failed, began = len(callers.failed), time.monotonic()
    fault.act()
    wait(fault.whole, f"{name}: all is whole again", 240, every_s=0.5)
    recovered = time.monotonic() - began
    time.sleep(_AFTERWARDS_S)
    times = callers.failed_at[failed:]
    for text, number in Counter(callers.failed[failed:]).most_common(3):
        print(f"{number} times {text}", flush=True)
    return Mended(name, recovered, len(times), max(times) - began if times else 0.0)


def report(
    callers: Callers, took_s: float, mended: list[Mended], faults: Mapping[str, Fault], file: Path
) -> None:
    """Print a table of all faults, and write it with every single one into `file`."""
    lines = []
    for name, fault in faults.items():
        found = [one for one in mended if one.fault == name]
        times = [one.recovered_s for one in found]
        lines.append(
            {
                "fault": name,
                "replicas": fault.replicas,
                "times": len(found),
                "failed": sum(one.failed for one in found),
                "recovered_median_s": round(statistics.median(times), 1),
                "recovered_most_s": round(max(times), 1),
                "failing_most_s": round(max(one.failing_s for one in found), 1),
            }
        )
    whole = {
        "seconds": round(took_s),
        "requests": callers.total,
        "requests_a_second": round(callers.total / took_s, 1),
        "failed": len(callers.failed),
        "slowest_s": round(callers.slowest_s, 2),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
    file.write_text(json.dumps({**whole, "faults": lines, "each": [asdict(one) for one in mended]}, indent=1))
    print(f"\n{json.dumps(whole)}\n| {' | '.join(lines[0])} |\n|{'---|' * len(lines[0])}")
    for line in lines:
        print(f"| {' | '.join(map(str, line.values()))} |")
    print(f"{file}", flush=True)
