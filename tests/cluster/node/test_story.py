"""One story on a real node: Windlass installed, flights trained in it, a good version promoted and a bad one rolled
back through a real gateway while all is upgraded, and uninstalled.

What is real: API server, controllers, kubelet, containerd, KServe 0.20's controller, Envoy Gateway, Prometheus,
MLflow's server, redis, every image of ours built from its Dockerfile, and NetworkPolicies, which are enforced from the
first step on. What is not: volumes are folders of the host.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from scipy import stats

from monitoring.rules.programs import binary
from tests.cluster.node import platform, team
from tests.cluster.node.flows import NAMED, Flows
from tests.cluster.node.images import ROOT, archive
from tests.cluster.node.node import TOOLS, Node
from tests.cluster.node.platform import NODE_PORT, apply_objects, wait
from tests.cluster.node.releases import (
    IMAGES,
    MODEL,
    apply_canary,
    champion,
    condition,
    get,
    leader,
    phase,
)  # fmt: skip
from tests.cluster.node.steps import Steps
from tests.cluster.node.traffic import Callers
from tests.cluster.tools.build import tool

REQUESTS, WEIGHT = 20_000, 10
#: Outside of it one split in a thousand lies by chance.
SURE = 0.999
#: More than the candidate answers, six standard deviations off, while the split is counted: the step lasts so long.
FIRST_STEP = {"weight": WEIGHT, "minSamples": REQUESTS * WEIGHT // 100 + 350}
#: More than one quiet caller asks while things are killed and the chart is upgraded and rolled back.
SECOND_STEP = {"weight": 50, "minSamples": 3000}
#: What an administrator made before the chart came, what every namespace has, and what docs/helm.md says stays.
STAYS = {
    "configmap/kube-root-ca.crt",
    "configmap/windlass-verify-key",
    "secret/windlass-signing-key",
    "secret/windlass-retrain-token",
    "serviceaccount/default",
    "lease.coordination.k8s.io/windlass-operator",
}
pytestmark = [pytest.mark.node, pytest.mark.timeout(3600)]


def test_the_story(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("n")
    step = Steps(folder / "steps.json")
    with step("programs and images are built"):
        for name in TOOLS:
            tool(name)
        for name in ("pause", *IMAGES):
            archive(name)
    with step("the whole story"), ExitStack() as stack:
        with step("the node starts"):
            node = stack.enter_context(Node(folder, IMAGES))
        _told(node, step)


def _told(node: Node, step: Steps) -> None:
    with step("Gateway API, Envoy Gateway, KServe"):
        platform.install(node)
        team.prepare(node, binary("prometheus"))
    with step("the last images are there"):
        node.wait_for_images()
    # two cores are all there is, and what is asked for and not used keeps others out; what KServe 0.20 never does is
    # waited for as long as a start may take
    serving = {"resources": {"cpu": "200m"}, "startSeconds": 45}
    values = team.values(node, operator={"serving": serving, "resources": {"requests": {"cpu": "20m"}}})
    with step("helm install"):
        team.install(node, values)
    with step("helm test"):
        node.helm("test", "windlass", "--namespace", team.NAMESPACE, "--timeout", "5m")
    with step("two versions trained"):
        first = team.train(node, "train-one", "2013-01-01", "2013-02-20")
        team.begin_features(node, "features-now", MODEL)
        good = team.train(node, "train-two", "2013-01-01", "2013-03-15")
        assert (first, good, champion(node)) == ("1", "2", "1")
    with step("features are fresh"):
        _features_are_kept_fresh(node)
    with team.Discovery(node):
        _a_good_version_is_promoted(node, step, values, good)
        _a_slow_version_is_rolled_back(node, step, good)
    _nothing_flows_but_what_a_policy_names(node, step, good)
    _a_canary_that_kserve_gives_no_traffic_ends_as_an_error(node, step)
    _nothing_is_left_but_what_the_page_says(node, step)


def _features_are_kept_fresh(node: Node) -> None:
    """By the chart's own job, beside the training: rows lie in the collector's volume, whose page says when."""
    built, filled = team.features(node, "features-now")
    assert min(built["rows"].values()) > 0 and filled["until"] == "2013-04-01T00:00:00+00:00"
    rows = {
        path.parent.name for path in (node.folder / "volumes").glob("*/features/offline/*/2013-03.parquet")
    }
    assert rows == set(filled["rows"]) and min(filled["rows"].values()) > 0
    page = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8088/metrics').read().decode())"
    collector = ("-n", team.NAMESPACE, "exec", "statefulset/windlass-collector", "--", "python3", "-c", page)
    assert (
        f'windlass_features_materialized_timestamp_seconds{{model="{MODEL}"}}'
        in node.kubectl(*collector).stdout
    )


def _a_good_version_is_promoted(node: Node, step: Steps, values: Path, good: str) -> None:
    """While what carries it out is killed and replaced."""
    with step("a release begins"):
        name = apply_canary(node, good, [FIRST_STEP, SECOND_STEP])
        wait(lambda: phase(node, name) == "Progressing", "the release begins", 300)
    with step(f"{REQUESTS} requests are split"), Callers(node.address, NODE_PORT, MODEL) as callers:
        callers.wait_for(500, 120)
        before = Counter(callers.answers)
        callers.wait_for(REQUESTS, 600)
        split(callers.answers - before, good, WEIGHT / 100)
    assert not callers.failed, callers.failed[:5]

    quiet = Callers(node.address, NODE_PORT, MODEL, connections=1, pause_s=0.02)
    with quiet:
        for part in ("kubelet", "kube-apiserver"):
            with step(f"{part} is killed"):
                node.do("kill", part=part)
                quiet.wait_for(100, 60)
                node.do("start", part=part)
        with step("the leading operator is killed, helm upgrade"):
            node.kubectl("-n", team.NAMESPACE, "delete", "pod", leader(node), "--grace-period=0", "--force")
            team.install(node, values, "--set", "operator.podAnnotations.upgraded=once")
        with step("helm rollback"):
            team.roll_back(node)
        assert phase(node, name) == "Progressing", get(node, "release", name)["status"]
    assert not quiet.failed, quiet.failed[:5]
    with step("the good version is promoted"), Callers(node.address, NODE_PORT, MODEL) as callers:
        wait(lambda: phase(node, name) in ("Promoted", "RolledBack"), "the release decides", 600)
        wait(lambda: champion(node) == good, "the registry follows", 60)
        before = Counter(callers.answers)
        callers.wait_for(300, 60)
        assert set(callers.answers - before) == {good}
    assert phase(node, name) == "Promoted", get(node, "release", name)["status"]
    assert not callers.failed, callers.failed[:5]


def _a_slow_version_is_rolled_back(node: Node, step: Steps, good: str) -> None:
    """It answers the same, and far too slowly."""
    with step("a slow version is made"):
        slow = team.slow_version(node, "make-slow", MODEL, good)
    name = apply_canary(node, slow, [{"weight": 10, "minSamples": 2000, "minDuration": "1m"}])
    with (
        step("the slow version is rolled back"),
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


def _nothing_flows_but_what_a_policy_names(node: Node, step: Steps, good: str) -> None:
    """From every kind of pod to every part, and to the machine that the node is on."""
    with step("nothing flows but what a policy names"), Flows(node, f"{MODEL}-{good}") as flows:
        assert flows.settled(NAMED) == NAMED
        with flows.everything_flows():
            # so that it is the policies alone that refuse the rest
            assert flows.settled(flows.all) == flows.all
        assert flows.settled(NAMED) == NAMED


def _a_canary_that_kserve_gives_no_traffic_ends_as_an_error(node: Node, step: Steps) -> None:
    """KServe 0.20 takes `spec.canary[]` and writes no weight: the backend reads back, and the release says so."""
    with step("KServe serves by itself"):
        platform.kserve_gateway(node)
        options = node.folder / "options.yaml"
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
    with step("a canary without traffic is an error"):
        apply_objects(node, document)
        wait(
            lambda: condition(node, "release", name, "Degraded")["status"] == "True",
            "the release is degraded",
            300,
        )
        told = condition(node, "release", name, "Degraded")
        assert "sends no traffic to the canary" in told["message"] and "KServe 0.20" in told["message"], told


def _nothing_is_left_but_what_the_page_says(node: Node, step: Steps) -> None:
    """Uninstall as docs/helm.md tells, and look at every kind that there is."""
    ours = ("-l", "app.kubernetes.io/managed-by=windlass", "--timeout=180s")
    # KServe's word on the canary that it gave nothing is waited for to the end
    with step("releases are deleted"):
        node.kubectl("-n", team.NAMESPACE, "delete", "releases", "--all", "--timeout=600s", timeout=700)
    with step("what served is deleted"):
        node.kubectl("-n", team.NAMESPACE, "delete", "inferenceservices,httproutes", *ours)
        node.kubectl("-n", team.NAMESPACE, "delete", "jobs", "--all", "--timeout=180s")
    with step("helm uninstall"):
        node.helm("uninstall", "windlass", "--namespace", team.NAMESPACE, "--wait", "--timeout", "5m")
        wait(
            lambda: not set(left(node)) - STAYS,
            lambda: f"the namespace is empty but for {sorted(STAYS)}: {left(node)}",
        )
    cluster = ("crd,clusterservingruntimes,priorityclasses", "-l", "app.kubernetes.io/part-of=windlass")
    assert not node.kubectl("get", *cluster, "-o", "name").stdout.split()


def split(answers: Counter[str], candidate: str, share: float) -> None:
    """Hold a split to the share that was decided, at 99.9 %."""
    low, high = stats.binom.interval(SURE, answers.total(), share)
    assert low <= answers[candidate] <= high, f"{answers}: not {share:.0%} ({low:.0f} to {high:.0f})"


def left(node: Node) -> list[str]:
    """Every object of the namespace, but what tells of the past."""
    kinds = node.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").stdout.split()
    told = {"events", "events.events.k8s.io"}
    words = (",".join(sorted(set(kinds) - told)), "-o", "name", "--ignore-not-found")
    return node.kubectl("-n", team.NAMESPACE, "get", *words).stdout.split()
