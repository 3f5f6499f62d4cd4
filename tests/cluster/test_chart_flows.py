"""The chart's NetworkPolicies under other values than the environments': every pod has its way, and no wider one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import ROOT, documents, render
from pipelines.compile import COMPILED, FILE
from tests.cluster.charts import EVERYTHING, SOURCES, matches, pods
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

SAMPLES = ROOT / "manifests" / "samples" / "kserve"
FOR_ALL = {"windlass-default-deny", "windlass-dns"}
EXTERNAL = {("0.0.0.0/0", 443), ("::/0", 443)}
PARTS = ("operator", "collector", "analysis", "retrain")


def policies(text: str) -> dict[str, dict[str, Any]]:
    return {k.name: d["spec"] for k, d in documents(text).items() if k.kind == "NetworkPolicy"}


def selecting(text: str, labels: dict[str, str]) -> set[str]:
    """Names of the policies that are for a pod and not for all."""
    return {name for name, spec in policies(text).items() if matches(spec["podSelector"], labels)} - FOR_ALL


def ranges(rules: list[dict[str, Any]], direction: str) -> set[tuple[str, int]]:
    """Address ranges and ports that rules let through."""
    return {
        (peer["ipBlock"]["cidr"], port["port"])
        for rule in rules
        for peer in rule[direction]
        if "ipBlock" in peer
        for port in rule["ports"]
    }


def asked(text: str, name: str) -> set[tuple[str, int]]:
    return ranges(policies(text)[name].get("egress", []), "to")


def asking(text: str, name: str) -> set[tuple[str, int]]:
    return ranges(policies(text)[name].get("ingress", []), "from")


@pytest.mark.parametrize("off", [(), *((part,) for part in PARTS), PARTS], ids=["none", *PARTS, "all"])
def test_every_pod_has_a_policy_whatever_is_switched_off(off: tuple[str, ...]) -> None:
    """Verify that none is left with names alone, `helm test`'s among them, which may ask each part that there is."""
    switched = [f"{part}.enabled=false" for part in off]
    text = render(hooks=True, settings=[*switched, "mlflow.enabled=true", "mlflow.url="])
    started = pods(text)
    for name, pod in started.items():
        assert selecting(text, pod["metadata"]["labels"]), name
    (rule,) = (r for r in policies(text)["windlass-test"]["egress"] if "podSelector" in r["to"][0])
    tested = started["windlass-test"]["metadata"]["labels"]
    addresses = [
        word.partition("http://")[2].partition("/")[0].split(":")
        for word in started["windlass-test"]["spec"]["containers"][0]["args"]
        if word.startswith("--answers=")
    ]
    assert len(addresses) == 4 - len(
        set(off) & {"operator", "collector", "retrain"}
    )  # nobody asks an analysis
    for name, port in addresses:
        labels = started[name]["metadata"]["labels"]
        assert matches(rule["to"][0]["podSelector"], labels)
        assert int(port) in {p["port"] for p in rule["ports"]}
        (own,) = selecting(text, labels)
        peers = [
            p["podSelector"]
            for r in policies(text)[own]["ingress"]
            if int(port) in {q["port"] for q in r["ports"]}
            for p in r["from"]
            if "podSelector" in p
        ]
        assert any(matches(peer, tested) for peer in peers), name
    # it tries a Release where there is an operator, and has nothing to ask the API server elsewhere
    assert bool(asked(text, "windlass-test")) is ("operator" not in off)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param([], set(), id="volume"),
        pytest.param(["operator.serving.storage=s3://b/{model}/{version}"], EXTERNAL, id="object-store"),
        pytest.param(
            ["operator.serving.models.big.storage=s3://b/{model}/{version}"], EXTERNAL, id="one-model"
        ),
        pytest.param(["operator.serving.models.big.workers=2"], set(), id="one-model-elsewise"),
        pytest.param(["operator.enabled=false", "models.volume.name="], set(), id="nobody-says"),
        pytest.param(["objectStore.url=s3://b/data"], EXTERNAL, id="object-store-of-data"),
    ],
)
def test_model_servers_reach_what_bundles_lie_on(settings: list[str], expected: set[Any]) -> None:
    """Verify that one model's storage counts as that of all does, and that a volume needs no way out."""
    given = [*settings, "networkPolicies.external.ports={443}"]
    assert asked(render(settings=given), "windlass-models") == expected


OUTSIDE = ("10.1.0.7/32", "fd00:1::/64")


@pytest.mark.parametrize(
    ("value", "port", "asks", "answers"),
    [
        pytest.param(
            "prometheus", 9090, {"operator", "analysis"},
            {"models", "operator", "collector", "retrain"}, id="prometheus",
        ),
        pytest.param("mlflow", 5000, {"operator", "retrain", "training"}, set(), id="mlflow"),
        pytest.param("kubeflow", 8888, {"retrain"}, {"retrain"}, id="kubeflow"),
        pytest.param("networkPolicies.dns", 53, {"dns"}, set(), id="dns"),
    ],
)  # fmt: skip
def test_what_is_outside_of_the_cluster_is_named_by_its_addresses(
    value: str, port: int, asks: set[str], answers: set[str]
) -> None:
    """Verify that each part which may ask the namespace may ask the addresses, and nobody else."""
    text, usual = render(settings=[f"{value}.cidrs={{{','.join(OUTSIDE)}}}"]), render()
    wanted = {(cidr, port) for cidr in OUTSIDE}
    for name in policies(usual):
        short = name.removeprefix("windlass-")
        more = asked(text, name) - asked(usual, name)
        assert more == (wanted if short in asks else set()), name
        entering = asking(text, name) - asking(usual, name)
        assert {cidr for cidr, _ in entering} == (set(OUTSIDE) if short in answers else set()), name


#: What Kubeflow Pipelines and Argo put on the pods of a run.
DRIVER = {"workflows.argoproj.io/workflow": "training-x7", "pipelines.kubeflow.org/v2_component": "true"}
KUBEFLOW = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}


def step(name: str) -> dict[str, str]:
    """The labels of a step's pod, as the kept pipeline states them."""
    (_, platform) = yaml.safe_load_all((COMPILED / FILE).read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels: dict[str, str] = executors[f"exec-{name}"]["podMetadata"]["labels"]
    return DRIVER | labels


def test_pods_of_runs_in_this_namespace_have_their_way_and_no_wider_one() -> None:
    """Verify drivers, steps and the exit task by the labels that they have, where production runs them."""
    text = render(*SOURCES["prod"])
    assert selecting(text, DRIVER) == {"windlass-runs"}
    assert selecting(text, step("register")) == {"windlass-runs", "windlass-training"}
    assert selecting(text, step("report")) == {"windlass-runs", "windlass-training", "windlass-report"}
    found = policies(text)
    of_kubeflow = [r for r in found["windlass-runs"]["egress"] if KUBEFLOW in r["to"]]
    assert [{p["port"] for p in r["ports"]} for r in of_kubeflow] == [{8887, 8888, 8080, 9000, 8333}]
    assert {port for _, port in asked(text, "windlass-runs")} == {443, 6443}  # the API server
    (told,) = found["windlass-report"]["egress"]
    trigger = pods(text)["windlass-retrain"]["metadata"]["labels"]
    assert [matches(peer["podSelector"], trigger) for peer in told["to"]] == [True]
    # a pod that is nobody's is let in nowhere because runs are in its namespace
    stranger = {"app": "anything"}
    for name, policy in found.items():
        peers = [peer for rule in policy.get("ingress", []) for peer in rule["from"]]
        assert not any("podSelector" in p and matches(p["podSelector"], stranger) for p in peers), name
        here = {"matchLabels": {"kubernetes.io/metadata.name": "windlass"}}
        assert not any(p.get("namespaceSelector") == here for p in peers), name
    (enters,) = found["windlass-retrain"]["ingress"]
    assert any("podSelector" in p and matches(p["podSelector"], step("report")) for p in enters["from"])


def test_runs_in_another_namespace_are_let_in_from_there() -> None:
    text = render(*SOURCES["prod"], settings=["kubeflow.runNamespace=team-a-runs"])
    assert not {"windlass-runs", "windlass-report"} & set(policies(text))
    (enters,) = policies(text)["windlass-retrain"]["ingress"]
    there = {"matchLabels": {"kubernetes.io/metadata.name": "team-a-runs"}}
    assert {"namespaceSelector": there} in enters["from"]


@pytest.mark.parametrize("cidr", ["::/0", "fd00::/8", "10.96.0.1/32"])
def test_the_api_server_may_have_an_address_of_either_family(cidr: str, tmp_path: Path) -> None:
    """Verify that a range is a text in YAML too, which `::/0` would not be, and that by default both are open."""
    assert {found for found, _ in asked(render(), "windlass-operator")} == {"0.0.0.0/0", "::/0"}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump({"networkPolicies": {"apiServer": {"cidrs": [cidr]}}}))
    text = render(file)
    for name in ("windlass-operator", "windlass-retrain"):
        assert {found for found, port in asked(text, name) if port == 6443} == {cidr}


@pytest.mark.parametrize("name", SOURCES)
def test_a_scoring_jobs_pod_reaches_the_features(name: str) -> None:
    """Verify that the sample's pod is one of those that train or score, and may ask the online store."""
    job = yaml.safe_load((SAMPLES / "batch.yaml").read_text())
    labels = job["spec"]["template"]["metadata"]["labels"]
    text = render(*SOURCES[name])
    assert selecting(text, labels) == {"windlass-training"}
    ports = {p["port"] for r in policies(text)["windlass-training"].get("egress", []) for p in r["ports"]}
    assert (6379 in ports) is (name != "default")  # which has no online store


def test_a_graphs_router_is_asked_and_asks_models() -> None:
    """Verify the sample's policy against the pods that KServe makes: with the graph's labels and one more."""
    graph, policy = yaml.safe_load_all((SAMPLES / "graph.yaml").read_text())
    name = graph["metadata"]["name"]
    router = graph["metadata"]["labels"] | {"serving.kserve.io/inferencegraph": name}
    server = {"serving.kserve.io/inferenceservice": "flights-12"}
    assert matches(policy["spec"]["podSelector"], router)
    (asks,) = policy["spec"]["egress"]
    assert [matches(peer["podSelector"], server) for peer in asks["to"]] == [True]
    models = policies(render(EVERYTHING))["windlass-models"]
    assert matches(models["podSelector"], server) and not matches(models["podSelector"], router)
    (asked_by,) = models["ingress"]
    assert any(matches(p["podSelector"], router) for p in asked_by["from"] if "podSelector" in p)
    assert {p["port"] for p in asks["ports"]} <= {p["port"] for p in asked_by["ports"]}
    (enters,) = policy["spec"]["ingress"]
    gateway = {"matchLabels": {"kubernetes.io/metadata.name": "envoy-gateway-system"}}
    assert {"namespaceSelector": gateway} in enters["from"]
