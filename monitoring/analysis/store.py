"""Where analyses lie: `analysis/<workload>/<end of the window>.json`, `latest.json`, and how the last attempt went.

One window has one file, so that a job that is started twice writes the same file twice; each appears whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from windlass.atomic import write_text
from windlass.errors import WindlassError
from windlass.settings import Settings

LATEST = "latest.json"
STATUS = "status.json"
KEPT = timedelta(days=90)
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Status:
    """How the analysis of a workload goes; times are epoch seconds, None where it never did.

    Attributes:
        error: what the last attempt said; None where it succeeded.
        seconds: how long the last success took.
    """

    attempt: float | None = None
    success: float | None = None
    seconds: float | None = None
    error: str | None = None


def root(settings: Settings) -> Path:
    return settings.home / "analysis"


def folder(settings: Settings, workload: str) -> Path:
    return root(settings) / workload


def workloads(settings: Settings) -> list[str]:
    """Workloads that an analysis was attempted of."""
    return sorted(p.parent.name for p in root(settings).glob(f"*/{STATUS}"))


def name(end: float) -> str:
    """Name of the file of the window that ends at `end` (epoch seconds)."""
    return f"{datetime.fromtimestamp(end, UTC):{STAMP}}.json"


def write(
    settings: Settings, workload: str, end: float, document: Mapping[str, Any], *, wall: float = math.inf
) -> Path:
    """Keep an analysis; `latest.json` stays where it is of a later window.

    Args:
        wall: what the clock says, epoch seconds. A window that ends later is of a clock that was ahead, and gives way.

    Raises:
        WindlassError: it cannot be written.
    """
    directory = folder(settings, workload)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    path = directory / name(end)
    write_text(path, text)
    newest = latest(settings, workload)
    if newest is None or newest["end"] <= document["end"] or newest["end"] > wall:
        write_text(directory / LATEST, text)
    _forget(directory, end)
    return path


def latest(settings: Settings, workload: str) -> dict[str, Any] | None:
    """The newest analysis of a workload; None where there is none.

    Raises:
        WindlassError: the file is damaged.
    """
    return read(folder(settings, workload) / LATEST)


def status(settings: Settings, workload: str) -> Status:
    """How the analysis of a workload goes."""
    found = read(folder(settings, workload) / STATUS)
    return Status() if found is None else Status(**found)


def note(settings: Settings, workload: str, status: Status) -> None:
    """Keep how it goes."""
    write_text(folder(settings, workload) / STATUS, json.dumps(asdict(status)) + "\n")


def read(path: Path) -> dict[str, Any] | None:
    """One JSON object; None where there is no such file.

    Raises:
        WindlassError: it is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WindlassError(
            f"{path} is damaged ({error}); remove it, the next analysis writes it anew"
        ) from error
    return found


def _forget(directory: Path, end: float) -> None:
    oldest = name(end - KEPT.total_seconds())
    for path in directory.glob("[0-9]*T*Z.json"):
        if path.name < oldest:
            path.unlink(missing_ok=True)
