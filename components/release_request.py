"""The release that a candidate asks for: the workload's own plan with the versions filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from windlass import atomic
from windlass.contract import Workload

API_VERSION = "windlass.dev/v1alpha1"


def document(workload: Workload, candidate: str, champion: str, backend: str = "local") -> dict[str, Any]:
    """Return the Release document."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Release",
        "metadata": {"name": f"{workload.name.replace('_', '-')}-{candidate}"},
        "spec": {
            "model": workload.name,
            "candidate": candidate,
            "champion": champion,
            "backend": backend,
            **_plain(workload.release),
        },
    }


def write(path: Path, release: dict[str, Any]) -> None:
    """Write the document, all or nothing."""
    import yaml

    atomic.write_text(path, yaml.safe_dump(release, sort_keys=False))


def _plain(value: Any) -> Any:
    """Mappings and sequences of a workload may be read-only kinds that YAML does not know."""
    from collections.abc import Mapping, Sequence

    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
