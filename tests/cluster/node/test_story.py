"""The whole of it on a real node: installed by helm, trained in a Job, released through a real gateway, upgraded.

What is real: API server, controllers, kubelet, containerd, KServe 0.20's controller, Envoy Gateway, Prometheus,
MLflow's server, redis, and every image of ours built from its Dockerfile. What is not: network policies are not
enforced (the node's network has no such controller), and volumes are folders of the host.
"""

from __future__ import annotations

import json
import os
import platform as machine
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from scipy import stats

from monitoring.rules.programs import binary
from tests.cluster.node import platform, team
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT, apply_objects, wait
from tests.cluster.node.traffic import Callers

IMAGES = ("gateway", "operator", "redis", "serving", "training")
MODEL = "flights"
REQUESTS = 20_000
#: Outside of it one split in a thousand lies by chance.
SURE = 0.999
#: The end of the training rows: "now" of servers whose flights are of 2013.
AS_OF = 1364774400
pytestmark = [pytest.mark.node, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if machine.system() != "Linux" or os.geteuid() != 0:
        pytest.skip("a node needs Linux and root: namespaces, mounts and cgroups are its own")
    with Node(tmp_path_factory.mktemp("n"), IMAGES) as found:
        platform.install(found)
        team.prepare(found, binary("prometheus"))
        yield found


def get(node: Node, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        node.kubectl("-n", team.NAMESPACE, "get", kind, name, "-o", "json").stdout
    )
    return found


def release(node: Node, candidate: str, *, steps: list[dict[str, Any]]) -> str:
    """Apply a canary of `candidate`; returns the release's name."""
    name = f"{MODEL}-{candidate}"
    document = {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name, "namespace": team.NAMESPACE},
        "spec": {
            "model": MODEL,
            "candidate": candidate,
            "backend": "gateway",
            "gateway": {"name": "windlass", "namespace": team.NAMESPACE},
            "strategy": {"type": "canary", "steps": steps},
            "checks": [
                {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus",
                 "relativeToChampion": True, "alpha": 0.01},
                {"name": "p99", "kind": "guardrail", "metric": "latencyP99", "source": "prometheus",
                 "bound": "50ms", "relativeToChampion": True, "alpha": 0.01},
            ],
        },
    }  # fmt: skip
    apply_objects(node, document)
    return name


def phase(node: Node, name: str) -> str:
    return str(get(node, "release", name).get("status", {}).get("phase", ""))


def split(answers: dict[str, int], candidate: str, share: float) -> None:
    """Hold a split to the share that was decided, at 99.9 %."""
    total = sum(answers.values())
    low, high = stats.binom.interval(SURE, total, share)
    assert low <= answers.get(candidate, 0) <= high, (
        f"{answers} of {total}: not {share:.0%} ({low:.0f} to {high:.0f})"
    )


def test_the_story(node: Node) -> None:
    values = team.values(node, operator={"serving": {"arguments": ["--as-of", str(AS_OF)]}})
    team.install(node, values)
    print(node.helm("test", "windlass", "--namespace", team.NAMESPACE, "--timeout", "5m"))

    champion = team.train(node, "train-one", "2013-01-01", "2013-02-20")
    candidate = team.train(node, "train-two", "2013-01-01", "2013-03-15")
    assert (champion, candidate) == ("1", "2")

    first = release(node, candidate, steps=[
        {"weight": 10, "minSamples": 200, "minDuration": "10m"}, {"weight": 50, "minSamples": 200},
    ])  # fmt: skip
    wait(lambda: phase(node, first) == "Progressing", "the release begins", 300)
    callers = Callers(node.address, NODE_PORT, MODEL)
    with callers:
        callers.wait_for(200, 120)
        before = dict(callers.answers)
        callers.wait_for(REQUESTS, 900)
        now = {version: n - before.get(version, 0) for version, n in callers.answers.items()}
    assert not callers.failed, callers.failed[:5]
    split(now, candidate, 0.10)
    print(yaml.safe_dump(get(node, "release", first)["status"]))
