"""What flows on the node: from every kind of Pod, whether each address that matters can be reached."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.node import platform, team
from tests.cluster.node.images import named
from tests.cluster.node.node import Node

ELSEWHERE = "elsewhere"
#: Who reaches whom, as docs/helm.md says it. The gateway's proxies, Prometheus and a foreigner have no policy of ours:
#: what they may ask is for who is asked to say.
NAMED: Mapping[str, frozenset[str]] = {
    "model server": frozenset({"redis", "collector"}),
    "operator": frozenset({"API server", "Prometheus", "collector", "registry", "trigger", "model server"}),
    "trigger": frozenset({"API server", "registry", "redis"}),
    "collector": frozenset(),
    "registry": frozenset(),
    "redis": frozenset(),
    "training": frozenset({"registry", "redis"}),
    "analysis": frozenset({"Prometheus"}),
    "features": frozenset({"redis"}),
    "stranger": frozenset(),
    "foreigner": frozenset({"API server", "Prometheus", "outside"}),
    "gateway": frozenset({"model server", "API server", "Prometheus", "outside"}),
    "Prometheus": frozenset({"model server", "operator", "collector", "trigger", "API server", "outside"}),
}
#: Of each CronJob a Pod with its labels.
_JOBS = {"analysis": "windlass-analysis-flights", "features": "windlass-materialize-flights"}
_SERVERS = "serving.kserve.io/inferenceservice"
_PROXIES = "gateway.envoyproxy.io/owning-gateway-name=windlass"
_SETTLES_S = 60.0
_LISTENS = 8080
#: A refusal comes from the node at once; what is only slow is no refusal.
_TRIES = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(address):
    try:
        socket.create_connection(address, 10).close()
    except ConnectionRefusedError:
        return "closed"
    except OSError as error:
        return repr(error)
    return "open"

targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reached, map(tuple, targets.values()))))))
"""


@dataclass(frozen=True)
class Caller:
    """A Pod that asks.

    Attributes:
        pod: its name.
        container: the one that has a Python; None for its only one.
    """

    namespace: str
    pod: str
    container: str | None = None


class Flows:
    """The callers and the targets of a team's namespace in which a version is served; a context manager.

    Args:
        served: the InferenceService of a version that stays while it is asked.

    Callers that no part runs all the time are Pods of its own, with the labels that such a part has: `training`,
    `analysis`, `features`. `stranger` is a Pod in the namespace without a label, `foreigner` one in another namespace.
    """

    def __init__(self, node: Node, served: str) -> None:
        self._node = node
        self._served = served

    def __enter__(self) -> Flows:
        job = yaml.safe_load((team.KIND / "train-flights.yaml").read_text())
        labels: dict[str, dict[str, str]] = {
            "stranger": {},
            "training": job["spec"]["template"]["metadata"]["labels"],
        }
        for name, cron in _JOBS.items():
            found = json.loads(self._get("-n", team.NAMESPACE, "get", f"cronjob/{cron}", "-o", "json"))
            labels[name] = found["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
        platform.apply_objects(
            self._node,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}},
            *(_idle(team.NAMESPACE, name, found) for name, found in labels.items()),
            _idle(ELSEWHERE, "foreigner", {}),
        )
        self._idle = tuple(labels)
        for namespace, names in ((team.NAMESPACE, self._idle), (ELSEWHERE, ("foreigner",))):
            pods = [f"pod/{name}" for name in names]
            self._node.kubectl("-n", namespace, "wait", *pods, "--for=condition=Ready", "--timeout=120s")
        part = "app.kubernetes.io/component="
        self.callers: Mapping[str, Caller] = {
            "model server": self._one(team.NAMESPACE, f"{_SERVERS}={self._served}", "kserve-container"),
            "operator": self._one(team.NAMESPACE, f"{part}operator"),
            "trigger": self._one(team.NAMESPACE, f"{part}retrain"),
            "collector": self._one(team.NAMESPACE, f"{part}collector"),
            "registry": self._one(team.NAMESPACE, f"{part}mlflow"),
            "redis": self._one(team.NAMESPACE, f"{part}redis"),
            **{name: Caller(team.NAMESPACE, name) for name in self._idle},
            "foreigner": Caller(ELSEWHERE, "foreigner"),
            "gateway": self._one(platform.GATEWAY_NAMESPACE, _PROXIES, "envoy"),
            "Prometheus": self._one("monitoring", "app=prometheus"),
        }
        here = f"{team.NAMESPACE}.svc.cluster.local"
        self._outside = socket.create_server((self._node.machine, 0), backlog=1024)
        #: name -> host and port
        self.targets: Mapping[str, tuple[str, int]] = {
            "model server": (self._address(self.callers["model server"].pod), 8080),
            "operator": (f"windlass-operator.{here}", 8080),
            "trigger": (f"windlass-retrain.{here}", 8080),
            "collector": (f"windlass-collector.{here}", 8088),
            "registry": (f"windlass-mlflow.{here}", 5000),
            "redis": (f"windlass-redis.{here}", 6379),
            "Prometheus": ("kube-prometheus-stack-prometheus.monitoring.svc.cluster.local", 9090),
            # default deny is all that stands before it
            "stranger": (self._address("stranger"), _LISTENS),
            "API server": ("kubernetes.default.svc.cluster.local", 443),
            "outside": self._outside.getsockname(),
        }
        return self

    def __exit__(self, *error: object) -> None:
        self._outside.close()
        self._node.kubectl("delete", "namespace", ELSEWHERE, "--wait=false")
        self._node.kubectl("-n", team.NAMESPACE, "delete", "pod", *self._idle, "--grace-period=1")

    @property
    def all(self) -> dict[str, frozenset[str]]:
        """Every caller -> every target but itself."""
        return {caller: frozenset(self.targets) - {caller} for caller in self.callers}

    def settled(self, expected: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
        """What is open, as soon as it is what is expected: a change of the policies takes a moment.

        Raises:
            AssertionError: at the end a target is neither reached nor refused, from somewhere.
        """
        deadline = time.monotonic() + _SETTLES_S
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                if (found := self.open()) == expected:
                    return found
            time.sleep(1)
        return self.open()

    def open(self) -> dict[str, frozenset[str]]:
        """Caller -> the targets that it reaches, but itself.

        Raises:
            AssertionError: a target is neither reached nor refused, from somewhere.
        """
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(self.callers, pool.map(self._open_from, self.callers), strict=True))

    def _open_from(self, name: str) -> frozenset[str]:
        caller = self.callers[name]
        asked = {target: address for target, address in self.targets.items() if target != name}
        container = () if caller.container is None else ("-c", caller.container)
        said = self._get(
            "-n",
            caller.namespace,
            "exec",
            caller.pod,
            *container,
            "--",
            "python3",
            "-c",
            _TRIES,
            json.dumps(asked),
        )
        answers: dict[str, str] = json.loads(said)
        unclear = {target: answer for target, answer in answers.items() if answer not in ("open", "closed")}
        assert not unclear, f"from {name}: {unclear}"
        return frozenset(target for target, answer in answers.items() if answer == "open")

    @contextmanager
    def everything_flows(self) -> Iterator[None]:
        """With a policy that lets all of the namespace's Pods ask and be asked by everybody."""
        metadata = {"name": "everything-flows", "namespace": team.NAMESPACE}
        spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
        platform.apply_objects(
            self._node,
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": metadata,
                "spec": spec,
            },
        )
        try:
            yield
        finally:
            self._node.kubectl("-n", team.NAMESPACE, "delete", "networkpolicy", "everything-flows")

    def _one(self, namespace: str, selector: str, container: str | None = None) -> Caller:
        said = self._get("-n", namespace, "get", "pods", "-l", selector, "-o", "json")
        for pod in json.loads(said)["items"]:
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
            if conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
                return Caller(namespace, pod["metadata"]["name"], container)
        raise AssertionError(f"no Pod of {namespace} with {selector} is Ready")

    def _address(self, pod: str) -> str:
        return self._get("-n", team.NAMESPACE, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")

    def _get(self, *words: str) -> str:
        return self._node.kubectl(*words).stdout


def _idle(namespace: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """A Pod that waits to be told what to try, and listens."""
    container = {
        "name": "asks",
        "image": named("operator"),
        "imagePullPolicy": "Never",
        "command": ["python3", "-m", "http.server", str(_LISTENS)],
        "readinessProbe": {"tcpSocket": {"port": _LISTENS}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "containers": [container],
            "securityContext": security,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
        },
    }
