"""What the programs of the node are told."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.node.images import named
from tests.cluster.processes import Program
from windlass.errors import WindlassError

NAME = "node"
PODS = "10.244.0.0/24"
DNS = "10.96.0.10"
CONTAINERD = "/run/containerd.sock"
_HIERARCHIES = Path("/sys/fs/cgroup")
#: All Pods together count as one among the machine's processes, and are to get what twenty would get.
_SHARES = {"cpu.shares": "20480", "cpu.weight": "2000"}


@dataclass(frozen=True)
class Written:
    """The files of `write`."""

    containerd: Path
    kubelet: Path
    proxy: Path


def write(folder: Path, address: str, authority: Path) -> Written:
    """Write every program's file into `folder`.

    Args:
        address: of the node.
        authority: certificate that the kubelet's callers are checked by.
    """
    found = Written(*(folder / name for name in ("containerd.toml", "kubelet.json", "proxy.json")))
    found.containerd.write_text(_containerd(folder))
    cni = folder / "cni"
    cni.mkdir(exist_ok=True)
    (cni / "10-pods.conflist").write_text(json.dumps(_cni(folder)))
    # a Pod asks the cluster's DNS, and that knows nobody outside
    (folder / "resolv.conf").write_text("")
    found.kubelet.write_text(json.dumps(_kubelet(folder, address, authority)))
    found.proxy.write_text(
        json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "iptables",
                "clusterCIDR": PODS,
                "clientConnection": {"kubeconfig": str(folder / "admin.kubeconfig")},
                # the limits of a machine are not a namespace's to set
                "conntrack": {
                    "maxPerCore": 0,
                    "min": 0,
                    "tcpEstablishedTimeout": "0s",
                    "tcpCloseWaitTimeout": "0s",
                },
            }
        )
    )
    return found


def _containerd(folder: Path) -> str:
    return f"""version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{CONTAINERD}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "docker.io/{named("pause")}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false
"""


def _cni(folder: Path) -> dict[str, Any]:
    ranges = {"type": "host-local", "dataDir": str(folder / "addresses"), "ranges": [[{"subnet": PODS}]]}
    # a link of its own for every Pod: what comes back from a Service passes the translation that a bridge would skip
    links = {"type": "ptp", "ipMasq": True, "ipam": {**ranges, "routes": [{"dst": "0.0.0.0/0"}]}}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [links, ports]}


def _kubelet(folder: Path, address: str, authority: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{_cgroup(address)}",
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "failSwapOn": False,
        "podLogsDir": str(folder / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        # the disk is the machine's: how full it is says nothing about the tests
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 80,
    }


def network(address: str) -> None:
    """Bring up what a fresh network namespace has, and let it forward."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    deadline = time.monotonic() + 10
    while (
        f" {address}/"
        not in subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    ):
        if time.monotonic() > deadline:
            raise WindlassError(f"nobody gave this namespace the address {address}")
        time.sleep(0.05)
    for name, value in (
        ("ipv4/ip_forward", 1),
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0),
    ):
        (Path("/proc/sys/net") / name).write_text(f"{value}\n")


def _cgroup(address: str) -> str:
    """Where the node's Pods are accounted, in every hierarchy."""
    return f"windlass-node-{address}"


def cgroups(address: str) -> None:
    """Make the node's cgroup in every hierarchy: the kubelet wants to find it."""
    for hierarchy in _HIERARCHIES.iterdir():
        if (hierarchy / "cgroup.procs").exists():
            group = hierarchy / _cgroup(address)
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists() and not (group / name).read_text().strip():
                    (group / name).write_text((hierarchy / name).read_text())
            for name, share in _SHARES.items():
                if (group / name).exists():
                    (group / name).write_text(share)


def remove_cgroups(address: str) -> None:
    """Remove what `cgroups` made, once nothing runs in it."""
    for hierarchy in _HIERARCHIES.iterdir():
        for folder, _, _ in os.walk(hierarchy / _cgroup(address), topdown=False):
            with contextlib.suppress(OSError):  # its last process is just ending
                Path(folder).rmdir()


def path_with(program: Path) -> dict[str, str]:
    """Our environment with a program's folder on PATH."""
    return {**os.environ, "PATH": f"{program.parent}:/usr/sbin:/sbin:{os.environ.get('PATH', '')}"}


def wait_for(path: Path, program: Program, seconds: float) -> None:
    """Wait until a socket is there."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        program.require_running()
        if time.monotonic() > deadline:
            raise WindlassError(f"{path} did not appear within {seconds:g} s; {program.tail()}")
        time.sleep(0.05)


def merged(environment: Mapping[str, str]) -> dict[str, str]:
    """Our environment and more."""
    return {**os.environ, **environment}
