"""The objects of the kustomize base, which the chart renders, by what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def of(project: Path, name: str) -> dict[str, dict[str, Any]]:
    """The objects of one part, by kind: those that are called `name` or begin with it and a dash."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((project / "manifests" / "base").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            called = (document or {}).get("metadata", {}).get("name", "")
            if called == name or called.startswith(f"{name}-"):
                found[document["kind"]] = document
    return found
