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
    """The platform's own description, None where none runs (a file left by a killed one does not count)."""
    if lock.holder(lock_path(settings)) is None or not path(settings).is_file():
        return None
    content: dict[str, Any] = json.loads(path(settings).read_text())
    return content


def read(settings: Settings) -> dict[str, Any]:
    """As `running`.

    Raises:
        WindlassError: no platform runs.
    """
    content = running(settings)
    if content is None:
        raise WindlassError(f"no platform runs on {settings.home}; start one with `windlass up --detach`")
    return content
