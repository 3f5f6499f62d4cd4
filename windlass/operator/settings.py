"""The operator's settings: environment variables, as a Deployment gives them."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.release import durations
from serving.release.release import Gateway
from windlass.errors import UsageError

#: Written by the kubelet into each pod.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: In an address, the namespace of whom it is for.
_PLACE = "{namespace}"
_EVIDENCE = ("runtime", "envoyGateway")


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes:
        namespaces: whose custom resources are looked after.
        lease_namespace: where the lease lies that the replicas share.
        identity: of this process.
        prometheus_url: None where there is none; releases whose checks need it are refused.
        evidence: whose counters say what a version answered: "runtime" (the model servers') or "envoyGateway".
        scrape_interval_s: how often Prometheus asks them.
        collector_url: the collector of predictions and feedback, see `collector_of`; None where there is none, then
            releases that rest on them are refused.
        mlflow_url: MLflow's server, where the champion's alias moves; None where the cluster alone knows it.
        gateway: of releases that state none.
        serving_options: a YAML file, how versions are served.
        look_every_s: how often a live release is looked at.
        port: of /metrics, /healthz and /readyz; 0 for any.
        kubeconfig: outside of a cluster.
    """

    namespaces: tuple[str, ...]
    lease_namespace: str
    identity: str
    prometheus_url: str | None = None
    evidence: str = "runtime"
    scrape_interval_s: float = 15.0
    collector_url: str | None = None
    mlflow_url: str | None = None
    gateway: Gateway = Gateway()  # noqa: RUF009 - frozen
    serving_options: Path | None = None
    look_every_s: float = 5.0
    port: int = 8080
    kubeconfig: Path | None = None

    def collector_of(self, namespace: str) -> str | None:
        """The address of a namespace's collector."""
        return self.collector_url and self.collector_url.replace(_PLACE, namespace)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        UsageError: a variable holds a value that is not understood, or nobody says which namespaces are meant.
    """
    env = os.environ if environ is None else environ
    own = env.get("POD_NAMESPACE") or _own_namespace()
    stated = [name.strip() for name in env.get("WINDLASS_NAMESPACES", "").split(",") if name.strip()]
    namespaces = tuple(dict.fromkeys(stated or ([own] if own else [])))
    if not namespaces:
        raise UsageError(
            "no namespace is known: set WINDLASS_NAMESPACES=NAME,… or POD_NAMESPACE (the chart sets it from the pod)"
        )
    for name in namespaces:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"WINDLASS_NAMESPACES: {name!r} is no namespace's name; separate names by commas"
            )
    evidence = env.get("WINDLASS_EVIDENCE", "runtime")
    if evidence not in _EVIDENCE:
        raise UsageError(f"WINDLASS_EVIDENCE={evidence!r} is not known; use {' or '.join(_EVIDENCE)}")
    options, kubeconfig = env.get("WINDLASS_SERVING_OPTIONS"), env.get("KUBECONFIG")
    return Settings(
        namespaces=namespaces,
        lease_namespace=own or namespaces[0],
        identity=_identity(env.get("POD_NAME")),
        prometheus_url=_address(env, "WINDLASS_PROMETHEUS_URL", "http://prometheus.monitoring:9090"),
        evidence=evidence,
        scrape_interval_s=_seconds(env, "WINDLASS_SCRAPE_INTERVAL", "15s"),
        collector_url=_collector(env, namespaces),
        mlflow_url=_address(env, "MLFLOW_TRACKING_URI", "http://mlflow:5000"),
        gateway=_gateway(env.get("WINDLASS_GATEWAY", "")),
        serving_options=Path(options) if options else None,
        look_every_s=_seconds(env, "WINDLASS_LOOK_EVERY", "5s"),
        port=_port(env.get("WINDLASS_PORT", "8080")),
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
    )


def _own_namespace() -> str | None:
    try:
        return _OWN_NAMESPACE.read_text().strip() or None
    except OSError:
        return None


def _identity(pod: str | None) -> str:
    """A name that no other process ever had: a pod's containers are started again under its name."""
    return f"{pod or socket.gethostname()}_{secrets.token_hex(4)}"


def _address(env: Mapping[str, str], name: str, example: str) -> str | None:
    value = env.get(name)
    if not value:
        return None
    if "@" in value.rpartition("://")[2].partition("/")[0]:
        # every message about it names the address, in the log and in statuses
        remedy = "leave it out of the address"
        if name == "MLFLOW_TRACKING_URI":
            remedy = "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise UsageError(f"{name} holds a user's name or password, which would be logged; {remedy}")
    if not value.startswith(("http://", "https://")):
        raise UsageError(f"{name}={value!r} is not an address; use for example {example}")
    return value.rstrip("/")


def _collector(env: Mapping[str, str], namespaces: tuple[str, ...]) -> str | None:
    name = "WINDLASS_COLLECTOR_URL"
    url = _address(env, name, "http://windlass-collector:8088")
    if url is None:
        return None
    if any(bracket in url.replace(_PLACE, "") for bracket in "{}"):
        raise UsageError(f"{name}={url!r}: of what stands in braces {_PLACE} alone is known")
    if len(namespaces) > 1 and _PLACE not in url:
        # a collector knows models by their names alone
        raise UsageError(
            f"{name}={url!r} is one collector for namespaces {', '.join(namespaces)}, which it does not tell apart: "
            "a release would be judged by what another namespace's model of the same name did. Give each its own, for "
            f"example http://windlass-collector.{_PLACE}:8088"
        )
    return url


def _seconds(env: Mapping[str, str], name: str, default: str) -> float:
    text = env.get(name) or default
    try:
        found = durations.parse(text).total_seconds()
    except ValueError:
        found = 0.0
    if found <= 0:
        raise UsageError(f"{name}={text!r} is no interval; use for example {default}")
    return found


def _gateway(text: str) -> Gateway:
    if not text:
        return Gateway()
    namespace, slash, name = text.partition("/")
    if not slash:
        namespace, name = "", text
    if not all(_NAME.fullmatch(part) for part in ([namespace] if slash else []) + [name]):
        raise UsageError(f"WINDLASS_GATEWAY={text!r} names no Gateway; use namespace/name")
    return Gateway(name=name, namespace=namespace or None)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise UsageError(f"WINDLASS_PORT={text!r} is no port; use for example 8080")
    return int(text)
