"""What `make kind-up` installs, as far as it can be held without Docker and an image registry."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import ENVIRONMENTS, HERE, ROOT, documents, environment_values, render
from pipelines import pods
from tests.cluster.api_server import ApiServer, admitted
from tests.cluster.tools.build import BUILD_S, module_dir, tool
from tests.cluster.tools.catalogue import pins

pytestmark = pytest.mark.timeout(2 * BUILD_S)

KIND = HERE / "kind"
JOB = KIND / "train-flights.yaml"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    lines = (KIND / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_versions_are_those_of_the_tests(versions: dict[str, str], cluster: dict[str, Any]) -> None:
    """Verify that what runs on the tests' node is what kind gets, and Pipelines what our SDK speaks to."""
    assert versions["ENVOY_GATEWAY_VERSION"] == pins("envoygateway")["github.com/envoyproxy/gateway"]
    assert versions["KSERVE_VERSION"] == pins("kserve")["github.com/kserve/kserve"]
    assert f'"kfp=={versions["KUBEFLOW_PIPELINES_VERSION"]}"' in (ROOT / "pyproject.toml").read_text()
    (node,) = cluster["nodes"]
    minor = pins("kubernetes")["k8s.io/kubernetes"].rpartition(".")[0]
    assert re.fullmatch(rf"kindest/node:{re.escape(minor)}\.\d+@sha256:[0-9a-f]{{64}}", node["image"])
    used = set(re.findall(r"\$([A-Z_]+_VERSION)", (KIND / "up.sh").read_text()))
    assert used == set(versions)


def test_the_script_is_bash_and_asks_for_what_it_needs(tmp_path: Path) -> None:
    """Verify its syntax, and that without the programs it ends before it has done anything."""
    script = KIND / "up.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    done = subprocess.run(
        ["/bin/bash", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "error: docker is not on PATH" in done.stderr
    for file in re.findall(r"(?:manifests|helm|\$here)/[\w./-]+\.(?:yaml|env)", script.read_text()):
        assert (ROOT / file.replace("$here", "manifests/kind")).is_file(), file


def test_the_gateway_is_reached_where_the_page_says(cluster: dict[str, Any]) -> None:
    """Verify that class, node port and mapped port are of one mind."""
    proxy, gateway_class = yaml.safe_load_all((KIND / "envoy-gateway-proxy.yaml").read_text())
    (gateway,) = (d for k, d in documents(render(*environment_values("kind"))).items() if k.kind == "Gateway")
    assert gateway["spec"]["gatewayClassName"] == gateway_class["metadata"]["name"]
    assert gateway_class["spec"]["parametersRef"]["name"] == proxy["metadata"]["name"]
    service = proxy["spec"]["provider"]["kubernetes"]["envoyService"]
    (port,) = service["patch"]["value"]["spec"]["ports"]
    assert port["port"] == gateway["spec"]["listeners"][0]["port"]
    (mapped,) = cluster["nodes"][0]["extraPortMappings"]
    assert mapped["containerPort"] == port["nodePort"]
    assert f"127.0.0.1:{mapped['hostPort']}" in (ROOT / "docs/kind.md").read_text()


def test_kserve_is_set_up_as_we_rely_on_it() -> None:
    """Verify by KServe's own chart that the values mean what they say: an unknown one would be ignored."""
    chart = module_dir("github.com/kserve/kserve") / "charts" / "kserve-resources"
    command = [tool("helm"), "template", "kserve", chart, "--values", KIND / "kserve.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = next(
        d
        for d in yaml.safe_load_all(done.stdout)
        if d and (d["kind"], d["metadata"]["name"]) == ("ConfigMap", "inferenceservice-config")
    )
    assert json.loads(found["data"]["deploy"])["defaultDeploymentMode"] == "Standard"
    ingress = json.loads(found["data"]["ingress"])
    assert ingress["enableGatewayApi"] is True and ingress["disableIstioVirtualHost"] is True


def test_envoy_gateway_has_the_setting() -> None:
    """Verify that the value stands where Envoy Gateway's chart reads its configuration from."""
    template = (
        module_dir("github.com/envoyproxy/gateway") / "charts/gateway-helm/values.tmpl.yaml"
    ).read_text()
    ours = yaml.safe_load((KIND / "envoy-gateway.yaml").read_text())
    assert ours["config"]["envoyGateway"] == {"extensionApis": {"enableLua": True}}
    theirs = yaml.safe_load(re.sub(r"\$\{\w+\}", "x", template))
    assert "extensionApis" in theirs["config"]["envoyGateway"]


def test_alertmanager_tells_the_trigger_as_elsewhere() -> None:
    """Verify that route and receiver of retraining are those of the configuration that amtool has checked."""
    stack = yaml.safe_load((KIND / "kube-prometheus-stack.yaml").read_text())
    ours = stack["alertmanager"]["config"]
    known = yaml.safe_load((ROOT / "monitoring/alertmanager/alertmanager.yml").read_text())

    def of_retraining(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        (route,) = (r for r in config["route"]["routes"] if r["receiver"] == "retrain-trigger")
        (receiver,) = (r for r in config["receivers"] if r["name"] == "retrain-trigger")
        return {name: value for name, value in route.items() if name != "continue"}, receiver[
            "webhook_configs"
        ][0]

    (route, hook), (known_route, known_hook) = of_retraining(ours), of_retraining(known)
    assert route == known_route
    assert hook == known_hook | {
        "url": known_hook["url"].replace("windlass-retrain", "windlass-retrain.windlass")
    }
    assert "windlass-retrain-token" in stack["alertmanager"]["alertmanagerSpec"]["secrets"]
    labels = yaml.safe_load((ROOT / "helm/windlass/values-kind.yaml").read_text())["monitoring"]["labels"]
    assert labels == {"release": "kube-prometheus-stack"} and "kind" in ENVIRONMENTS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of its own: a class of priority and one of gateways belong to no namespace."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as running:
        yield running


def test_the_proxies_configuration_is_taken(server: ApiServer) -> None:
    """Verify it by Envoy Gateway's own definition and the Gateway API's."""
    envoy = module_dir("github.com/envoyproxy/gateway") / "charts/gateway-helm/charts/crds/crds/generated"
    gateway = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config/crd/standard"
    files = [envoy / "gateway.envoyproxy.io_envoyproxies.yaml"]
    files.append(gateway / "gateway.networking.k8s.io_gatewayclasses.yaml")
    server.kubectl("apply", "--server-side", *(word for file in files for word in ("-f", file)))
    server.kubectl("create", "namespace", "envoy-gateway-system")
    # a definition is served a moment after it is stored
    ends = time.monotonic() + 60.0
    command = ("apply", "--server-side", "--validate=strict", "-f", str(KIND / "envoy-gateway-proxy.yaml"))
    while (done := server.kubectl(*command, check=False)).returncode and time.monotonic() < ends:
        time.sleep(0.5)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_the_sample_is_taken_and_finds_what_the_chart_makes(server: ApiServer) -> None:
    """Verify that the Job and its pod pass a real API server, and that all they name is the chart's or the script's."""
    where = "kind-sample"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": where, "labels": labels}})
    job = yaml.safe_load(JOB.read_text())
    job["metadata"]["namespace"] = where
    command = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    done = server.kubectl(*command, given=json.dumps(job))
    assert done.stderr == ""
    spec = job["spec"]["template"]["spec"]
    made = {(k.kind, k.name) for k in documents(render(*environment_values("kind")))}
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    variables = [variable for container in containers for variable in container.get("env", ())]
    secrets = {v["valueFrom"]["secretKeyRef"]["name"] for v in variables if "valueFrom" in v}
    maps = {each["configMapRef"]["name"] for container in containers for each in container.get("envFrom", ())}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert ("ServiceAccount", spec["serviceAccountName"]) in made
    assert ("PriorityClass", spec["priorityClassName"]) in made
    assert maps and {("ConfigMap", name) for name in maps} <= made
    assert {("Secret", name) for name in secrets} <= made
    assert ("PersistentVolumeClaim", volumes["models"]["persistentVolumeClaim"]["claimName"]) in made
    assert f"secret generic {volumes['signing']['secret']['secretName']} " in (KIND / "up.sh").read_text()
    for kind, name in (
        ("ServiceAccount", spec["serviceAccountName"]),
        ("PriorityClass", spec["priorityClassName"]),
    ):
        document = next(d for k, d in documents(render()).items() if (k.kind, k.name) == (kind, name))
        document["metadata"].pop("namespace", None)
        server.kubectl("apply", "-n", where, "-f", "-", given=json.dumps(document))
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {"name": "sample"}}
    path = f"/api/v1/namespaces/{where}/pods?dryRun=All&fieldValidation=Strict"
    assert admitted(server, path, pod)["metadata"]["name"] == "sample"


def test_pipelines_find_in_their_namespace_what_is_secret_here(server: ApiServer, tmp_path: Path) -> None:
    """Verify copies byte for byte, that they follow a change, and that what is not here is not made there."""
    for name in ("platform", "runs"):
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    stated = {s.name for s in (*pods.DEFAULT.secrets, *pods.DEFAULT.config_maps)}
    script = KIND / "copy-for-pipelines.sh"
    assert set(re.findall(r"(?:configmap|secret)/([\w-]+)", script.read_text())) == stated
    assert '"$here/copy-for-pipelines.sh" windlass kubeflow ' in (KIND / "up.sh").read_text()
    key = tmp_path / "signing.pem"
    key.write_bytes(b'-----BEGIN-----\n\\ "quoted": {{x}} %q\n' + bytes(range(256)))
    made = ("--namespace", "platform", "create")
    server.kubectl(*made, "secret", "generic", "windlass-signing-key", f"--from-file={key}")
    url = "http://windlass-mlflow.windlass:5000"
    literal = f"--from-literal=MLFLOW_TRACKING_URI={url}"
    server.kubectl(*made, "configmap", "windlass-pipeline", literal, "--from-literal=AWS_DEFAULT_REGION=")
    environment = {"PATH": f"{Path(tool('kubectl')).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def copied() -> dict[str, Any]:
        words = [script, "platform", "runs", "--kubeconfig", server.kubeconfig]
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=60)
        found: dict[str, Any] = {}
        for kind in ("secrets", "configmaps"):
            for each in server.request("GET", f"/api/v1/namespaces/runs/{kind}")["items"]:
                found[each["metadata"]["name"]] = each.get("data")
        found.pop("kube-root-ca.crt", None)
        return found

    expected = {
        "windlass-signing-key": {"signing.pem": base64.b64encode(key.read_bytes()).decode()},
        "windlass-pipeline": {"MLFLOW_TRACKING_URI": url, "AWS_DEFAULT_REGION": ""},
    }
    assert copied() == expected and copied() == expected
    server.kubectl("--namespace", "platform", "delete", "configmap", "windlass-pipeline")
    server.kubectl(*made, "configmap", "windlass-pipeline", "--from-literal=AWS_DEFAULT_REGION=eu-central-1")
    assert copied() == expected | {"windlass-pipeline": {"AWS_DEFAULT_REGION": "eu-central-1"}}
