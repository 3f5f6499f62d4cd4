"""The cluster's DNS: CoreDNS in a Pod of kube-system, where NetworkPolicies expect it."""

from __future__ import annotations

from typing import Any

from tests.cluster.node import hosted
from tests.cluster.tools.build import tool

NAMESPACE = "kube-system"
NAME = "coredns"
#: A Pod asks it, and it knows nobody outside of the cluster.
_COREFILE = ".:53 {\n kubernetes cluster.local {\n  ttl 1\n }\n ready\n errors\n}\n"
_READS = (("", "endpoints,services,pods,namespaces"), ("discovery.k8s.io", "endpointslices"))


def objects(address: str) -> list[dict[str, Any]]:
    """All of it.

    Args:
        address: of the Service.
    """
    rbac = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    rules = [
        {"apiGroups": [group], "resources": resources.split(","), "verbs": ["list", "watch"]}
        for group, resources in _READS
    ]
    metadata = {"name": NAME, "namespace": NAMESPACE}
    program = hosted.deployment(
        NAMESPACE,
        NAME,
        tool("coredns"),
        ["-conf", "/etc/coredns/Corefile"],
        container={
            # its answer is waited for with every first request: a second of a full node is a second of everybody
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        },
        pod={
            "serviceAccountName": NAME,
            "dnsPolicy": "Default",
            "priorityClassName": "system-cluster-critical",
        },
        volumes={"corefile": ("/etc/coredns", {"configMap": {"name": NAME}})},
    )
    ports = [
        {"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME},
            "subjects": [account],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": _COREFILE}},
        program,
        hosted.service(NAMESPACE, "kube-dns", NAME, ports, clusterIP=address),
    ]
