"""A real API server takes all that the chart renders, strictly, and admits every pod as restricted."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import yaml

from manifests.generate import CHART, documents, render
from tests.cluster import go_modules
from tests.cluster.api_server import ApiServer, admitted, established
from tests.cluster.charts import SOURCES, helm, pods
from tests.cluster.tools.build import BUILD_S, module_dir
from windlass.errors import WindlassError

pytestmark = pytest.mark.timeout(2 * BUILD_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With the definitions of whatever the chart makes."""
    prometheus = go_modules.folder(*go_modules.PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    ray = go_modules.folder(*go_modules.KUBERAY) / "config/crd/bases"
    kserve = module_dir("github.com/kserve/kserve") / "config/crd/full"
    gateway = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config/crd/standard"
    envoy = module_dir("github.com/envoyproxy/gateway", "envoygateway")
    envoy = envoy / "charts/gateway-helm/charts/crds/crds/generated"
    files = [
        *(
            prometheus / f"monitoring.coreos.com_{n}.yaml"
            for n in ("servicemonitors", "podmonitors", "prometheusrules")
        ),
        ray / "ray.io_rayclusters.yaml",
        kserve / "serving.kserve.io_clusterservingruntimes.yaml",
        *(gateway / f"gateway.networking.k8s.io_{name}.yaml" for name in ("gatewayclasses", "gateways")),
        *(envoy / f"gateway.envoyproxy.io_{of}trafficpolicies.yaml" for of in ("backend", "client")),
    ]
    with ApiServer(tmp_path_factory.mktemp("api-server")) as found:
        found.kubectl("apply", "--server-side", *(word for file in files for word in ("-f", str(file))))
        established(found)
        yield found


def namespace(server: ApiServer, name: str) -> str:
    """A namespace under Pod Security at its strictest; warnings are said aloud."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    server.request(
        "POST",
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )
    return name


@pytest.mark.parametrize("name", SOURCES)
def test_the_api_server_takes_it_all(server: ApiServer, name: str) -> None:
    """Verify that every object is stored as it is meant, strictly, and Pod Security warns of none."""
    where = namespace(server, f"chart-{name}")
    text = render(*SOURCES[name], hooks=True, namespace=where)
    # cluster-scoped objects are the same for each namespace
    command = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "-n", where, "-f", "-")
    done = server.kubectl(*command, given=text)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(documents(text))
    if name == "everything":  # once more: what an upgrade without a change does
        assert server.kubectl(*command, given=text).stderr == ""


@pytest.mark.parametrize("name", SOURCES)
def test_every_pod_is_admitted(server: ApiServer, name: str) -> None:
    """Verify that the pods themselves pass: a template's violation is a warning, a pod's a refusal."""
    where = namespace(server, f"pods-{name}")
    found = pods(render(*SOURCES[name], hooks=True, namespace=where))
    assert len(found) >= 5
    for account in {pod["spec"]["serviceAccountName"] for pod in found.values()}:
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
        server.request("POST", f"/api/v1/namespaces/{where}/serviceaccounts", body)
    server.kubectl("apply", "-f", "-", given=_classes(render()))
    for called, pod in found.items():
        body = {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"]}
        body["metadata"] = {"name": called, "labels": pod["metadata"].get("labels", {})}
        path = f"/api/v1/namespaces/{where}/pods?dryRun=All&fieldValidation=Strict"
        assert admitted(server, path, body)["metadata"]["name"] == called


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
        admitted(server, f"/api/v1/namespaces/{where}/pods?dryRun=All", body)


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
