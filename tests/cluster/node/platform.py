"""What a cluster has before Windlass comes: Gateway API and Envoy Gateway, KServe with its real controller.

KServe's controller is a process beside the node, as the API server's other clients are; its webhooks are registered by
their address. Envoy Gateway is installed by its own chart, from an image of ours.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.certificates import Authority
from tests.cluster.node.images import ROOT, named
from tests.cluster.node.node import Node
from tests.cluster.tools.build import module_dir, tool
from windlass.errors import WindlassError

GATEWAY_NAMESPACE = "envoy-gateway-system"
#: What kind is told as well: the steps are the same where they can be.
KIND = ROOT / "manifests" / "kind"
#: The port of the node that the Gateway answers on.
NODE_PORT = 30080
_WEBHOOKS = 9443
_WAIT_S = 240.0


def install(node: Node) -> None:
    """Install all of it."""
    work = node.folder / "platform"
    work.mkdir()
    gateway_api(node)
    with ThreadPoolExecutor(2) as both:
        for part in [both.submit(kserve, node, work), both.submit(envoy_gateway, node, work)]:
            part.result()


def gateway_api(node: Node) -> None:
    """Install the Gateway API's own CRDs."""
    folder = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config" / "crd" / "experimental"
    # the policy of safe upgrades refuses the experimental kinds that Envoy Gateway watches
    files = [
        path for path in sorted(folder.glob("gateway.networking*.yaml")) if "safeupgrades" not in path.name
    ]
    _apply(node, *files)


def envoy_gateway(node: Node, work: Path) -> None:
    """Install Envoy Gateway by its chart, and a GatewayClass whose proxies answer on a port of the node.

    Args:
        work: a folder for the filled-in values.
    """
    charts = module_dir("github.com/envoyproxy/gateway") / "charts"
    _apply(node, *sorted((charts / "gateway-helm" / "charts" / "crds" / "crds" / "generated").glob("*.yaml")))
    template = (charts / "gateway-helm" / "values.tmpl.yaml").read_text()
    values = yaml.safe_load(
        template.replace("${GatewayImage}", named("gateway")).replace(
            "${GatewayImagePullPolicy}", "IfNotPresent"
        )
    )
    values["global"]["images"]["envoyProxy"] = {"image": named("gateway"), "pullPolicy": "IfNotPresent"}
    values["crds"]["enabled"] = False
    values["topologyInjector"]["enabled"] = False
    file = work / "envoy-gateway.yaml"
    file.write_text(yaml.safe_dump(values))
    node.wait_for_images("gateway")
    node.helm(
        "install", "eg", charts / "gateway-helm", "--namespace", GATEWAY_NAMESPACE, "--create-namespace", "--skip-crds",
        "--values", file, "--values", KIND / "envoy-gateway.yaml", "--wait", "--timeout", f"{_WAIT_S:.0f}s",
    )  # fmt: skip
    # the class, and proxies on a port of the node
    _apply(node, KIND / "envoy-gateway-proxy.yaml")
    container = {"image": named("gateway")}
    ours = {"spec": {"provider": {"kubernetes": {"envoyDeployment": {"container": container}}}}}
    node.kubectl(
        "-n", GATEWAY_NAMESPACE, "patch", "envoyproxy", "node", "--type=merge", "--patch", json.dumps(ours)
    )


def two_proxies(node: Node) -> None:
    """Let every Gateway have two proxies."""
    more = {"spec": {"provider": {"kubernetes": {"envoyDeployment": {"replicas": 2}}}}}
    node.kubectl(
        "-n", GATEWAY_NAMESPACE, "patch", "envoyproxy", "node", "--type=merge", "--patch", json.dumps(more)
    )


def kserve_gateway(node: Node) -> None:
    """The Gateway that KServe hangs its own routes on, with proxies that nobody outside reaches."""
    kind = {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy"}
    container = {"image": named("gateway")}
    kubernetes = {"envoyDeployment": {"container": container}, "envoyService": {"type": "ClusterIP"}}
    reference = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "inside"}
    listener = {
        "name": "http",
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    apply_objects(
        node,
        {
            **kind,
            "metadata": {"name": "inside", "namespace": "kserve"},
            "spec": {"provider": {"type": "Kubernetes", "kubernetes": kubernetes}},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "kserve-ingress-gateway", "namespace": "kserve"},
            "spec": {
                "gatewayClassName": "envoy-gateway",
                "listeners": [listener],
                "infrastructure": {"parametersRef": reference},
            },
        },
    )
    node.kubectl(
        "-n", "kserve", "wait", "gateway/kserve-ingress-gateway", "--for=condition=Accepted", "--timeout=120s"
    )


def kserve(node: Node, work: Path) -> None:
    """Install KServe's CRDs and webhooks, and start its controller in Standard mode with the Gateway API.

    Args:
        work: a folder for the certificate of its webhooks.
    """
    module = module_dir("github.com/kserve/kserve")
    crds = module / "config" / "crd" / "full"
    _apply(
        node,
        *sorted(crds.glob("serving.*.yaml")),
        *sorted((crds / "clusterstoragecontainer").glob("serving.*.yaml")),
    )
    # its defaults; no image but ours is on the node, and nothing of ours starts one of these
    resources = {"memoryRequest": "100Mi", "memoryLimit": "1Gi", "cpuRequest": "100m", "cpuLimit": "1"}
    data = {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {
            "enableGatewayApi": True,
            "kserveIngressGateway": "kserve/kserve-ingress-gateway",
            "ingressGateway": "knative-serving/knative-ingress-gateway",
            "localGateway": "knative-serving/knative-local-gateway",
            "localGatewayService": "knative-local-gateway.istio-system.svc.cluster.local",
            "ingressDomain": "example.com",
            "ingressClassName": "istio",
            "domainTemplate": "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}",
            "urlScheme": "http",
            "disableIstioVirtualHost": True,
        },
        "logger": {"image": "kserve/agent:v0.20.0", "defaultUrl": "http://default-broker", **resources},
        "batcher": {"image": "kserve/agent:v0.20.0", **resources},
        "agent": {"image": "kserve/agent:v0.20.0", **resources},
        "storageInitializer": {"image": "kserve/storage-initializer:v0.20.0", **resources},
        "router": {"image": "kserve/router:v0.20.0", **resources},
        "credentials": {"gcs": {"gcsCredentialFileName": "x"}, "s3": {}},
        "metricsAggregator": {"enableMetricAggregation": "false", "enablePrometheusScraping": "false"},
        "explainers": {},
    }  # fmt: skip
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {name: json.dumps(value) for name, value in data.items()},
    }
    apply_objects(node, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}})
    apply_objects(node, config)
    certificates = work / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True)
    authority = Authority("kserve-webhooks")
    authority.server("kserve-webhooks", [node.address]).write(certificates, "tls")
    node.run(
        "kserve-manager",
        [
            tool("kserve-manager"),
            f"--webhook-port={_WEBHOOKS}",
            "--metrics-addr=0",
            "--health-probe-addr=:8082",
        ],
        {"KUBECONFIG": str(node.kubeconfig), "POD_NAMESPACE": "kserve", "TMPDIR": str(work)},
    )
    wait(lambda: _listens(node, _WEBHOOKS, "kserve-manager"), "KServe's webhooks listen")
    apply_objects(node, *_webhooks(module, node.address, authority.pair.certificate))


def _webhooks(module: Path, address: str, certificate: bytes) -> list[dict[str, Any]]:
    found = []
    for document in yaml.safe_load_all((module / "config" / "webhook" / "manifests.yaml").read_text()):
        for webhook in document["webhooks"]:
            path = webhook["clientConfig"].pop("service")["path"]
            webhook["clientConfig"]["url"] = f"https://{address}:{_WEBHOOKS}{path}"
            webhook["clientConfig"]["caBundle"] = base64.b64encode(certificate).decode()
        document["metadata"].pop("creationTimestamp", None)
        found.append(document)
    return found


def _apply(node: Node, *files: Path) -> None:
    words = [word for path in files for word in ("-f", path)]
    node.kubectl("apply", "--server-side", "--force-conflicts", *words)
    # `kubectl wait` fails on a definition that has no condition yet
    wait(lambda: _established(node), "the API server serves the new kinds")


def _established(node: Node) -> bool:
    found = json.loads(node.kubectl("get", "crd", "-o", "json").stdout)["items"]
    return all(
        any(
            c["type"] == "Established" and c["status"] == "True"
            for c in (item.get("status", {}).get("conditions") or ())
        )
        for item in found
    )


def apply_objects(node: Node, *objects: dict[str, Any]) -> None:
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    node.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=content)


def _listens(node: Node, port: int, program: str) -> bool:
    if not node.do("running", part=program):
        last = (node.logs / f"{program}.log").read_text().splitlines()[-5:]
        raise WindlassError(f"{program} has ended: {' '.join(last)}")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((node.address, port)) == 0


def wait(
    condition: Callable[[], bool],
    what: str | Callable[[], str],
    seconds: float = _WAIT_S,
    *,
    every_s: float = 0.3,
) -> None:
    """Wait until a condition holds.

    Raises:
        WindlassError: it does not, in time; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise WindlassError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(every_s)
