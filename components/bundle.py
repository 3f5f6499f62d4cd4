"""The serving bundle: one folder a version with all that a model server needs, published by one rename."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from components import cache, signing
from serving.runtime.manifest import Form
from windlass.atomic import replacing_folder
from windlass.contract import Workload
from windlass.errors import UsageError
from windlass.features import ondemand

MANIFEST = "serving.json"
MODEL_FILE = "model.onnx"
FORMAT_VERSION = 1
FEAST_PROJECT = "windlass"


def entry(form: Form) -> dict[str, Any]:
    """Return a form as an entry of `forms`."""
    stated = {k: v for k, v in asdict(form).items() if v not in (None, ())}
    return stated | ({"trusted": list(form.trusted)} if form.trusted else {})


def manifest(
    workload: Workload,
    defaults: Mapping[str, float | None],
    model_sha256: str,
    forms: Sequence[Mapping[str, Any]] = (),
    sha256: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the document of a bundle, all but its version.

    Args:
        forms: entries of `forms`; the first is `model.onnx`, which is the only one where none is given.
        sha256: the digests of the other forms' files.
    """
    inputs: list[dict[str, Any]] = [
        {"name": f, "view": v.name, "default": defaults[f]} for v in workload.views for f in v.features
    ]
    inputs += [
        {"name": f.name, "view": None, "categories": list(f.categories) or None, "default": defaults[f.name]}
        for f in workload.request_fields
    ]
    # made at every request: there is no default to fall back to
    inputs += [
        {"name": o, "view": None, "default": None, "transformation": t.name}
        for t in workload.transformations
        for o in t.outputs
    ]
    code = [ondemand.code_of(t) for t in workload.transformations]
    return {
        "format_version": FORMAT_VERSION,
        "model": workload.name,
        "model_file": MODEL_FILE,
        "model_format": "onnx",
        "sha256": {
            MODEL_FILE: model_sha256,
            **(sha256 or {}),
            **{c.file: hashlib.sha256(c.content).hexdigest() for c in code},
        },
        **({"forms": [dict(f) for f in forms]} if forms else {}),
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
        **({"transformations": [c.entry() for c in code]} if code else {}),
        "output": "probability",
        **({} if workload.static_answer is None else {"static_answer": workload.static_answer}),
    }


def publish(
    bundles_dir: Path, model: str, version: str, source: Path, keys: signing.Keys | None = None
) -> Path:
    """Copy a folder's bundle to its place as `version`, signed by `keys`; a bundle that is there is replaced.

    A source that is signed is verified first: nobody's files get a signature of ours by way of it. Without keys the
    bundle is unsigned.

    Raises:
        UsageError: the source's signature does not hold, or the keys cannot be used.
    """
    with replacing_folder(bundles_dir / model / version) as folder:
        shutil.copytree(source, folder)
        if (folder / signing.SIGNATURE).exists():
            if keys is not None:
                signing.verify(folder, keys.public, name=str(source))
            (folder / signing.SIGNATURE).unlink()
        document = json.loads((folder / MANIFEST).read_text())
        document["version"] = version
        (folder / MANIFEST).unlink()
        cache.write_json(folder / MANIFEST, document)
        if keys is not None:
            signing.sign(folder, keys)
    return bundles_dir / model / version


def restore(bundles_dir: Path, model: str, version: str, source: Path, keys: signing.Keys) -> Path:
    """Copy a published bundle back to its place as it is, with the signature of who registered it.

    Raises:
        UsageError: its signature does not hold, or it is another version's bundle.
    """
    with replacing_folder(bundles_dir / model / version) as folder:
        shutil.copytree(source, folder)
        signing.verify(folder, keys.public, name=f"model {model!r} version {version!r} in the registry")
        document = json.loads((folder / MANIFEST).read_text())
        found = (document["model"], document["version"])
        if found != (model, version):
            raise UsageError(
                f"the registry's artifacts of model {model!r} version {version!r} hold the bundle of {found}; "
                "register the version again"
            )
    return bundles_dir / model / version
