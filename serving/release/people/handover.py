"""Releases that were handed over and have no journal: in the inbox, in the queue behind another, or refused.

A release goes from the inbox by way of the queue to its journal or to a refusal, and whoever moves it writes the new
place before the old one is cleared; so whoever looks in this order misses none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from serving.release.journal import mailbox, refusals
from serving.release.journal.store import DiskStore
from serving.release.people.account import Account
from windlass.settings import Settings


@dataclass(frozen=True)
class Handover:
    """A release without a journal.

    Attributes:
        at: when it came to this place.
        reason: of a refusal.
    """

    name: str
    place: Literal["inbox", "queue", "refused"]
    at: datetime
    reason: str | None = None

    @property
    def sentence(self) -> str:
        if self.place == "refused":
            return f"release {self.name} was refused by the platform: {self.reason}"
        if self.place == "inbox":
            return f"release {self.name} waits in the inbox for a platform to take it"
        return f"release {self.name} is queued behind a live release"


def inbox(settings: Settings, model: str) -> list[Handover]:
    """Letters of a model, oldest first."""
    return [
        Handover(release.name, "inbox", _time(path))
        for path, release in mailbox.submissions(mailbox.inbox(settings))
        if release.model == model
    ]


def queue(settings: Settings, model: str) -> list[Handover]:
    """Releases that wait behind the live one, the longest first."""
    folder = DiskStore(settings.journal_dir / "releases").directory / model / "queue"
    return [
        Handover(path.stem.partition("-")[2], "queue", _time(path))
        for path in sorted(folder.glob("[!.]*.json"))
    ]


def refused(settings: Settings, model: str) -> list[Handover]:
    """Refusals, newest first."""
    return [Handover(r.name, "refused", r.time, r.reason) for r in refusals.find(settings, model)]


def models(settings: Settings) -> list[str]:
    """Models of which something is handed over and was not begun."""
    letters = {release.model for _, release in mailbox.submissions(mailbox.inbox(settings))}
    return sorted(letters | set(refusals.models(settings)))


def news(settings: Settings, model: str, told: Account | None) -> list[Handover]:
    """What came after a release began, the newest first: letters, and refusals since then."""
    name, began = (None, None) if told is None else (told.release.name, told.began)
    letters = [waiting for waiting in inbox(settings, model) if waiting.name != name]
    since = [r for r in refused(settings, model) if began is None or r.at > began]
    return [*reversed(letters), *since]


def plain(settings: Settings, model: str) -> dict[str, Any]:
    """The three places as JSON shows them."""
    return {
        "inbox": [waiting.name for waiting in inbox(settings, model)],
        "queued": [waiting.name for waiting in queue(settings, model)],
        "refused": [
            {"release": r.name, "reason": r.reason, "at": r.at.isoformat()} for r in refused(settings, model)
        ],
    }


def _time(path: Path) -> datetime:
    """When a letter was written, by its name."""
    try:
        return datetime.strptime(path.stem.partition("-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)  # one that a person put there
