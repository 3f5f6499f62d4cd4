"""The node, within namespaces of its own: `python -m tests.cluster.node.inside FOLDER ADDRESS`, started by `node.Node`.

Commands come as JSON lines on standard input and are answered on standard output; when the input ends, so does the
node, and with this process (the first of its PID namespace) everything in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cluster import kubeconfigs
from tests.cluster.api_server import SERVICES, ApiServer
from tests.cluster.node import configuration as cfg
from tests.cluster.processes import Program
from tests.cluster.tools.build import tool

READY_S = 240.0


class Inside:
    """All programs of the node."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        flags = {
            "bind-address": "0.0.0.0",  # noqa: S104 - of a network namespace of its own
            # where clusters have it, and where the chart's NetworkPolicies let parts ask it
            "secure-port": "6443",
            "advertise-address": address,
            "endpoint-reconciler-type": "lease",
            "authorization-mode": "Node,RBAC",
            # for `kubectl logs` and `exec`
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-client-certificate": str(folder / "kubelet-client.crt"),
            "kubelet-client-key": str(folder / "kubelet-client.key"),
        }
        self.api = ApiServer(folder / "api", flags=flags, addresses=[address])
        self.api.authority.client("kube-apiserver", ["system:masters"]).write(folder, "kubelet-client")
        self.parts: dict[str, Program] = {}
        self._importing = ThreadPoolExecutor(1, thread_name_prefix="images")
        self._imports: dict[str, Future[None]] = {}

    def start(self) -> None:
        """Start everything and wait until the node is Ready."""
        cfg.network(self.address)
        cfg.cgroups(self.address)
        self.api.__enter__()
        url = self.api.url.replace("127.0.0.1", self.address)
        certificate = self.api.authority.pair.certificate
        admin = self.api.authority.client("admin", ["system:masters"])
        self.admin = self.folder / "admin.kubeconfig"
        kubeconfigs.write(self.admin, url, certificate, "admin", kubeconfigs.certified(admin))
        secrets = self.folder / "api" / "secrets"
        as_node = self.api.kubeconfig_for_user(f"system:node:{cfg.NAME}", ["system:nodes"])
        written = cfg.write(self.folder, self.address, self.api.certificate_authority)
        program = self._program
        program(
            "containerd",
            "--config",
            written.containerd,
            environment=cfg.path_with(tool("containerd-shim-runc-v2")),
        )
        cfg.wait_for(Path(cfg.CONTAINERD), self.parts["containerd"], READY_S)
        program(
            "kube-controller-manager",
            f"--kubeconfig={self.api.kubeconfig}",
            f"--root-ca-file={self.api.certificate_authority}",
            f"--service-account-private-key-file={secrets / 'service-accounts.key'}",
            # one that waits for a lease gives up where the machine is slow
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            # a Pod of a node that is gone is given up within seconds
            "--node-monitor-grace-period=20s",
        )
        program("kube-scheduler", f"--kubeconfig={self.api.kubeconfig}", "--leader-elect=false")
        program(
            "kubelet",
            f"--config={written.kubelet}",
            f"--kubeconfig={as_node}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--node-ip={self.address}",
            f"--hostname-override={cfg.NAME}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
        )
        program("kube-proxy", f"--config={written.proxy}", f"--hostname-override={cfg.NAME}")
        self._wait_until_ready()
        # of what it can do, only that NetworkPolicies are enforced
        program(
            "kube-router",
            f"--kubeconfig={self.admin}",
            f"--hostname-override={cfg.NAME}",
            f"--service-cluster-ip-range={SERVICES}",
            "--run-firewall=true",
            "--run-router=false",
            "--run-service-proxy=false",
        )

    def images(self, *paths: str) -> None:
        """Begin to give images to the node, one after the other."""
        self._imports |= {path: self._importing.submit(self._import, path) for path in paths}

    def wait_for_images(self, *paths: str) -> None:
        """Return when the node has them."""
        for path in paths:
            self._imports[path].result()

    @staticmethod
    def _import(path: str) -> None:
        subprocess.run(
            [tool("ctr"), "--address", cfg.CONTAINERD, "--namespace", "k8s.io", "images", "import", path],
            check=True,
            capture_output=True,
            timeout=600,
        )

    def obey(self, order: dict[str, Any]) -> Any:
        """Carry out one command from outside."""
        what = order["do"]
        if what == "images":
            return self.images(*order["paths"])
        if what == "wait_for_images":
            return self.wait_for_images(*order["paths"])
        if what == "run":
            environment = order.get("environment")
            self._program(
                order["name"],
                *order["command"][1:],
                binary=Path(order["command"][0]),
                environment=environment,
            )
            return None
        part = self.api if order["part"] == "kube-apiserver" else self.parts[order["part"]]
        if what in ("kill", "stop", "start"):
            getattr(part, what)()
            return None
        if what == "running":
            return part.running() if isinstance(part, Program) else None
        raise ValueError(f"no such command: {order}")

    def _program(
        self,
        name: str,
        *words: str | Path,
        binary: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        program = Program(name, [binary or tool(name), *words], self.logs, environment)
        self.parts[name] = program
        program.start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for program in self.parts.values():
                program.require_running()
            done = self.api.kubectl(
                "get",
                "node",
                cfg.NAME,
                "-o",
                "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
                check=False,
            )
            if done.stdout == "True":
                return
            time.sleep(0.3)
        raise TimeoutError(f"the node was not Ready within {READY_S:g} s; {self.parts['kubelet'].tail()}")


def main() -> None:
    """Start, say that it is ready, and obey until the input ends."""
    inside = Inside(Path(sys.argv[1]), sys.argv[2])
    answers = sys.stdout
    sys.stdout = sys.stderr

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        inside.start()
    except BaseException as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        raise
    answer({"kubeconfig": str(inside.admin)})
    for line in sys.stdin:
        try:
            answer({"result": inside.obey(json.loads(line))})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
