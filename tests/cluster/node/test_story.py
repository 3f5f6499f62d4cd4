"""The whole of it on a real node: installed by helm, trained in a Job, released through a real gateway, upgraded.

What is real: API server, controllers, kubelet, containerd, KServe 0.20's controller, Envoy Gateway, Prometheus,
MLflow's server, redis, and every image of ours built from its Dockerfile. What is not: network policies are not
enforced (the node's network has no such controller), and volumes are folders of the host.
"""

from __future__ import annotations

import json
import os
import platform as machine
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from monitoring.rules.programs import binary
from tests.cluster.node import platform, team
from tests.cluster.node.images import ROOT
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT, apply_objects, wait
from tests.cluster.node.traffic import Callers

IMAGES = ("gateway", "operator", "redis", "serving", "training")
MODEL = "flights"
REQUESTS = 20_000
#: Outside of it one split in a thousand lies by chance.
SURE = 0.999
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


def release(node: Node, candidate: str, steps: list[dict[str, Any]]) -> str:
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


def condition(node: Node, kind: str, name: str, which: str) -> dict[str, Any]:
    """A condition of an object; of status Unknown where it has none."""
    found: list[dict[str, Any]] = get(node, kind, name).get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == which), {"status": "Unknown"})


def phase(node: Node, name: str) -> str:
    return str(get(node, "release", name).get("status", {}).get("phase", ""))


def split(answers: Counter[str], candidate: str, share: float) -> None:
    """Hold a split to the share that was decided, at 99.9 %."""
    low, high = stats.binom.interval(SURE, answers.total(), share)
    assert low <= answers[candidate] <= high, f"{answers}: not {share:.0%} ({low:.0f} to {high:.0f})"


def champion(node: Node) -> str:
    """Who holds the alias, as MLflow's server says."""
    words = "http://localhost:5000/api/2.0/mlflow/registered-models/alias?name=flights&alias=champion"
    code = f"import urllib.request as u; print(u.urlopen({words!r}).read().decode())"
    done = node.kubectl("-n", team.NAMESPACE, "exec", "deploy/windlass-mlflow", "--", "python3", "-c", code)
    return str(json.loads(done.stdout)["model_version"]["version"])


def leader(node: Node) -> str:
    """The pod of the operator that leads."""
    return str(get(node, "lease", "windlass-operator")["spec"]["holderIdentity"]).rpartition("_")[0]


def test_the_story(node: Node) -> None:
    # two cores are all there is, and what is asked for and not used keeps others out
    serving = {"resources": {"cpu": "50m"}}
    values = team.values(node, operator={"serving": serving, "resources": {"requests": {"cpu": "20m"}}})
    team.install(node, values)
    node.helm("test", "windlass", "--namespace", team.NAMESPACE, "--timeout", "5m")
    first = team.train(node, "train-one", "2013-01-01", "2013-02-20")
    good = team.train(node, "train-two", "2013-01-01", "2013-03-15")
    assert (first, good, champion(node)) == ("1", "2", "1")

    # a good version, while what carries it out is killed and replaced
    name = release(
        node,
        good,
        [{"weight": 10, "minSamples": 2000, "minDuration": "150s"}, {"weight": 50, "minSamples": 500}],
    )
    wait(lambda: phase(node, name) == "Progressing", "the release begins", 300)
    with team.Discovery(node), Callers(node.address, NODE_PORT, MODEL) as callers:
        callers.wait_for(500, 120)
        before = Counter(callers.answers)
        callers.wait_for(REQUESTS, 600)
        split(callers.answers - before, good, 0.10)
    assert not callers.failed, callers.failed[:5]

    with (
        team.Discovery(node),
        Callers(node.address, NODE_PORT, MODEL, connections=2, pause_s=0.01) as callers,
    ):
        for part in ("kubelet", "kube-apiserver"):
            node.do("kill", part=part)
            callers.wait_for(100, 60)
            node.do("start", part=part)
        node.kubectl("-n", team.NAMESPACE, "delete", "pod", leader(node), "--grace-period=0", "--force")
        team.install(node, values, "--set", "operator.podAnnotations.upgraded=once")
        wait(lambda: phase(node, name) in ("Promoted", "RolledBack"), "the release decides", 600)
        wait(lambda: champion(node) == good, "the registry follows", 60)
        before = Counter(callers.answers)
        callers.wait_for(300, 60)
        assert set(callers.answers - before) == {good}
    assert phase(node, name) == "Promoted", get(node, "release", name)["status"]
    assert not callers.failed, callers.failed[:5]

    # one that answers the same, and far too slowly
    slow = team.slow_version(node, "make-slow", MODEL, good)
    name = release(node, slow, [{"weight": 10, "minSamples": 2000, "minDuration": "1m"}])
    with (
        team.Discovery(node),
        # one caller: a second one's request would be refused rather than kept waiting, and that is another fault
        Callers(node.address, NODE_PORT, MODEL, connections=1, pause_s=0.005) as callers,
    ):
        wait(lambda: phase(node, name) in ("Promoted", "RolledBack"), "the release decides", 600)
        before = Counter(callers.answers)
        callers.wait_for(300, 60)
        assert set(callers.answers - before) == {good}
    assert phase(node, name) == "RolledBack", get(node, "release", name)["status"]
    assert "p99" in get(node, "release", name)["status"]["decision"]["reason"]
    assert champion(node) == good
    assert not callers.failed, callers.failed[:5]


def test_a_canary_that_kserve_gives_no_traffic_ends_as_an_error(node: Node, tmp_path: Path) -> None:
    """KServe 0.20 takes `spec.canary[]` and writes no weight: the backend reads back, and the release says so."""
    platform.kserve_gateway(node)
    options = tmp_path / "options.yaml"
    options.write_text(get(node, "configmap", "windlass-operator")["data"]["serving.yaml"])
    words = ["render", MODEL, "2", "--backend", "kserve", "--options", str(options)]
    done = subprocess.run(
        [sys.executable, "-m", "windlass", *words], capture_output=True, text=True, check=True
    )
    node.kubectl("-n", team.NAMESPACE, "apply", "--server-side", "-f", "-", given=done.stdout)
    wait(
        lambda: condition(node, "inferenceservice", MODEL, "Ready")["status"] == "True",
        "KServe serves it",
        300,
    )
    document = yaml.safe_load((ROOT / "manifests" / "samples" / "release-canary-kserve.yaml").read_text())
    name = "flights-kserve"
    document["metadata"] = {"name": name, "namespace": team.NAMESPACE}
    document["spec"] |= {"champion": "2", "candidate": "1"}
    apply_objects(node, document)
    wait(
        lambda: condition(node, "release", name, "Degraded")["status"] == "True",
        "the release is degraded",
        300,
    )
    told = condition(node, "release", name, "Degraded")
    assert "sends no traffic to the canary" in told["message"] and "KServe 0.20" in told["message"], told
    print(yaml.safe_dump(get(node, "release", name)["status"]))


#: What an administrator made before the chart came, what every namespace has, and what docs/helm.md says stays.
STAYS = {
    "configmap/kube-root-ca.crt",
    "configmap/windlass-verify-key",
    "secret/windlass-signing-key",
    "secret/windlass-retrain-token",
    "serviceaccount/default",
    "lease.coordination.k8s.io/windlass-operator",
}


def test_nothing_is_left_but_what_the_page_says(node: Node) -> None:
    """Uninstall as docs/helm.md tells, and look at every kind that there is."""
    ours = ("-l", "app.kubernetes.io/managed-by=windlass", "--timeout=180s")
    # KServe's word on the canary that it gave nothing is waited for to the end
    node.kubectl("-n", team.NAMESPACE, "delete", "releases", "--all", "--timeout=600s", timeout=700)
    node.kubectl("-n", team.NAMESPACE, "delete", "inferenceservices,httproutes", *ours)
    node.kubectl("-n", team.NAMESPACE, "delete", "jobs", "--all", "--timeout=180s")
    node.helm("uninstall", "windlass", "--namespace", team.NAMESPACE, "--wait", "--timeout", "5m")
    wait(
        lambda: not set(left(node)) - STAYS,
        lambda: f"the namespace is empty but for {sorted(STAYS)}: {left(node)}",
    )
    cluster = ("crd,clusterservingruntimes,priorityclasses", "-l", "app.kubernetes.io/part-of=windlass")
    assert not node.kubectl("get", *cluster, "-o", "name").stdout.split()


def left(node: Node) -> list[str]:
    """Every object of the namespace, but what tells of the past."""
    kinds = node.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").stdout.split()
    told = {"events", "events.events.k8s.io"}
    words = (",".join(sorted(set(kinds) - told)), "-o", "name", "--ignore-not-found")
    return node.kubectl("-n", team.NAMESPACE, "get", *words).stdout.split()
