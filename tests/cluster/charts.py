"""The chart for its tests: what it is rendered from, helm, the pods in what it renders, and who selects them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.generate import ENVIRONMENTS, documents, environment_values
from tests.cluster.tools.build import tool

#: Values that switch every part on, and use every way to say something.
EVERYTHING = Path(__file__).parent / "everything.yaml"
#: Values files by what they are called in the tests.
SOURCES: dict[str, list[Path]] = {
    "default": [],
    "everything": [EVERYTHING],
    **{name: environment_values(name) for name in ENVIRONMENTS},
}
#: Kinds whose objects hold a pod's template, and where.
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [tool("helm"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def pods(text: str) -> dict[str, dict[str, Any]]:
    """The pods that a text's objects start, by the name of the object: metadata and spec."""
    found: dict[str, dict[str, Any]] = {}
    for document in documents(text).values():
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "Pod":
            found[name] = {"metadata": document["metadata"], "spec": document["spec"]}
        elif kind == "RayCluster":
            found[f"{name}-head"] = document["spec"]["headGroupSpec"]["template"]
            for group in document["spec"]["workerGroupSpecs"]:
                found[f"{name}-{group['groupName']}"] = group["template"]
        elif kind in TEMPLATES:
            template = document
            for part in TEMPLATES[kind]:
                template = template[part]
            found[name] = template
    return found


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects a pod."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        {
            "In": lambda e: labels.get(e["key"]) in e["values"],
            "NotIn": lambda e: labels.get(e["key"]) not in e["values"],
            "Exists": lambda e: e["key"] in labels,
        }[expression["operator"]](expression)
        for expression in selector.get("matchExpressions", ())
    )
