"""Ten minutes of things that go away, under a hundred requests a second: what failed, and how long it took to mend.

`make test-cluster-long`. Two replicas of everything that answers; the rest has one. What is told about each kind of
fault: how many requests failed while it was mended, and after how many seconds everything was Ready again.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from monitoring.rules.programs import binary
from tests.cluster.node import platform, team
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT, wait
from tests.cluster.node.test_story import IMAGES, MODEL, champion, leader, phase, release
from tests.cluster.node.traffic import Callers

MINUTES = 10
#: Eight connections that pause so long send about a hundred requests a second.
CONNECTIONS, PAUSE_S = 8, 0.075
#: Faults of what has two replicas: no request may fail.
REDUNDANT = ("model server", "gateway proxy", "operator", "redis", "storage")
pytestmark = [pytest.mark.node_long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("n"), IMAGES) as found:
        platform.install(found)
        platform.two_proxies(found)
        team.prepare(found, binary("prometheus"))
        yield found


def pods(node: Node, namespace: str, selector: str) -> list[str]:
    said = node.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json").stdout
    return [
        p["metadata"]["name"] for p in json.loads(said)["items"] if not p["metadata"].get("deletionTimestamp")
    ]


def ready(node: Node, namespace: str, selector: str, number: int) -> bool:
    said = node.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json").stdout
    conditions = [
        c["status"]
        for p in json.loads(said)["items"]
        if not p["metadata"].get("deletionTimestamp")
        for c in p["status"].get("conditions", ())
        if c["type"] == "Ready"
    ]
    return conditions.count("True") >= number


def test_what_goes_away_is_not_missed(node: Node) -> None:
    values = team.values(
        node,
        operator={"serving": {"resources": {"cpu": "50m"}, "scaling": {"minReplicas": 2, "maxReplicas": 2}}},
    )
    team.install(node, values)
    team.train(node, "train-one", "2013-01-01", "2013-02-20")
    good = team.train(node, "train-two", "2013-01-01", "2013-03-15")
    name = release(node, good, [{"weight": 50, "minSamples": 100}])
    models, proxies = (
        "serving.kserve.io/inferenceservice",
        "gateway.envoyproxy.io/owning-gateway-name=windlass",
    )
    system = platform.GATEWAY_NAMESPACE

    def delete(namespace: str, selector: str) -> None:
        node.kubectl(
            "-n", namespace, "delete", "pod", draw.choice(pods(node, namespace, selector)), "--wait=false"
        )

    def hide_storage() -> None:
        folder = next((node.folder / "volumes").glob("*/flights"))
        folder.rename(folder.with_name("away"))
        delete(team.NAMESPACE, f"{models}=flights-{good}")
        time.sleep(20)
        folder.with_name("away").rename(folder)

    part = "app.kubernetes.io/component"
    faults: dict[str, tuple[Callable[[], None], Callable[[], bool]]] = {
        "model server": (
            lambda: delete(team.NAMESPACE, f"{models}=flights-{good}"),
            lambda: ready(node, team.NAMESPACE, f"{models}=flights-{good}", 2),
        ),
        "gateway proxy": (lambda: delete(system, proxies), lambda: ready(node, system, proxies, 2)),
        "redis": (
            lambda: delete(team.NAMESPACE, f"{part}=redis"),
            lambda: ready(node, team.NAMESPACE, f"{part}=redis", 1),
        ),
        "operator": (
            lambda: (
                node.kubectl("-n", team.NAMESPACE, "delete", "pod", leader(node), "--wait=false") and None
            ),
            lambda: ready(node, team.NAMESPACE, f"{part}=operator", 2),
        ),
        "storage": (hide_storage, lambda: ready(node, team.NAMESPACE, f"{models}=flights-{good}", 2)),
    }
    draw = random.Random(7)
    failed: dict[str, int] = defaultdict(int)
    mended: dict[str, list[float]] = defaultdict(list)
    with team.Discovery(node):
        with Callers(node.address, NODE_PORT, MODEL, connections=2) as callers:
            wait(lambda: phase(node, name) == "Promoted", "the release is over", 600)
        wait(lambda: champion(node) == good, "the registry follows", 60)
        with Callers(node.address, NODE_PORT, MODEL, CONNECTIONS, PAUSE_S) as callers:
            end = time.monotonic() + MINUTES * 60
            while time.monotonic() < end:
                fault = draw.choice(sorted(faults))
                act, whole = faults[fault]
                before, began = len(callers.failed), time.monotonic()
                act()
                wait(whole, f"{fault} is whole again", 240)
                mended[fault].append(time.monotonic() - began)
                time.sleep(3)
                failed[fault] += len(callers.failed) - before
    rate = callers.total / (MINUTES * 60)
    print(f"\n{callers.total} requests, {rate:.0f} a second; slowest {callers.slowest_s:.2f} s")
    for fault, times in sorted(mended.items()):
        print(f"{fault}: {len(times)} times, {failed[fault]} failed, mended in {max(times):.0f} s at most")
    assert not any(failed[fault] for fault in REDUNDANT), callers.failed[:5]
