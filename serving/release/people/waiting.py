"""Waiting for a release to come to its end, as a pipeline does: by reading what the platform writes, and nothing else.

A release may wait in the inbox (no platform has taken it yet), in the queue behind another one, or be live. Its name is
settled at the first look, so that a release that begins later is not mistaken for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from serving.release.journal import mailbox
from serving.release.journal.store import DiskStore, Record
from serving.release.people import account, outcome
from serving.release.people.account import Account
from serving.release.people.outcome import Outcome
from windlass.errors import UsageError
from windlass.settings import Settings

Place = Literal["inbox", "queue", "journal"]


@dataclass(frozen=True)
class Found:
    """Where a release is.

    Attributes:
        told: its journal; None while it has none.
    """

    name: str
    place: Place
    told: Account | None = None


@dataclass(frozen=True)
class Waited:
    """What waiting came to; `outcome` is None where the time was over first."""

    found: Found
    outcome: Outcome | None

    @property
    def exit_code(self) -> int:
        return outcome.TIMED_OUT if self.outcome is None else outcome.EXIT_CODES[self.outcome]


def locate(settings: Settings, model: str, name: str | None = None) -> Found:
    """The release of that name, or the one that was handed over last.

    Raises:
        UsageError: there is none.
    """
    store = DiskStore(settings.journal_dir / "releases")
    handed = [r.name for _, r in mailbox.submissions(mailbox.inbox(settings)) if r.model == model]
    queued = [waiting for waiting, _ in store.queued(model)]
    if name is None and handed:
        return Found(handed[-1], "inbox")
    if name is None and queued:
        return Found(queued[-1], "queue")
    try:
        told = account.find(store.directory, model, name)
    except UsageError:
        # also a journal whose first line was not completed: its letter is still there
        if name in queued:
            return Found(str(name), "queue")
        if name in handed:
            return Found(str(name), "inbox")
        raise
    return Found(told.release.name, "journal", told)


def wait(
    settings: Settings,
    model: str,
    name: str | None,
    timeout: timedelta | None,
    *,
    sleep: Callable[[float], None],
    passed: Callable[[], float],
    every: float = 0.5,
    say: Callable[[Found], None] = lambda found: None,
) -> Waited:
    """Wait until the release is over, stuck, or `timeout` has passed.

    Args:
        passed: seconds since the beginning.
        say: told of where the release is whenever that changed.

    Raises:
        UsageError: there is no such release, or the platform refused it while we waited.
    """
    found = locate(settings, model, name)
    reader = Reader(settings, model, found.name)
    before: tuple[str, int] | None = None
    while True:
        seen = reader.where()
        if seen is None:
            raise UsageError(
                f"release {found.name!r} of {model!r} is not waiting any more and was never started: the platform "
                "refused it; `windlass release lint -f FILE` and the platform's output say why"
            )
        now = (seen.place, 0 if seen.told is None else seen.told.history.seq)
        if now != before:
            say(seen)
            before = now
        came = None if seen.told is None else outcome.settled(seen.told.history)
        if came is not None:
            return Waited(seen, came)
        left = None if timeout is None else timeout.total_seconds() - passed()
        if left is not None and left <= 0:
            return Waited(seen, None)
        sleep(every if left is None else min(every, left))


class Reader:
    """One release on the disk; of its journal only what was added since the last look is read."""

    def __init__(self, settings: Settings, model: str, name: str) -> None:
        self._settings = settings
        self._store = DiskStore(settings.journal_dir / "releases")
        self._model = model
        self._name = name
        self._read = 0
        self._records: list[Record] = []
        self._last: Found | None = None

    def where(self) -> Found | None:
        """Where it is; None where neither a letter, nor a place in the queue, nor a journal is left."""
        found = self._journal()
        if found is None:
            try:
                found = locate(self._settings, self._model, self._name)
            except UsageError:
                # it has a journal before it leaves inbox and queue: whatever was missed is there now
                found = self._journal()
        return found

    def _journal(self) -> Found | None:
        entries = [entry for entry in self._store.entries(self._model) if entry.name == self._name]
        if entries and self._grown(self._store.path(entries[-1])):
            told = account.of_records(entries[-1], self._records)
            self._last = None if told is None else Found(self._name, "journal", told)
        return self._last

    def _grown(self, path: Path) -> bool:
        """Take in the lines that were completed since; a journal never shrinks but by a torn line."""
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        self._read += data.rfind(b"\n") + 1
        self._records += [json.loads(line) for line in lines]
        return bool(lines)
