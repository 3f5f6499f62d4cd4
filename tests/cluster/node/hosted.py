"""Programs of this machine in Pods of the node: no image is made of them, that of `pause` sees their folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.node.images import named

PROGRAM = "/opt/program"


def deployment(
    namespace: str,
    name: str,
    program: Path,
    arguments: Sequence[str],
    *,
    container: dict[str, Any],
    pod: dict[str, Any] | None = None,
    volumes: dict[str, tuple[str, dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """A Deployment of one Pod, labelled `app: NAME`, that runs a program.

    Args:
        program: its path on this machine; what lies beside it is seen by the Pod too, and not written.
        arguments: its arguments.
        container: more of the container: ports, probes.
        pod: more of the Pod: its service account.
        volumes: name -> (where it is mounted, the volume's source).
    """
    volumes = {
        "program": (PROGRAM, {"hostPath": {"path": str(program.resolve().parent)}}),
        **(volumes or {}),
    }
    labels = {"app": name}
    runs = {
        "name": name,
        "image": named("pause"),
        "imagePullPolicy": "Never",
        "command": [f"{PROGRAM}/{program.name}", *arguments],
        "volumeMounts": [
            {"name": volume, "mountPath": place, "readOnly": volume == "program"}
            for volume, (place, _) in volumes.items()
        ],
        **container,
    }
    sources = [{"name": volume, **source} for volume, (_, source) in volumes.items()]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            # two would want the same ports and the same files
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [runs],
                    "volumes": sources,
                    "enableServiceLinks": False,
                    **(pod or {}),
                },
            },
        },
    }


def service(
    namespace: str, name: str, app: str, ports: Sequence[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """A Service in front of such a Deployment."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"selector": {"app": app}, "ports": list(ports), **more},
    }
