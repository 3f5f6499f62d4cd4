"""A team's namespace on the node: volumes, secrets, a Prometheus, and the chart with the values of kind."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.cluster.node import hosted
from tests.cluster.node.images import ROOT, named
from tests.cluster.node.node import Node
from tests.cluster.node.platform import apply_objects, wait
from windlass import atomic

NAMESPACE = "windlass"
KIND = ROOT / "manifests" / "kind"
CHART = ROOT / "helm" / "windlass"
SCRAPED_EVERY = "2s"
_VOLUMES = 6


def prepare(node: Node, prometheus: Path) -> None:
    """Make what an administrator makes: the namespace, its volumes and secrets, and a Prometheus that scrapes it.

    Args:
        prometheus: the program.
    """
    namespace = yaml.safe_load((ROOT / "manifests" / "overlays" / "kind" / "namespace.yaml").read_text())
    apply_objects(node, namespace)
    volumes = []
    for number in range(_VOLUMES):
        folder = node.folder / "volumes" / str(number)
        folder.mkdir(parents=True)
        # a path of the host does not follow a pod's fsGroup
        folder.chmod(0o777)
        spec = {
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(folder)},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        volumes.append(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"v{number}"}, "spec": spec}
        )
    apply_objects(node, *volumes, *_secrets(node))
    _prometheus(node, prometheus)


def _secrets(node: Node) -> list[dict[str, Any]]:
    """As manifests/kind/up.sh makes them."""
    work = node.folder / "secrets"
    work.mkdir(mode=0o700)
    private, public = work / "signing.pem", work / "verify.pem"
    for words in (
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(private)],
        ["pkey", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def made(kind: str, name: str, **content: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            **content,
        }

    pair = {path.name: path.read_text() for path in (private, public)}
    return [
        made("Secret", "windlass-signing-key", stringData=pair),
        made("ConfigMap", "windlass-verify-key", data={"verify.pem": pair["verify.pem"]}),
        made("Secret", "windlass-retrain-token", stringData={"token": secrets.token_hex(32)}),
    ]


def _prometheus(node: Node, program: Path) -> None:
    """A Prometheus where the chart expects it; Debian's knows no Kubernetes, so `Discovery` tells it what to scrape."""
    work = node.folder / "prometheus"
    work.mkdir()
    job = {
        "job_name": "models",
        "honor_labels": True,
        "scrape_interval": SCRAPED_EVERY,
        "file_sd_configs": [{"files": ["/prometheus/targets.json"], "refresh_interval": "1s"}],
    }
    (work / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    url = urlsplit(_kind()["prometheus"]["url"])
    name, _, namespace = str(url.hostname).partition(".")
    found = hosted.deployment(
        namespace,
        "prometheus",
        program,
        [
            "--config.file=/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus/data",
            f"--web.listen-address=:{url.port}",
        ],
        container={
            "readinessProbe": {"httpGet": {"path": "/-/ready", "port": url.port}, "periodSeconds": 1},
            # the folder is root's
            "securityContext": {"runAsUser": 0},
        },
        volumes={"prometheus": ("/prometheus", {"hostPath": {"path": str(work)}})},
    )
    apply_objects(
        node,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        found,
        hosted.service(namespace, name, "prometheus", [{"name": "http", "port": url.port}]),
    )


class Discovery:
    """Tells Prometheus the pods of model servers, as the chart's PodMonitor would; a context manager."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._file = node.folder / "prometheus" / "targets.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Discovery:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _follow(self) -> None:
        while not self._stop.wait(1.0):
            asked = self._node.kubectl(
                "-n",
                NAMESPACE,
                "get",
                "pods",
                "-l",
                "serving.kserve.io/inferenceservice",
                "-o",
                "json",
                check=False,
            )
            if asked.returncode:
                continue  # the API server is being tried; what was known last still stands
            found = [
                {
                    "targets": [f"{pod['status']['podIP']}:8080"],
                    "labels": {"pod": pod["metadata"]["name"], "namespace": NAMESPACE},
                }
                for pod in json.loads(asked.stdout)["items"]
                if pod["status"].get("podIP") and pod["status"].get("phase") == "Running"
            ]
            atomic.write_text(self._file, json.dumps(found))


def values(node: Node, **more: Any) -> Path:
    """The values that the chart is installed with: those of kind, and where things are on this node."""
    name, tag = named("redis").split(":")
    changes = {
        "kubeflow": {"url": ""},
        "redis": {"image": {"repository": name, "tag": tag}},
        "monitoring": {"serviceMonitors": False, "rules": False, "interval": SCRAPED_EVERY},
        # nobody else's pods are on the node, and it has two cores
        "mlflow": {"resources": {"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}}},
        "features": {
            "resources": {"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}
        },
        **more,
    }
    file = node.folder / "values.yaml"
    file.write_text(yaml.safe_dump(_merged(_kind(), changes)))
    return file


def _kind() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values-kind.yaml").read_text())
    return found


def install(node: Node, file: Path, *words: str) -> None:
    """`helm upgrade --install`, as up.sh says it."""
    node.wait_for_images()
    node.helm(
        "upgrade", "--install", "windlass", CHART, "--namespace", NAMESPACE, "--values", file, "--wait",
        "--timeout", "10m", *words, timeout=700,
    )  # fmt: skip


def roll_back(node: Node) -> None:
    """`helm rollback` to the revision before."""
    node.helm("rollback", "windlass", "--namespace", NAMESPACE, "--wait", "--timeout", "10m", timeout=700)


def train(node: Node, name: str, first: str, last: str) -> str:
    """Train a version in a Job, as manifests/kind/train-flights.yaml does, and return the version."""
    job = yaml.safe_load((KIND / "train-flights.yaml").read_text())
    trains = job["spec"]["template"]["spec"]["initContainers"][0]
    trains["args"] = ["--from", first, "--to", last, "--trials", "2", "--run-id", name, "--json"]
    return _version(node, name, job)


def begin_features(node: Node, name: str, workload: str) -> None:
    """Start a Job as the chart's CronJob would, at its next time."""
    cron = f"--from=cronjob/windlass-materialize-{workload}"
    node.kubectl("-n", NAMESPACE, "create", "job", name, cron)


def features(node: Node, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two containers of such a Job said: of the offline rows, and of the online store."""
    wait(lambda: _done(node, name), f"the Job {name} ends", 300)
    said = (
        node.kubectl("-n", NAMESPACE, "logs", f"job/{name}", "-c", container).stdout.strip().splitlines()[-1]
        for container in ("build", "materialize")
    )
    built, filled = map(json.loads, said)
    return built, filled


def slow_version(node: Node, name: str, model: str, version: str) -> str:
    """Register a version once more whose model answers the same and far too slowly, and return the new version."""
    job = yaml.safe_load((KIND / "train-flights.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (makes,) = pod.pop("initContainers")
    makes["command"] = ["python3", "-c", (Path(__file__).parent / "slow_version.py").read_text()]
    makes["args"] = [model, version]
    pod["containers"] = [makes]
    return _version(node, name, job)


def _version(node: Node, name: str, job: dict[str, Any]) -> str:
    """Run a Job whose container `train` says as its last word which version it made."""
    job["metadata"]["name"] = name
    pod = job["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        # two cores are all there is
        container["resources"] = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "6Gi"}}
    apply_objects(node, job)
    wait(lambda: _done(node, name), f"the Job {name} ends", 900)
    said = node.kubectl("-n", NAMESPACE, "logs", f"job/{name}", "-c", "train").stdout.strip().splitlines()[-1]
    return str(json.loads(said)["version"])


def _done(node: Node, name: str) -> bool:
    status = json.loads(node.kubectl("-n", NAMESPACE, "get", "job", name, "-o", "json").stdout).get(
        "status", {}
    )
    if status.get("failed"):
        words = node.kubectl(
            "-n", NAMESPACE, "logs", f"job/{name}", "--all-containers", "--tail=30", check=False
        )
        raise AssertionError(f"the Job {name} failed:\n{words.stdout}{words.stderr}")
    return bool(status.get("succeeded"))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for key, value in other.items():
        before = found.get(key)
        found[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found
