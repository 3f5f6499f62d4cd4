"""What the running platform tells other commands: `run/platform.json`, written when it is ready."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windlass import atomic
from windlass.errors import WindlassError
from windlass.local import lock
from windlass.settings import Settings


def path(settings: Settings) -> Path:
    return settings.run_dir / "platform.json"


def lock_path(settings: Settings) -> Path:
    return settings.run_dir / "platform.lock"


def write(settings: Settings, content: Mapping[str, Any]) -> None:
    atomic.write_text(path(settings), json.dumps(content, indent=2) + "\n")


def write_if_changed(settings: Settings, content: Mapping[str, Any]) -> None:
    """As `write`, without touching the disk where nothing changed."""
    if not path(settings).is_file() or json.loads(path(settings).read_text()) != json.loads(
        json.dumps(content)
    ):
        write(settings, content)


def clear(settings: Settings) -> None:
    path(settings).unlink(missing_ok=True)


def running(settings: Settings) -> dict[str, Any] | None:
    """The description of a platform whose engine runs, None where none does."""
    return None if lock.holder(lock_path(settings)) is None else described(settings)


def serving(settings: Settings) -> dict[str, Any] | None:
    """As `running`, also of a platform whose data plane goes on without its engine; None where nothing serves.

    A file left by a platform that died with all its processes does not count.
    """
    content = running(settings)
    if content is not None:
        return content
    from windlass.local.plane import ENVOY, DataPlane

    plane = DataPlane(settings)
    return described(settings) if plane.exists() and plane.records.find(ENVOY) is not None else None


def read(settings: Settings) -> dict[str, Any]:
    """As `serving`.

    Raises:
        WindlassError: nothing serves.
    """
    content = serving(settings)
    if content is None:
        raise WindlassError(f"no platform runs on {settings.home}; start one with `windlass up --detach`")
    return content


def described(settings: Settings) -> dict[str, Any] | None:
    """The description as it lies there, whoever wrote it."""
    if not path(settings).is_file():
        return None
    content: dict[str, Any] = json.loads(path(settings).read_text())
    return content
