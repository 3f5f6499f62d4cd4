"""What the chart renders: that it is understood by what it starts, bounded, replaced without a gap, and of one mind."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from manifests.generate import HERE, ROOT, documents, environment_values, render
from monitoring.analysis.__main__ import _parser
from serving.release.cluster.serving_options import loads
from serving.release.cluster.serving_runtime import NAMES as NAMES_OF_RUNTIMES
from tests.cluster.charts import EVERYTHING, SOURCES, pods
from tests.cluster.tools.build import BUILD_S
from windlass.cli import app
from windlass.operator import settings

pytestmark = pytest.mark.timeout(2 * BUILD_S)


@pytest.mark.parametrize("name", SOURCES)
def test_the_operator_understands_what_it_is_given(name: str) -> None:
    """Verify that its settings and serving options are read, and mean what the chart says."""
    found = documents(render(*SOURCES[name]))
    (operator,) = (d for k, d in found.items() if (k.kind, k.name) == ("Deployment", "windlass-operator"))
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value", "x") for e in container["env"]} | {"POD_NAMESPACE": "windlass"}
    given = {k: v.replace("$(POD_NAMESPACE)", "windlass") for k, v in env.items()}
    read = settings.load(given)
    assert read.namespaces == ("windlass",) and read.port == container["ports"][0]["containerPort"]
    assert (read.gateway.namespace, read.gateway.name) == ("windlass", "windlass")
    assert read.collector_url == "http://windlass-collector:8088"
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    served = loads(options["data"]["serving.yaml"])
    accounts = {k.name for k in found if k.kind == "ServiceAccount"}
    assert served.service_account in accounts
    assert served.payload is not None and served.payload.url == "http://windlass-collector:8088/"
    if name == "everything":
        assert served.of("flights").scaling.max_replicas == 12
        assert served.online is not None and served.image_pull_secrets == ("pull",)


@pytest.mark.parametrize(
    ("stated", "asked", "namespace"),
    [
        pytest.param([], None, None, id="none"),
        pytest.param(
            ["operator.collectorUrl=http://c:80"], "http://c:80", "windlass", id="of-this-namespace"
        ),
        pytest.param(
            ["operator.collectorUrl=http://c.data:80", "operator.collectorNamespace=data"],
            "http://c.data:80",
            "data",
            id="of-another",
        ),
    ],
)
def test_the_operator_reaches_the_collector_that_it_asks(
    stated: list[str], asked: str | None, namespace: str | None
) -> None:
    """Verify the address and the flows of one that the chart does not make, to which the model servers send as well."""
    found = documents(render(settings=["collector.enabled=false", *stated]))
    (operator,) = (d for k, d in found.items() if (k.kind, k.name) == ("Deployment", "windlass-operator"))
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env.get("WINDLASS_COLLECTOR_URL") == asked
    for part in ("operator", "models"):
        (policy,) = (d for k, d in found.items() if (k.kind, k.name) == ("NetworkPolicy", f"windlass-{part}"))
        reached = [
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in policy["spec"].get("egress") or ()
            for peer in rule["to"]
            if "namespaceSelector" in peer and {"protocol": "TCP", "port": 80} in rule["ports"]
        ]
        assert reached == ([] if namespace is None else [namespace]), part
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    payload = loads(options["data"]["serving.yaml"]).payload
    assert (None if payload is None else payload.url) == (None if asked is None else f"{asked}/")


def test_serverless_is_understood() -> None:
    """Verify that the component's options are ones that the operator takes, and its runtime one that the chart has."""
    found = documents(render(HERE / "components" / "serverless" / "values.yaml"))
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    served = loads(options["data"]["serving.yaml"])
    assert (served.mode, served.scaling.min_replicas) == ("Serverless", 0)
    assert NAMES_OF_RUNTIMES[served.mode] in {k.name for k in found if k.kind == "ClusterServingRuntime"}


@pytest.mark.parametrize(
    ("stated", "retried"),
    [
        pytest.param([], True, id="envoy-gateway"),
        pytest.param(["gateway.retries=0"], False, id="no-retries"),
        pytest.param(["gateway.className=istio"], False, id="a-class-of-another"),
        pytest.param(
            [
                "gateway.className=team",
                "gateway.createClass=true",
                "gateway.controllerName=istio.io/gateway-controller",
            ],
            False,
            id="a-controller-of-another",
        ),
        pytest.param(["gateway.className=team", "gateway.createClass=true"], True, id="a-class-that-is-made"),
        pytest.param(
            ["gateway.className=eg", "gateway.controllerName=gateway.envoyproxy.io/gatewayclass-controller"],
            True,
            id="a-class-of-another-name",
        ),
    ],
)
def test_only_envoy_gateways_gateways_have_its_policies(stated: list[str], retried: bool) -> None:
    """Verify that a cluster without Envoy Gateway's kinds can take the chart, and that a class has a controller."""
    found = documents(render(settings=["gateway.create=true", *stated]))
    assert any(k.kind == "Gateway" for k in found)
    assert any(k.kind == "BackendTrafficPolicy" for k in found) is retried
    kept = [d["spec"]["headers"]["requestID"] for k, d in found.items() if k.kind == "ClientTrafficPolicy"]
    assert kept == ["PreserveOrGenerate"] * (retried or "gateway.retries=0" in stated)
    made = [d["spec"]["controllerName"] for k, d in found.items() if k.kind == "GatewayClass"]
    assert all(each.partition("/")[2] for each in made) and len(made) == (
        "gateway.createClass=true" in stated
    )


@pytest.mark.parametrize("name", ["windlass-retrain", "windlass-analysis-flights"])
def test_the_trigger_and_analyses_are_told_their_namespace(name: str) -> None:
    """Verify the variable that the processes read: without it they would hear and count other teams' models."""
    (container,) = pods(render(*environment_values("prod")))[name]["spec"]["containers"]
    (stated,) = (e for e in container["env"] if e["name"] == "WINDLASS_NAMESPACE")
    assert stated["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


@pytest.mark.parametrize("name", SOURCES)
def test_no_secret_value_is_rendered(name: str) -> None:
    """Verify that Secrets are named, and the only one made is an address without a password."""
    for key, document in documents(render(*SOURCES[name], hooks=True)).items():
        if key.kind == "Secret":
            assert key.name == "windlass-online-store" and "@" not in document["stringData"]["url"]


def test_production_runs_images_by_digest() -> None:
    """Verify that no image of production is named by a tag."""
    text = render(*environment_values("prod"), hooks=True)
    images = re.findall(r"^\s*(?:- )?image: (\S+)$", text, re.MULTILINE)
    assert len(images) >= 7
    assert all(re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", image) for image in images), images


@pytest.mark.parametrize(
    ("repository", "image"),
    [
        pytest.param("team/operator", "mirror.example.com/team/operator:v1", id="without-registry"),
        pytest.param("ghcr.io/team/operator", "ghcr.io/team/operator:v1", id="with-registry"),
        pytest.param("localhost:5000/operator", "localhost:5000/operator:v1", id="with-port"),
    ],
)
def test_a_mirror_is_for_images_that_name_no_registry(repository: str, image: str) -> None:
    """Verify how an image is put together."""
    given = [
        f"operator.image.repository={repository}",
        "operator.image.tag=v1",
        "imageRegistry=mirror.example.com",
    ]
    text = render(settings=given)
    assert f"image: {image}\n" in text


@pytest.mark.parametrize("name", SOURCES)
def test_every_pod_is_bounded_and_may_do_little(name: str) -> None:
    """Verify requests and a memory limit, a read-only root, no capability, a numeric user, no token without need."""
    talks = {"windlass-operator", "windlass-retrain", "windlass-test"}
    for called, pod in pods(render(*SOURCES[name], hooks=True)).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is (called in talks), called
        assert spec["serviceAccountName"] != "default"
        assert spec["securityContext"]["runAsUser"] > 0
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), called
            assert "memory" in container["resources"]["limits"], called
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(":latest") and ":" in container["image"]


def test_one_writer_is_never_two_and_others_are_replaced_without_a_gap() -> None:
    """Verify the strategies: Recreate where a volume or a journal has one writer, no pod missing elsewhere."""
    found = documents(render(EVERYTHING))
    deployments = {
        k.name.removeprefix("windlass-"): d["spec"] for k, d in found.items() if k.kind == "Deployment"
    }
    replaced = {name for name, spec in deployments.items() if spec["strategy"]["type"] == "Recreate"}
    assert replaced == {"retrain", "redis"}
    for name in set(deployments) - replaced:
        assert deployments[name]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    sqlite = documents(render(settings=["mlflow.enabled=true", "mlflow.url="]))
    (spec,) = (d["spec"] for k, d in sqlite.items() if (k.kind, k.name) == ("Deployment", "windlass-mlflow"))
    assert spec["strategy"] == {"type": "Recreate"}


def test_new_options_start_new_operators() -> None:
    """Verify that a change of a ConfigMap which is read once changes the pods, and nothing else does."""

    def template(*given: str) -> Any:
        found = documents(render(settings=given))
        return next(d for k, d in found.items() if (k.kind, k.name) == ("Deployment", "windlass-operator"))[
            "spec"
        ]["template"]

    usual, other = template(), template("operator.serving.workers=2")
    assert usual == template("gateway.create=true")
    assert usual["metadata"]["annotations"] != other["metadata"]["annotations"]
    assert usual["spec"] == other["spec"]


def test_the_chart_brings_the_definitions_that_are_written() -> None:
    """Verify that they are those of manifests/crds, kept when the chart goes, and left out where another has them."""
    found = {k.name: d for k, d in documents(render()).items() if k.kind == "CustomResourceDefinition"}
    wanted = [yaml.safe_load(file.read_text()) for file in sorted((HERE / "crds").glob("*.yaml"))]
    wanted = [document for document in wanted if document["kind"] == "CustomResourceDefinition"]
    assert len(wanted) == len(found) == 3
    for document in wanted:
        annotated = copy.deepcopy(document)
        annotated["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
        assert found[document["metadata"]["name"]] == annotated
    second = ["crds.install=false", "priorityClasses.create=false", "servingRuntime.create=false"]
    namespaced = {k.namespace for k in documents(render(settings=second))}
    assert namespaced == {"windlass"}  # a second namespace touches nothing outside of it


def test_the_jobs_have_the_names_that_the_alerts_know() -> None:
    """Verify that Prometheus files the metrics under names that the rules ask for."""
    monitors = [
        d for k, d in documents(render(EVERYTHING)).items() if k.kind in ("ServiceMonitor", "PodMonitor")
    ]
    jobs = set()
    for monitor in monitors:
        endpoints = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        jobs |= {r["replacement"] for e in endpoints for r in e["relabelings"] if r["targetLabel"] == "job"}
    local = yaml.safe_load((ROOT / "monitoring/rules/prometheus.yml").read_text())
    assert jobs == {job["job_name"] for job in local["scrape_configs"]}


def test_the_metrics_of_the_analyses_are_served() -> None:
    """Verify that the pod's command is one that there is, and that it only reads."""
    spec = pods(render(EVERYTHING))["windlass-analysis-metrics"]["spec"]
    (container,) = spec["containers"]
    assert container["command"] == ["python3", "-m", "monitoring.analysis"]
    arguments = _parser().parse_args(container["args"])
    assert (arguments.serve, arguments.address) == (container["ports"][0]["containerPort"], "0.0.0.0")  # noqa: S104
    assert spec["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True


def test_features_are_kept_fresh_where_skew_is_looked_for() -> None:
    """Verify that rows are written into the collector's home, one run at a time, and each online store filled."""
    text = render(EVERYTHING)
    found, started = documents(text), pods(text)
    crons = {k.name: d for k, d in found.items() if k.kind == "CronJob" and "-materialize-" in k.name}
    assert set(crons) == {"windlass-materialize-flights", "windlass-materialize-payments"}
    (collector,) = started["windlass-collector"]["spec"]["containers"]
    (home,) = (v for v in started["windlass-collector"]["spec"]["volumes"] if v["name"] == "home")
    (server,) = (
        e for e in started["windlass-features"]["spec"]["containers"][0]["env"] if "REDIS" in e["name"]
    )
    for name, cron in crons.items():
        job, pod = cron["spec"]["jobTemplate"]["spec"], started[name]["spec"]
        assert cron["spec"]["concurrencyPolicy"] == "Forbid" and pod["restartPolicy"] == "Never"
        assert job["activeDeadlineSeconds"] < 3600 and home in pod["volumes"]
        assert pod["priorityClassName"] == "windlass-batch"
        # a volume that one node at a time may mount
        (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        chosen = term["labelSelector"]["matchLabels"].items()
        assert chosen <= started["windlass-collector"]["metadata"]["labels"].items()
        for container in (*pod["initContainers"], *pod["containers"]):
            assert server in container["env"] and collector["env"][0] in container["env"]
            assert collector["volumeMounts"][0] in container["volumeMounts"]
        (fills,) = pod["containers"]
        told = app.build_parser().parse_args([*fills["command"][3:], *fills["args"]])
        # where the feature server reads it
        assert told.registry == "s3://bucket/windlass/registry.db"
        assert told.stale_after == timedelta(**({"hours": 3} if told.workload == "flights" else {"days": 2}))


def test_a_workload_may_have_a_name_that_no_object_may() -> None:
    """Verify that jobs of `web_orders` have a name that Kubernetes takes, and ask for the workload by its own."""
    settings = [
        "redis.enabled=true",
        "analysis.workloads[0].name=web_orders",
        "analysis.workloads[0].schedule=@hourly",
    ]
    for key, value in {
        "name": "web_orders",
        "schedule": "@hourly",
        "staleAfter": "3h",
        "ownSource": "true",
    }.items():
        settings.append(f"features.workloads[0].{key}={value}")
    started = pods(render(settings=settings))
    for pod, told in {
        "windlass-analysis-web-orders": ["web_orders"],
        "windlass-materialize-web-orders": ["web_orders", "--own-source", "--json"],
    }.items():
        spec = started[pod]["spec"]
        assert (spec.get("initContainers") or spec["containers"])[0]["args"] == told
        assert started[pod]["metadata"]["labels"]["windlass.dev/workload"] == "web_orders"
    (build,) = started["windlass-materialize-web-orders"]["spec"]["initContainers"]
    assert app.build_parser().parse_args([*build["command"][3:], *build["args"]]).own_source


@pytest.mark.parametrize("name", ["kind", "dev"])
def test_the_sample_has_one_now(name: str) -> None:
    """Verify that its features are filled up to the time that its servers take for now: others would be expired."""
    found = documents(render(*environment_values(name)))
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    option, as_of = loads(options["data"]["serving.yaml"]).of("flights").arguments
    (cron,) = (d for k, d in found.items() if k.name == "windlass-materialize-flights")
    (fills,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    until = app.build_parser().parse_args([*fills["command"][3:], *fills["args"]]).until
    assert option == "--as-of" and datetime.fromisoformat(until).replace(tzinfo=UTC).timestamp() == float(
        as_of
    )


def test_with_a_volume_for_many_nodes_features_are_computed_on_any() -> None:
    """Verify that nothing binds the jobs to the collector's node then."""
    spec = pods(render(EVERYTHING, settings=["collector.volume.accessMode=ReadWriteMany"]))
    assert "affinity" not in spec["windlass-materialize-flights"]["spec"]


def test_every_service_and_policy_selects_pods_that_there_are() -> None:
    """Verify that no selector is a typing error: a Service without pods, a policy for nobody, a flow from nowhere."""
    text = render(EVERYTHING, hooks=True)
    labels = [pod["metadata"]["labels"] for pod in pods(text).values()]
    found = documents(text)
    selectors = [d["spec"]["selector"] for k, d in found.items() if k.kind == "Service"] + [
        d["spec"]["selector"]["matchLabels"] for k, d in found.items() if k.kind == "PodDisruptionBudget"
    ]
    for k, document in found.items():
        if k.kind != "NetworkPolicy":
            continue
        spec = document["spec"]
        peers = [p for r in spec.get("ingress", []) for p in r["from"]] + [
            p for r in spec.get("egress", []) for p in r.get("to", [])
        ]
        chosen = [spec["podSelector"], *(p["podSelector"] for p in peers if "podSelector" in p)]
        selectors += [c["matchLabels"] for c in chosen if "matchLabels" in c]
    selectors = [
        s for s in selectors if s.get("app.kubernetes.io/component") != "training"
    ]  # jobs of a person
    assert len(selectors) > 30
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
