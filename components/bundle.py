"""The serving bundle: one folder a version with all that a model server needs, published by one rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from components import cache
from windlass.atomic import sync_directory
from windlass.contract import Workload

MANIFEST = "serving.json"
MODEL_FILE = "model.onnx"
FORMAT_VERSION = 1
FEAST_PROJECT = "windlass"


def manifest(workload: Workload, defaults: Mapping[str, float | None], model_sha256: str) -> dict[str, Any]:
    """Return the document of a bundle, all but its version."""
    inputs: list[dict[str, Any]] = [
        {"name": f, "view": v.name, "default": defaults[f]} for v in workload.views for f in v.features
    ]
    inputs += [
        {"name": f.name, "view": None, "categories": list(f.categories) or None, "default": defaults[f.name]}
        for f in workload.request_fields
    ]
    return {
        "format_version": FORMAT_VERSION,
        "model": workload.name,
        "model_file": MODEL_FILE,
        "model_format": "onnx",
        "sha256": {MODEL_FILE: model_sha256},
        "feature_service": workload.feature_service,
        "feast_project": FEAST_PROJECT,
        "entities": list(workload.entities),
        "views": [
            {
                "name": v.name,
                "entity": v.entity,
                "ttl_seconds": int(v.ttl / timedelta(seconds=1)),
                "features": list(v.features),
            }
            for v in workload.views
        ],
        "inputs": inputs,
        "output": "probability",
    }


def publish(bundles_dir: Path, model: str, version: str, source: Path) -> Path:
    """Copy a folder with an unversioned bundle to its place as `version`; a bundle that is there is replaced."""
    shelf = bundles_dir / model
    shelf.mkdir(parents=True, exist_ok=True)
    place = shelf / version
    with tempfile.TemporaryDirectory(dir=shelf, prefix=f".{version}-") as name:
        folder = Path(name) / "bundle"
        shutil.copytree(source, folder)
        document = json.loads((folder / MANIFEST).read_text())
        document["version"] = version
        (folder / MANIFEST).unlink()
        cache.write_json(folder / MANIFEST, document)
        for path in folder.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        if place.exists():
            place.rename(Path(name) / "replaced")
        folder.rename(place)
        sync_directory(shelf)
    return place
