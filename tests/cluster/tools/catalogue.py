"""The Go tools that a real Kubernetes is made of for tests, in the order in which they are built.

A group is a folder with a go.mod and go.sum of its own: the tools need different versions of the same modules. Its
go.mod is the only place where a version stands; what a tool says of itself (`stamps`) is made from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import UsageError

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tool:
    """One program.

    Attributes:
        name: what its binary is called.
        group: the folder whose go.mod pins it.
        module: the Go module that holds it.
        package: its main package.
        asks: the arguments that make it print its version; empty where it knows none.
        stamps: variables that the linker sets, each "variable=value"; `{version}` (v1.36.3), `{number}` (1.36.3),
            `{major}` and `{minor}` are those of the pinned module, `{cluster_minor}` is that of Kubernetes.
    """

    name: str
    group: str
    module: str
    package: str
    asks: tuple[str, ...] = ("--version",)
    stamps: tuple[str, ...] = ()

    def version(self) -> str:
        """The version that the group's go.mod pins, with its "v"."""
        return pins(self.group)[self.module]

    def linker_flags(self) -> str:
        """What the linker is told: no symbols, and the stamps."""
        version = self.version()
        major, minor, _ = version.removeprefix("v").split(".", 2)
        named = {
            "version": version,
            "number": version.removeprefix("v"),
            "major": major,
            "minor": minor,
            "cluster_minor": pins("kubernetes")["k8s.io/kubernetes"].split(".")[1],
        }
        return " ".join(["-s", "-w", *(f"-X {stamp.format(**named)}" for stamp in self.stamps)])


def pins(group: str) -> dict[str, str]:
    """The modules that a group's go.mod requires, each with its version, replaced ones with what replaces them.

    Raises:
        UsageError: there is no such group.
    """
    try:
        text = (HERE / group / "go.mod").read_text()
    except FileNotFoundError:
        raise UsageError(
            f"no group of Go tools is called {group!r}; there are {', '.join(groups())}"
        ) from None
    found = dict(re.findall(r"^(?:require )?\t?([\w.~/-]+\.[\w.~/-]+) (v\S+)", text, re.MULTILINE))
    replaced = re.findall(r"^(?:replace )?\t?(\S+) => (\S+) (v\S+)", text, re.MULTILINE)
    return found | {module: version for module, by, version in replaced if module in found and by == module}


def groups() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/go.mod"))


def _kubernetes(name: str) -> Tool:
    # a program that says v0.0.0 misleads its clients: they decide by it what they may ask
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    says = ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
    return Tool(
        name,
        "kubernetes",
        "k8s.io/kubernetes",
        f"k8s.io/kubernetes/cmd/{name}",
        asks=("version", "--client") if name == "kubectl" else ("--version",),
        stamps=tuple(f"{place}.{word}" for place in places for word in says),
    )


def _containerd(name: str) -> Tool:
    module = "github.com/containerd/containerd/v2"
    return Tool(
        name,
        "containerd",
        module,
        f"{module}/cmd/{name}",
        asks=("-v",),
        stamps=(f"{module}/version.Version={{version}}", f"{module}/version.Package={module}"),
    )


_HELM = "helm.sh/helm/v3"

TOOLS = {
    tool.name: tool
    for tool in (
        # the API server's tier first: most tests wait for it
        Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kubectl"),
        Tool(
            "helm",
            "helm",
            _HELM,
            f"{_HELM}/cmd/helm",
            asks=("version", "--short"),
            stamps=(
                f"{_HELM}/internal/version.version={{version}}",
                # what `helm template` and `helm lint` take for the cluster's version, else 1.20
                f"{_HELM}/pkg/chartutil.k8sVersionMinor={{cluster_minor}}",
                f"{_HELM}/pkg/lint/rules.k8sVersionMinor={{cluster_minor}}",
            ),
        ),
        Tool(
            "kustomize",
            "kustomize",
            "sigs.k8s.io/kustomize/kustomize/v5",
            "sigs.k8s.io/kustomize/kustomize/v5",
            asks=("version",),
            stamps=("sigs.k8s.io/kustomize/api/provenance.version={version}",),
        ),
        Tool(
            "kubeconform",
            "kubeconform",
            "github.com/yannh/kubeconform",
            "github.com/yannh/kubeconform/cmd/kubeconform",
            asks=("-v",),
            stamps=("main.version={version}",),
        ),
        Tool(
            "kube-score",
            "kubescore",
            "github.com/zegl/kube-score",
            "github.com/zegl/kube-score/cmd/kube-score",
            asks=("version",),
            stamps=("main.version={version}",),
        ),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _containerd("containerd"),
        _containerd("containerd-shim-runc-v2"),
        _containerd("ctr"),
        Tool(
            "kserve-manager",
            "kserve",
            "github.com/kserve/kserve",
            "github.com/kserve/kserve/cmd/manager",
            asks=(),
        ),
        Tool(
            "coredns",
            "coredns",
            "github.com/coredns/coredns",
            "github.com/coredns/coredns",
            asks=("-version",),
        ),
        Tool(
            "kube-router",
            "kuberouter",
            "github.com/cloudnativelabs/kube-router/v2",
            "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
            stamps=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version={version}",),
        ),
        Tool(
            "envoy-gateway",
            "envoygateway",
            "github.com/envoyproxy/gateway",
            "github.com/envoyproxy/gateway/cmd/envoy-gateway",
            asks=("version",),
            stamps=("github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion={version}",),
        ),
    )
}

#: What the API server's tier needs; built first.
API_TIER = ("etcd", "kube-apiserver", "kubectl", "helm", "kustomize", "kubeconform", "kube-score")
