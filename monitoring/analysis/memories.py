"""What detection remembers of each version, kept from one analysis to the next: `analysis/<workload>/detection/`."""

from __future__ import annotations

import json
from pathlib import Path

from monitoring.analysis import store
from monitoring.analysis.drifting import Memory
from monitoring.detection import state as detection_state
from windlass.atomic import write_text
from windlass.settings import Settings


def load(settings: Settings, workload: str, version: str) -> Memory:
    """What is remembered of a version; nothing at the beginning.

    Raises:
        WindlassError: the file is damaged.
    """
    found = store.read(_path(settings, workload, version))
    if found is None:
        return Memory()
    state = detection_state.from_json(found["state"])
    return Memory(found["digest"], found["looked"], state, found["detection"])


def keep(settings: Settings, workload: str, version: str, memory: Memory) -> None:
    """Keep what is remembered, the judgement with the state that it led to."""
    document = {
        "digest": memory.digest,
        "looked": memory.looked,
        "state": detection_state.to_json(memory.state),
        "detection": memory.detection,
    }
    write_text(_path(settings, workload, version), json.dumps(document, allow_nan=False) + "\n")


def _path(settings: Settings, workload: str, version: str) -> Path:
    return store.folder(settings, workload) / "detection" / f"{version}.json"
