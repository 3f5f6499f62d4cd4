"""Where the prediction logs stood when a release began: what lies before that is none of its evidence.

By position and not by time, because a record carries the time of its event, which lies years before the release where
the platform's clock stands. Kept on disk, so that a platform that is started again reads from the same place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from windlass import atomic
from windlass.settings import Settings

#: Bytes in which a log's last requests are looked for.
LAST = 64 * 1024

Offsets = Mapping[str, int]
"""Name of a log file -> bytes."""


def _path(settings: Settings, model: str, release: str) -> Path:
    return settings.run_dir / "releases" / "positions" / model / f"{release}.json"


def keep(settings: Settings, model: str, release: str, offsets: Offsets) -> None:
    """Keep where a release begins; before its first decision, since from then on it must never move."""
    atomic.write_text(_path(settings, model, release), json.dumps(dict(offsets)))


def kept(settings: Settings, model: str, release: str) -> Offsets:
    """Where a release began: at the beginning of everything where nobody kept it."""
    try:
        found: Offsets = json.loads(_path(settings, model, release).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def ends(folder: Path) -> dict[str, int]:
    """Where the logs end now."""
    return {path.name: path.stat().st_size for path in folder.glob("*.jsonl")}


def shortly_before(offsets: Offsets) -> dict[str, int]:
    return {name: max(0, offset - LAST) for name, offset in offsets.items()}
