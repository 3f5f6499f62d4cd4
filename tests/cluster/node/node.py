"""A real Kubernetes node of a test's own, in namespaces that go with it: network, mounts, processes.

Nothing of it touches the machine but one link (`wlN`), which connects 10.222.N.1 here with 10.222.N.2, the node: its
API server and its NodePorts answer there.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.node import configuration, debian, dns
from tests.cluster.node.images import ROOT, archive
from tests.cluster.tools.build import tool
from windlass.errors import WindlassError

#: Built before the node starts, so that nothing waits within it.
TOOLS = (
    "etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "containerd", "containerd-shim-runc-v2", "ctr", "coredns", "kube-router",
)  # fmt: skip
_PROGRAMS = ("runc", "iptables", "ipset", "conntrack", "ip", "mount", "/usr/lib/cni/bridge")
_NODES = 30


class Node:
    """A running node; a context manager.

    Args:
        folder: everything of it lies there; logs are left.
        images: what it is given, see `images.dockerfiles`, in this order while it is used already; `wait_for_images`
            says when it has them. The pause image is always there.
    """

    def __init__(self, folder: Path, images: Sequence[str] = ()) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self._images = ("pause", *images)
        self._archives: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._asking = threading.Lock()
        self._link = ""
        self.address = ""
        #: This machine, as the node sees it.
        self.machine = ""
        self.kubeconfig = folder / "admin.kubeconfig"

    def __enter__(self) -> Self:
        debian.require(*_PROGRAMS)
        for name in TOOLS:
            tool(name)
        self._archives = {name: str(archive(name)) for name in self._images}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        try:
            self._start()
            self.do("images", paths=list(self._archives.values()))
            self.wait_for_images("pause")
            self._resolve_names()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        number = self._take_a_link()
        self.address, self.machine = f"10.222.{number}.2", f"10.222.{number}.1"
        script = (
            "mount --make-rshared / && mount -t tmpfs tmpfs /run && mkdir -p /run/netns && "
            f"exec {sys.executable} -m tests.cluster.node.inside {self.folder} {self.address}"
        )
        with (self.logs / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation",
                 "private", "sh", "-c", script],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self._run(
            "ip", "link", "set", f"{self._link}n", "netns", str(self._in_its_namespace(self._process.pid))
        )
        enter = ("nsenter", f"--net=/proc/{self._process.pid}/ns/net", "ip")
        self._run(*enter, "addr", "add", f"{self.address}/30", "dev", f"{self._link}n")
        self._run(*enter, "link", "set", f"{self._link}n", "up")
        self._run(*enter, "route", "add", "default", "via", self.machine)
        self._answer()

    def _resolve_names(self) -> None:
        objects = dns.objects(configuration.DNS)
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "-f", "-", given=content)
        rollout = ("rollout", "status", f"deployment/{dns.NAME}", "--timeout=120s")
        self.kubectl("-n", dns.NAMESPACE, *rollout)

    def _take_a_link(self) -> int:
        for number in range(_NODES):
            name = f"wl{number}"
            if not self._run(
                "ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}n", check=False
            ):
                self._link = name
                self._run("ip", "addr", "add", f"10.222.{number}.1/30", "dev", name)
                self._run("ip", "link", "set", name, "up")
                return number
        raise WindlassError(f"{_NODES} nodes run already, or `ip link add type veth` is not allowed here")

    @staticmethod
    def _in_its_namespace(pid: int) -> int:
        """`pid`, once it has left our network namespace."""
        ours = Path("/proc/self/ns/net").stat().st_ino
        for _ in range(2000):
            if Path(f"/proc/{pid}/ns/net").stat().st_ino != ours:
                return pid
            signal.sigtimedwait([], 0.005)
        raise WindlassError("the node did not get a network namespace of its own")

    def do(self, what: str, **more: Any) -> Any:
        """Have the node do something: `run`, or `kill`, `stop`, `start` and `running` of a `part`; from any thread.

        Raises:
            WindlassError: it failed.
        """
        assert self._process is not None and self._process.stdin is not None
        with self._asking:
            self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._process.stdin.flush()
            return self._answer().get("result")

    def wait_for_images(self, *names: str) -> None:
        """Return when the node has these images, or all that it is given."""
        self.do("wait_for_images", paths=[self._archives[name] for name in names or self._images])

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WindlassError(f"the node is gone; the end of {self.logs / 'node.log'}:\n{self._tail()}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise WindlassError(f"the node says: {said['error']}")
        return said

    def kubectl(
        self, *words: str | Path, given: str | None = None, check: bool = True, timeout: float = 180.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        command = [tool("kubectl"), "--kubeconfig", self.kubeconfig, *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise WindlassError(f"`kubectl {' '.join(map(str, words))}` ended with {done.returncode}: {said}")
        return done

    def helm(self, *words: str | Path, timeout: float = 600.0) -> str:
        """Run helm as the administrator; returns what it prints.

        Raises:
            WindlassError: it failed.
        """
        command = [tool("helm"), "--kubeconfig", self.kubeconfig, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise WindlassError(f"`helm {' '.join(map(str, words))}` ended with {done.returncode}: {said}")
        return done.stdout

    def run(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a program beside the node, in its network."""
        more = None if environment is None else configuration.merged(environment)
        self.do("run", name=name, command=[str(word) for word in command], environment=more)

    def close(self) -> None:
        """End all of it; logs, volumes and objects stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._link:
            self._run("ip", "link", "delete", self._link, check=False)
            self._link = ""
        if self.address:
            configuration.remove_cgroups(self.address)
        # every image lies there unpacked, and the newest folders of tests stay for a while
        for unpacked in ("containerd", "kubelet"):
            shutil.rmtree(self.folder / unpacked, ignore_errors=True)

    def _tail(self) -> str:
        return "\n".join((self.logs / "node.log").read_text(errors="replace").splitlines()[-20:])

    @staticmethod
    def _run(*command: str, check: bool = True) -> int:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if check and done.returncode:
            raise WindlassError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.returncode
