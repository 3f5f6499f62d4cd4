"""Where the chart's pods run and what is replaced how: on several nodes no volume keeps a pod from starting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import documents, render
from tests.cluster.charts import EVERYTHING, SOURCES, matches, pods
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
MLFLOW = ("mlflow.enabled=true", "mlflow.url=")
DATABASE = (*MLFLOW, "mlflow.databaseSecret=database")
NO_COLLECTOR = ("collector.enabled=false", "analysis.metrics=true")
#: Values under which pods that are replaced or run at the same time share a volume, or used to.
SHARING: dict[str, tuple[str, ...]] = {
    "sqlite": MLFLOW,
    "database": DATABASE,
    "database-volume-of-many": (*DATABASE, "mlflow.volume.accessMode=ReadWriteMany"),
    "database-own-claim": (*DATABASE, "mlflow.volume.existingClaim=artifacts"),
    "database-and-object-store": (*DATABASE, "objectStore.url=s3://bucket/data"),
    "no-collector": NO_COLLECTOR,
    "no-collector-volume-of-many": (*NO_COLLECTOR, "collector.volume.accessMode=ReadWriteMany"),
    "analyses-served": ("analysis.metrics=true",),
}


def claims(pod: Mapping[str, Any]) -> set[str]:
    volumes = pod["spec"].get("volumes", ())
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def together(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whom a pod demands on its own node."""
    terms = pod["spec"].get("affinity", {}).get("podAffinity", {}).get(REQUIRED, [])
    return [t["labelSelector"] for t in terms if t["topologyKey"] == "kubernetes.io/hostname"]


def anchored(pod: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], claim: str) -> bool:
    """Whether a pod that mounts a claim demands the node of one that has it: of a pod that mounts it as well."""
    having = {name for name, other in others.items() if claim in claims(other)}
    return any(
        having & {name for name, other in others.items() if matches(each, other["metadata"]["labels"])}
        for each in together(pod)
    )


def of_one_node(text: str) -> set[str]:
    """Claims that one node at a time may mount; one that is not made here is taken for such a one."""
    made = {
        k.name: d["spec"]["accessModes"]
        for k, d in documents(text).items()
        if k.kind == "PersistentVolumeClaim"
    }
    mounted: set[str] = set().union(*(claims(pod) for pod in pods(text).values()))
    return {name for name in mounted if made.get(name, ["ReadWriteOnce"]) != ["ReadWriteMany"]}


TEXTS = [
    *(pytest.param(files, (), id=name) for name, files in SOURCES.items()),
    *(pytest.param([], settings, id=name) for name, settings in SHARING.items()),
]


@pytest.mark.parametrize(("files", "settings"), TEXTS)
def test_no_pod_waits_for_the_volume_of_the_one_that_it_replaces(
    files: list[Path], settings: tuple[str, ...]
) -> None:
    """Verify that a Deployment which starts a new pod first shares a volume of one node only on that node."""
    text = render(*files, settings=settings)
    single, started = of_one_node(text), pods(text)
    deployments = {k.name: d["spec"] for k, d in documents(text).items() if k.kind == "Deployment"}
    assert len(deployments) >= 2
    for name, spec in deployments.items():
        if spec["strategy"]["type"] == "Recreate":
            continue
        for claim in claims(spec["template"]) & single:
            assert anchored(started[name], started, claim), (name, claim)


@pytest.mark.parametrize(("files", "settings"), TEXTS)
def test_whoever_mounts_the_collectors_store_goes_where_it_is(
    files: list[Path], settings: tuple[str, ...]
) -> None:
    """Verify that, with and without a collector, no two pods of different nodes want a store of one node."""
    text = render(*files, settings=settings)
    started, store = pods(text), "windlass-monitoring-home"
    readers = {n: p for n, p in started.items() if store in claims(p) and n != "windlass-collector"}
    assert readers
    for name, pod in readers.items():
        if store not in of_one_node(text):
            assert together(pod) == [], name
            continue
        (selector,) = together(pod)
        if (collector := started.get("windlass-collector")) is not None:
            assert matches(selector, collector["metadata"]["labels"]), name
        else:  # itself too: the first one would wait for somebody for ever
            assert all(matches(selector, each["metadata"]["labels"]) for each in readers.values()), name


@pytest.mark.parametrize("where", ["scheduling", "analysis", "collector"])
def test_an_affinity_of_ones_own_stands_beside_that_of_the_store(where: str, tmp_path: Path) -> None:
    """Verify that both are demanded: a pool of nodes does not part the analyses from the collector."""
    pool = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["ml"]}]}
    beside = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "cache"}}}
    stated = {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [pool]}},
        "podAffinity": {REQUIRED: [beside]},
        "podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": beside}]},
    }
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({where: {"affinity": stated}}))
    text, usual = pods(render(file)), pods(render())
    name = "windlass-collector" if where == "collector" else "windlass-analysis-flights"
    found, own = text[name]["spec"]["affinity"], usual[name]["spec"]["affinity"]["podAffinity"]
    assert found["nodeAffinity"] == stated["nodeAffinity"]
    assert found["podAntiAffinity"] == stated["podAntiAffinity"]
    assert found["podAffinity"] == own | {REQUIRED: [beside, *own.get(REQUIRED, [])]}
    operator = text["windlass-operator"]["spec"].get("affinity")
    assert operator == (stated if where == "scheduling" else None)


def test_the_collector_goes_back_to_whoever_has_its_store() -> None:
    """Verify that it likes the node of a pod that mounts it, and that a store of many nodes binds it to none."""
    started = pods(render(settings=["analysis.metrics=true"]))
    (term,) = started["windlass-collector"]["spec"]["affinity"]["podAffinity"][PREFERRED]
    chosen = {
        name
        for name, pod in started.items()
        if matches(term["podAffinityTerm"]["labelSelector"], pod["metadata"]["labels"])
    }
    assert chosen == {"windlass-analysis-flights", "windlass-analysis-metrics"}
    anywhere = pods(render(settings=["collector.volume.accessMode=ReadWriteMany"]))
    assert "affinity" not in anywhere["windlass-collector"]["spec"]


@pytest.mark.parametrize(
    ("settings", "mounted"),
    [
        pytest.param((), False, id="volume-of-one-node"),
        pytest.param(("models.volume.accessMode=ReadWriteMany",), True, id="volume-of-many"),
        pytest.param(("collector.mountModels=true",), True, id="one-node"),
        pytest.param(("collector.mountModels=true", "models.volume.create=false"), True, id="own-claim"),
        pytest.param(
            ("collector.mountModels=true", "models.volume.name=", "operator.serving.storage=s3://b/{model}"),
            False,
            id="no-volume",
        ),
    ],
)
def test_the_collector_does_not_wait_for_the_models_volume(settings: tuple[str, ...], mounted: bool) -> None:
    """Verify that what servers send to depends on no volume that a server on another node may have."""
    collector = pods(render(settings=settings))["windlass-collector"]
    assert claims(collector) == {"windlass-monitoring-home"} | ({"windlass-models"} if mounted else set())
    (container,) = collector["spec"]["containers"]
    read_only = [m for m in container["volumeMounts"] if m["name"] == "models"]
    assert [m.get("readOnly") for m in read_only] == ([True] if mounted else [])


def test_a_registry_with_database_and_object_store_has_no_volume() -> None:
    """Verify that nothing of it is kept on a node, so that it is replaced without a gap."""
    text = render(settings=SHARING["database-and-object-store"])
    assert not claims(pods(text)["windlass-mlflow"])
    assert not any(k.name == "windlass-mlflow-home" for k in documents(text))
    (container,) = pods(text)["windlass-mlflow"]["spec"]["containers"]
    assert {m["name"] for m in container["volumeMounts"]} == {"tmp"}
    assert "--artifacts-destination=s3://bucket/data/artifacts" in container["args"]
    for name in ("sqlite", "database"):
        assert claims(pods(render(settings=SHARING[name]))["windlass-mlflow"]) == {"windlass-mlflow-home"}


def test_everything_of_the_cluster_stays_when_the_chart_goes() -> None:
    """Verify that other namespaces keep what they stand on, and that nothing stays where that is said."""
    found = yaml.safe_load_all(render(EVERYTHING, settings=["gateway.createClass=true"]))
    cluster = [d for d in found if d and "namespace" not in d["metadata"]]
    kinds = {d["kind"] for d in cluster}
    assert kinds == {"CustomResourceDefinition", "PriorityClass", "ClusterServingRuntime", "GatewayClass"}
    for document in cluster:
        kept = document["metadata"]["annotations"]["helm.sh/resource-policy"]
        assert kept == "keep", document["metadata"]["name"]
    gone = ["crds.keep=false", "priorityClasses.keep=false", "servingRuntime.keep=false"]
    gone += [f"{part}.volume.keep=false" for part in ("models", "collector", "retrain")]
    assert "resource-policy" not in render(settings=gone)


@pytest.mark.parametrize("name", SOURCES)
def test_no_claim_waits_for_its_first_user(name: str) -> None:
    """Verify that every claim is mounted by a pod that runs from the beginning, and none is made for an object store.

    A class that binds claims at their first use would let `helm --wait` and Flux wait for a job's hour, and `--atomic`
    take the installation back.
    """
    text = render(*SOURCES[name])
    crons = {k.name for k in documents(text) if k.kind == "CronJob"}
    mounted = set().union(*(claims(pod) for called, pod in pods(text).items() if called not in crons))
    made = {k.name for k in documents(text) if k.kind == "PersistentVolumeClaim"}
    assert made and made <= mounted
    assert ("windlass-models" in made) is (name in ("default", "dev", "kind"))
