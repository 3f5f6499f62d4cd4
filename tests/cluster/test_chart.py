"""The chart: what it refuses, what it renders, and that a real API server takes all of it under Pod Security."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import CHART, ENVIRONMENTS, HERE, ROOT, documents, environment_values, render
from monitoring.analysis.__main__ import _parser
from serving.release.cluster.serving_options import Scaling, ServingOptions, loads
from serving.release.cluster.serving_runtime import NAMES as NAMES_OF_RUNTIMES
from tests.cluster import go_modules
from tests.cluster.api_server import ApiServer
from tests.cluster.everything import EVERYTHING
from tests.cluster.tools.build import BUILD_S, module_dir, tool
from windlass.errors import WindlassError
from windlass.operator import settings

pytestmark = pytest.mark.timeout(2 * BUILD_S)

#: Kinds whose objects hold a pod's template, and where.
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [tool("helm"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("values") / "everything.yaml"
    file.write_text(yaml.safe_dump(EVERYTHING))
    return file


@pytest.fixture(scope="module")
def sources(everything: Path) -> dict[str, list[Path]]:
    """Values files by what they are called here."""
    return {"default": [], "everything": [everything]} | {
        name: environment_values(name) for name in ENVIRONMENTS
    }


NAMES = ("default", "everything", *ENVIRONMENTS)


def pods(text: str) -> dict[str, dict[str, Any]]:
    """The pods that a text's objects start, by the name of the object: metadata and spec."""
    found: dict[str, dict[str, Any]] = {}
    for document in documents(text).values():
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "Pod":
            found[name] = {"metadata": document["metadata"], "spec": document["spec"]}
        elif kind == "RayCluster":
            found[f"{name}-head"] = document["spec"]["headGroupSpec"]["template"]
            for group in document["spec"]["workerGroupSpecs"]:
                found[f"{name}-{group['groupName']}"] = group["template"]
        elif kind in TEMPLATES:
            template = document
            for part in TEMPLATES[kind]:
                template = template[part]
            found[name] = template
    return found


# --- values


@pytest.mark.parametrize("name", NAMES)
def test_lint_finds_nothing(sources: dict[str, list[Path]], name: str) -> None:
    """Verify that `helm lint --strict` is content with each values file."""
    values = [word for file in sources[name] for word in ("--values", file)]
    done = helm("lint", "--strict", CHART, *values)
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param("replicas=2", "'replicas' not allowed", id="unknown-at-the-top"),
        pytest.param(
            "operator.replica=2", "/operator': additional properties 'replica'", id="unknown-in-a-part"
        ),
        pytest.param("collector.volume.sice=1Gi", "'sice' not allowed", id="unknown-deep"),
        pytest.param("operator.image.name=a", "'name' not allowed", id="unknown-in-an-image"),
        pytest.param("operator.resources.request.cpu=1", "'request' not allowed", id="unknown-in-resources"),
        pytest.param("operator.serving.storag=s3://a", "'storag' not allowed", id="unknown-in-serving"),
        pytest.param(
            "operator.serving.models.flights.scalin=1", "'scalin' not allowed", id="unknown-of-a-model"
        ),
        pytest.param("operator.affinity.podAfinity=a", "'podAfinity' not allowed", id="unknown-in-affinity"),
        pytest.param("operator.replicas=two", "got string, want integer", id="text-for-a-number"),
        pytest.param("operator.replicas=0", "minimum: got 0, want 1", id="number-too-small"),
        pytest.param("operator.lookEvery=often", "'often' does not match pattern", id="no-duration"),
        pytest.param("collector.enabled=yes", "got string, want boolean", id="text-for-a-switch"),
        pytest.param("collector.volume.size=large", "'large' does not match pattern", id="no-quantity"),
        pytest.param("collector.volume.accessMode=ReadWriteTwice", "must be one of", id="no-access-mode"),
        pytest.param("imagePullSecrets=pull", "got string, want array", id="text-for-a-list"),
        pytest.param("operator.image.tag=latest", "'not' failed", id="latest"),
        pytest.param("operator.image.digest=abc", "'abc' does not match pattern", id="no-digest"),
        pytest.param("mlflow.url=mlflow:5000", "'mlflow:5000' does not match pattern", id="no-address"),
        pytest.param("analysis.workloads[0].name=flights", "missing property 'schedule'", id="missing"),
        pytest.param("models.verifyKey=secret", "does not match pattern", id="no-public-key"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(setting: str, said: str) -> None:
    """Verify that the schema knows every value by name and type, and says which one is wrong."""
    done = helm("template", "windlass", CHART, "--set", setting)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(["requireDigests=true"], "windlass/operator has no digest", id="tag-alone"),
        pytest.param(
            ["redis.enabled=true", "redis.passwordSecret=a"],
            "onlineStore.existingSecret must name a Secret",
            id="password-without-address",
        ),
        pytest.param(
            ["onlineStore.url=redis://:secret@redis:6379/0"],
            "onlineStore.url holds a password",
            id="secret-value",
        ),
        pytest.param(["featureServer.enabled=true"], "needs an online store", id="features-of-nowhere"),
        pytest.param(
            ["featureServer.enabled=true", "redis.enabled=true"],
            "needs featureServer.registry",
            id="no-registry",
        ),
        pytest.param(["models.volume.name="], "nobody says where bundles lie", id="no-storage"),
    ],
)
def test_values_that_contradict_each_other_are_refused(settings: list[str], said: str) -> None:
    """Verify that the message names the value and what to do."""
    with pytest.raises(WindlassError, match=re.escape(said)):
        render(settings=settings)


def _objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for name, under in schema.items():
            yield from _objects(under, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, under in enumerate(schema):
            yield from _objects(under, f"{path}/{index}")


def test_every_object_of_the_schema_is_closed() -> None:
    """Verify that nothing may stand anywhere that is not known; a map of names says what its values are."""
    found = dict(_objects(SCHEMA))
    assert len(found) > 60
    for path, schema in found.items():
        if path == "/properties/global":  # helm's own
            assert schema["maxProperties"] == 0
            continue
        closed = schema.get("additionalProperties")
        assert closed is False or (isinstance(closed, dict) and "propertyNames" in schema), path


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _compared(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    known = _resolved(schema).get("properties")
    if known is None:
        return
    for name, value in values.items():
        assert name in known, f"{path}.{name} is not in the schema"
        if isinstance(value, dict):
            _compared(value, known[name], f"{path}.{name}")
    # what a container or affinity may say is Kubernetes', and has no default here
    optional = (
        {"requests", "limits"} | set(_serving_names(ServingOptions)) | {"podAffinity", "podAntiAffinity"}
    )
    optional |= {"nodeAffinity"}
    assert {*known} - {*values} <= optional | ({"global"} if not path else set()), path


def test_schema_and_values_know_the_same_names() -> None:
    """Verify that a value with a default is in the schema, and the other way round."""
    _compared(VALUES, SCHEMA, "")


def _serving_names(kind: Any) -> dict[str, str]:
    def camel(name: str) -> str:
        first, *others = name.split("_")
        return first + "".join(map(str.title, others))

    return {camel(field.name): field.name for field in dataclasses.fields(kind)}


def test_the_schema_knows_how_versions_are_served() -> None:
    """Verify that what the operator reads of ServingOptions is what the chart lets through."""
    known = SCHEMA["properties"]["operator"]["properties"]["serving"]["properties"]
    assert set(known) == set(_serving_names(ServingOptions))
    assert set(known["scaling"]["properties"]) == set(_serving_names(Scaling))


# --- what is rendered


@pytest.mark.parametrize("name", NAMES)
def test_the_operator_understands_what_it_is_given(sources: dict[str, list[Path]], name: str) -> None:
    """Verify that its settings and serving options are read, and mean what the chart says."""
    found = documents(render(*sources[name]))
    (operator,) = (d for k, d in found.items() if (k.kind, k.name) == ("Deployment", "windlass-operator"))
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value", "x") for e in container["env"]} | {"POD_NAMESPACE": "windlass"}
    given = {k: v.replace("$(POD_NAMESPACE)", "windlass") for k, v in env.items()}
    read = settings.load(given)
    assert read.namespaces == ("windlass",) and read.port == container["ports"][0]["containerPort"]
    assert (read.gateway.namespace, read.gateway.name) == ("windlass", "windlass")
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    served = loads(options["data"]["serving.yaml"])
    accounts = {k.name for k in found if k.kind == "ServiceAccount"}
    assert served.service_account in accounts
    assert served.payload is not None and served.payload.url == "http://windlass-collector:8088/"
    if name == "everything":
        assert served.of("flights").scaling.max_replicas == 12
        assert served.online is not None and served.image_pull_secrets == ("pull",)


def test_serverless_is_understood() -> None:
    """Verify that the component's options are ones that the operator takes, and its runtime one that the chart has."""
    found = documents(render(HERE / "components" / "serverless" / "values.yaml"))
    (options,) = (d for k, d in found.items() if (k.kind, k.name) == ("ConfigMap", "windlass-operator"))
    served = loads(options["data"]["serving.yaml"])
    assert (served.mode, served.scaling.min_replicas) == ("Serverless", 0)
    assert NAMES_OF_RUNTIMES[served.mode] in {k.name for k in found if k.kind == "ClusterServingRuntime"}


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_value_is_rendered(sources: dict[str, list[Path]], name: str) -> None:
    """Verify that Secrets are named, and the only one made is an address without a password."""
    for key, document in documents(render(*sources[name], hooks=True)).items():
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


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_is_bounded_and_may_do_little(sources: dict[str, list[Path]], name: str) -> None:
    """Verify requests and a memory limit, a read-only root, no capability, a numeric user, no token without need."""
    talks = {"windlass-operator", "windlass-retrain", "windlass-test"}
    for called, pod in pods(render(*sources[name], hooks=True)).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is (called in talks), called
        assert spec["serviceAccountName"] != "default"
        assert spec["securityContext"]["runAsUser"] > 0
        for container in spec["containers"]:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), called
            assert "memory" in container["resources"]["limits"], called
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(":latest") and ":" in container["image"]


def test_one_writer_is_never_two_and_others_are_replaced_without_a_gap(everything: Path) -> None:
    """Verify the strategies: Recreate where a volume or a journal has one writer, no pod missing elsewhere."""
    found = documents(render(everything))
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


def test_the_jobs_have_the_names_that_the_alerts_know(everything: Path) -> None:
    """Verify that Prometheus files the metrics under names that the rules ask for."""
    monitors = [
        d for k, d in documents(render(everything)).items() if k.kind in ("ServiceMonitor", "PodMonitor")
    ]
    jobs = set()
    for monitor in monitors:
        endpoints = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        jobs |= {r["replacement"] for e in endpoints for r in e["relabelings"] if r["targetLabel"] == "job"}
    local = yaml.safe_load((ROOT / "monitoring/rules/prometheus.yml").read_text())
    assert jobs == {job["job_name"] for job in local["scrape_configs"]}


def test_the_metrics_of_the_analyses_are_served(everything: Path) -> None:
    """Verify that the pod's command is one that there is, and that it only reads."""
    spec = pods(render(everything))["windlass-analysis-metrics"]["spec"]
    (container,) = spec["containers"]
    assert container["command"] == ["python3", "-m", "monitoring.analysis"]
    arguments = _parser().parse_args(container["args"])
    assert (arguments.serve, arguments.address) == (container["ports"][0]["containerPort"], "0.0.0.0")  # noqa: S104
    assert spec["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True


def test_every_service_and_policy_selects_pods_that_there_are(everything: Path) -> None:
    """Verify that no selector is a typing error: a Service without pods, a policy for nobody, a flow from nowhere."""
    text = render(everything, hooks=True)
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


# --- a real API server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With the definitions of whatever the chart makes."""
    prometheus = go_modules.folder(*go_modules.PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    ray = go_modules.folder(*go_modules.KUBERAY) / "config/crd/bases"
    kserve = module_dir("github.com/kserve/kserve") / "config/crd/full"
    gateway = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config/crd/standard"
    files = [
        *(
            prometheus / f"monitoring.coreos.com_{n}.yaml"
            for n in ("servicemonitors", "podmonitors", "prometheusrules")
        ),
        ray / "ray.io_rayclusters.yaml",
        kserve / "serving.kserve.io_clusterservingruntimes.yaml",
        *(gateway / f"gateway.networking.k8s.io_{name}.yaml" for name in ("gatewayclasses", "gateways")),
    ]
    with ApiServer(tmp_path_factory.mktemp("api-server")) as found:
        found.kubectl("apply", "--server-side", *(word for file in files for word in ("-f", str(file))))
        _until_established(found)
        yield found


def _until_established(server: ApiServer) -> None:
    """`kubectl wait` fails on a definition that has no conditions yet."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    ends = time.monotonic() + 60.0
    while time.monotonic() < ends:
        states = [
            {c["type"]: c["status"] for c in crd.get("status", {}).get("conditions") or ()}
            for crd in server.request("GET", path)["items"]
        ]
        if all(state.get("Established") == "True" for state in states):
            return
        time.sleep(0.1)
    raise AssertionError(states)


def namespace(server: ApiServer, name: str) -> str:
    """A namespace under Pod Security at its strictest; warnings are said aloud."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    server.request(
        "POST",
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )
    return name


@pytest.mark.parametrize("name", NAMES)
def test_the_api_server_takes_it_all(server: ApiServer, sources: dict[str, list[Path]], name: str) -> None:
    """Verify that every object is stored as it is meant, strictly, and Pod Security warns of none."""
    where = namespace(server, f"chart-{name}")
    text = render(*sources[name], hooks=True, namespace=where)
    # cluster-scoped objects are the same for each namespace
    command = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "-n", where, "-f", "-")
    done = server.kubectl(*command, given=text)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(documents(text))
    if name == "everything":  # once more: what an upgrade without a change does
        assert server.kubectl(*command, given=text).stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_is_admitted(server: ApiServer, sources: dict[str, list[Path]], name: str) -> None:
    """Verify that the pods themselves pass: a template's violation is a warning, a pod's a refusal."""
    where = namespace(server, f"pods-{name}")
    found = pods(render(*sources[name], hooks=True, namespace=where))
    assert len(found) >= 5
    for account in {pod["spec"]["serviceAccountName"] for pod in found.values()}:
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
        server.request("POST", f"/api/v1/namespaces/{where}/serviceaccounts", body)
    server.kubectl("apply", "-f", "-", given=_classes(render()))
    for called, pod in found.items():
        body = {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"]}
        body["metadata"] = {"name": called, "labels": pod["metadata"].get("labels", {})}
        path = f"/api/v1/namespaces/{where}/pods?dryRun=All&fieldValidation=Strict"
        assert server.request("POST", path, body)["metadata"]["name"] == called


def test_a_pod_that_may_more_is_not_admitted(server: ApiServer) -> None:
    """Verify that admission means something here."""
    where = namespace(server, "pods-refused")
    pod = pods(render())["windlass-operator"]
    spec = copy.deepcopy(pod["spec"])
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": spec["serviceAccountName"]}}
    server.request("POST", f"/api/v1/namespaces/{where}/serviceaccounts", account)
    server.kubectl("apply", "-f", "-", given=_classes(render()))
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    with pytest.raises(WindlassError, match="allowPrivilegeEscalation"):
        server.request("POST", f"/api/v1/namespaces/{where}/pods?dryRun=All", body)


def test_helm_asks_the_server_and_is_content(server: ApiServer) -> None:
    """Verify `helm install --dry-run=server`, and that its notes tell the next command."""
    where = namespace(server, "chart-dry-run")
    done = helm(
        "install", "windlass", CHART, "--dry-run=server", "-n", where, "--kubeconfig", server.kubeconfig,
        "--set", "crds.install=false,priorityClasses.create=false,servingRuntime.create=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    for said in (
        "create secret generic windlass-retrain-token",
        "get gateway windlass",
        "apply -f release.yaml",
    ):
        assert said in notes


def _classes(text: str) -> str:
    return yaml.safe_dump_all([d for k, d in documents(text).items() if k.kind == "PriorityClass"])
