"""Releases that a platform refused after they had been handed over, each with the reason: what has no journal.

Whoever handed a release over has gone by then, so the reason is kept for `wait`, `status` and `explain` until the same
name is handed over again: `run/releases/refused/<model>/<name>.json` {"model", "name", "reason", "at"}.

A platform records the refusal before it removes the letter or the place in the queue, so that at every instant one of
them says what became of the release.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from windlass import atomic
from windlass.settings import Settings


@dataclass(frozen=True)
class Refusal:
    """One release that will not begin.

    Attributes:
        at: ISO time of the refusal.
    """

    model: str
    name: str
    reason: str
    at: str

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)


def record(settings: Settings, model: str, name: str, reason: str, at: datetime) -> Path:
    """Keep why a release was refused; of one name the newest refusal counts."""
    path = _folder(settings, model) / f"{name}.json"
    atomic.write_text(path, json.dumps(asdict(Refusal(model, name, reason, at.isoformat()))))
    return path


def find(settings: Settings, model: str, name: str | None = None) -> list[Refusal]:
    """Refusals of a model, or of one name of it, the newest first."""
    found = []
    for path in _folder(settings, model).glob("[!.]*.json"):
        try:
            refusal = Refusal(**json.loads(path.read_bytes()))
            found.append((refusal.time, refusal))
        except (FileNotFoundError, TypeError, ValueError):
            continue  # cleared meanwhile, or no refusal of ours
    newest = sorted(found, key=lambda pair: pair[0], reverse=True)
    return [refusal for _, refusal in newest if name is None or refusal.name == name]


def clear(settings: Settings, model: str, name: str) -> None:
    """Forget a refusal: the name is handed over again, or has begun."""
    (_folder(settings, model) / f"{name}.json").unlink(missing_ok=True)


def models(settings: Settings) -> list[str]:
    """Models of which a release was refused."""
    return sorted(path.name for path in _folder(settings, "").glob("*") if any(path.glob("[!.]*.json")))


def _folder(settings: Settings, model: str) -> Path:
    return settings.run_dir / "releases" / "refused" / model
