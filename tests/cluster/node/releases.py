"""Releases on the node: their objects, phases and conditions, and who is champion and who leads."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.node import team
from tests.cluster.node.node import Node
from tests.cluster.node.platform import apply_objects

MODEL = "flights"
IMAGES = ("gateway", "operator", "redis", "serving", "training")
#: Fields of a check that holds a candidate to what the champion does at the same time.
_GUARDRAIL = {"kind": "guardrail", "source": "prometheus", "relativeToChampion": True, "alpha": 0.01}


def get(node: Node, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        node.kubectl("-n", team.NAMESPACE, "get", kind, name, "-o", "json").stdout
    )
    return found


def apply_canary(node: Node, candidate: str, steps: list[dict[str, Any]]) -> str:
    """Apply a canary of `candidate`; returns the release's name."""
    name = f"{MODEL}-{candidate}"
    document = {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name, "namespace": team.NAMESPACE},
        "spec": {
            "model": MODEL,
            "candidate": candidate,
            "backend": "gateway",
            "gateway": {"name": "windlass", "namespace": team.NAMESPACE},
            "strategy": {"type": "canary", "steps": steps},
            "checks": [
                {"name": "errors", "metric": "errorRate", **_GUARDRAIL},
                {"name": "p99", "metric": "latencyP99", "bound": "50ms", **_GUARDRAIL},
            ],
        },
    }
    apply_objects(node, document)
    return name


def condition(node: Node, kind: str, name: str, which: str) -> dict[str, Any]:
    """A condition of an object; of status Unknown where it has none."""
    found: list[dict[str, Any]] = get(node, kind, name).get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == which), {"status": "Unknown"})


def phase(node: Node, name: str) -> str:
    return str(get(node, "release", name).get("status", {}).get("phase", ""))


def champion(node: Node) -> str:
    """Who holds the alias, as MLflow's server says."""
    words = "http://localhost:5000/api/2.0/mlflow/registered-models/alias?name=flights&alias=champion"
    code = f"import urllib.request as u; print(u.urlopen({words!r}).read().decode())"
    done = node.kubectl("-n", team.NAMESPACE, "exec", "deploy/windlass-mlflow", "--", "python3", "-c", code)
    return str(json.loads(done.stdout)["model_version"]["version"])


def leader(node: Node) -> str:
    """The pod of the operator that leads; empty where none does."""
    return str(get(node, "lease", "windlass-operator")["spec"].get("holderIdentity") or "").rpartition("_")[0]
