"""What goes away on the node, and how one sees that all is whole again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.node import platform, team
from tests.cluster.node.node import Node
from tests.cluster.node.releases import leader

SERVERS = "serving.kserve.io/inferenceservice"
_PROXIES = "gateway.envoyproxy.io/owning-gateway-name=windlass"
_STORAGE_AWAY_S = 20.0


@dataclass(frozen=True)
class Fault:
    """One kind of thing that goes away.

    Attributes:
        replicas: how many there are of what goes away.
        act: lets one go away.
        whole: whether everything is as before.
        abrupt: whether what it was just answering is lost with it; then no later request may be.
    """

    replicas: int
    act: Callable[[], object]
    whole: Callable[[], bool]
    abrupt: bool = False


class Faults:
    """All faults of a team's namespace in which one version serves.

    Args:
        version: it is served by two pods.
        draw: chooses among pods.
    """

    def __init__(self, node: Node, model: str, version: str, draw: random.Random) -> None:
        self._node = node
        self._draw = draw
        self._servers = f"{SERVERS}={model}-{version}"
        (self._bundle,) = (node.folder / "volumes").glob(f"*/{model}/{version}")
        self._changes = 0

    def all(self) -> Mapping[str, Fault]:
        """By their names."""
        ours, gateways = team.NAMESPACE, platform.GATEWAY_NAMESPACE
        return {
            "model server": self._pods(2, ours, self._servers),
            "model server killed": Fault(
                2, self._kill, lambda: self._ready(ours, self._servers, 2), abrupt=True
            ),
            "gateway proxy": self._pods(2, gateways, _PROXIES),
            "gateway controller": self._pods(1, gateways, "control-plane=envoy-gateway"),
            "redis": self._pods(1, ours, _component("redis")),
            "collector": self._pods(1, ours, _component("collector")),
            "registry": self._pods(1, ours, _component("mlflow")),
            "leading operator": Fault(2, self._delete_leader, self._led),
            "model storage": Fault(2, self._hide_storage, lambda: self._ready(ours, self._servers, 2)),
            "helm upgrade": Fault(2, self._upgrade, self._led),
            "helm rollback": Fault(2, self._roll_back, self._led),
        }

    def _pods(self, replicas: int, namespace: str, selector: str) -> Fault:
        return Fault(
            replicas,
            lambda: self._delete(namespace, selector),
            lambda: self._ready(namespace, selector, replicas),
        )

    def _delete(self, namespace: str, selector: str) -> None:
        names = sorted(pod["metadata"]["name"] for pod in self._living(namespace, selector))
        self._node.kubectl("-n", namespace, "delete", "pod", self._draw.choice(names), "--wait=false")

    def _kill(self) -> None:
        """End a server as the kernel does when memory is short: without a word, and its pod stays."""
        pod = self._draw.choice(self._living(team.NAMESPACE, self._servers))
        before = _restarts(pod)
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                if (
                    f"pod{pod['metadata']['uid']}" in (process / "cgroup").read_text()
                    and b"serving.runtime" in (process / "cmdline").read_bytes()
                ):
                    os.kill(int(process.name), signal.SIGKILL)
        name = pod["metadata"]["name"]
        platform.wait(
            lambda: any(
                p["metadata"]["name"] == name and _restarts(p) > before
                for p in self._living(team.NAMESPACE, self._servers)
            ),
            f"{name} is started again",
        )

    def _delete_leader(self) -> None:
        self._node.kubectl("-n", team.NAMESPACE, "delete", "pod", leader(self._node), "--wait=false")

    def _led(self) -> bool:
        """Two operators are ready, and one of those that stay leads."""
        stay = {pod["metadata"]["name"] for pod in self._living(team.NAMESPACE, _component("operator"))}
        return leader(self._node) in stay and self._ready(team.NAMESPACE, _component("operator"), 2)

    def _hide_storage(self) -> None:
        """The files of the version go while a server of it is replaced; the folder stays, for it is mounted."""
        away = self._bundle.with_name("away")
        away.mkdir()
        files = sorted(self._bundle.iterdir())
        for file in files:
            file.rename(away / file.name)
        try:
            self._delete(team.NAMESPACE, self._servers)
            time.sleep(_STORAGE_AWAY_S)
        finally:
            for file in files:
                (away / file.name).rename(file)
            away.rmdir()

    def _upgrade(self) -> None:
        self._changes += 1
        parts = ("operator", "collector", "redis")
        words = [f"--set={part}.podAnnotations.changed=time-{self._changes}" for part in parts]
        team.install(self._node, self._node.folder / "values.yaml", *words)

    def _roll_back(self) -> None:
        if not self._changes:
            self._upgrade()
        team.roll_back(self._node)

    def _ready(self, namespace: str, selector: str, number: int) -> bool:
        states = [
            any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
            for pod in self._living(namespace, selector)
        ]
        return states.count(True) >= number

    def _living(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        said = self._node.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json").stdout
        return [pod for pod in json.loads(said)["items"] if not pod["metadata"].get("deletionTimestamp")]


def _restarts(pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ()))


def _component(name: str) -> str:
    return f"app.kubernetes.io/component={name}"
