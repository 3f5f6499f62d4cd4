"""Waiting for a release to come to its end, as a pipeline does: by reading what the platform writes, and nothing else.

A release may wait in the inbox (no platform has taken it yet), in the queue behind another one, be live, or have been
refused. Its name is settled at the first look, so that a release that begins later is not mistaken for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from serving.release.journal import history
from serving.release.journal.store import DiskStore, Record
from serving.release.people import account, handover, outcome
from serving.release.people.account import Account
from serving.release.people.handover import Handover
from serving.release.people.outcome import Outcome
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

Place = Literal["inbox", "queue", "refused", "journal"]


@dataclass(frozen=True)
class Found:
    """Where a release is.

    Attributes:
        told: its journal; None while it has none.
        handed: its letter, place in the queue or refusal; None of one that has a journal.
    """

    name: str
    place: Place
    told: Account | None = None
    handed: Handover | None = None


@dataclass(frozen=True)
class Waited:
    """What waiting came to.

    Attributes:
        outcome: None where the time was over first, and of a release that was refused.
        pending: what is still to be done of an outcome whose traffic is in force.
    """

    found: Found
    outcome: Outcome | None
    pending: str | None = None

    @property
    def word(self) -> str:
        return self.outcome or ("refused" if self.found.place == "refused" else "timed_out")

    @property
    def exit_code(self) -> int:
        if self.outcome is not None:
            return outcome.EXIT_CODES[self.outcome]
        return outcome.REFUSED if self.found.place == "refused" else outcome.TIMED_OUT


def locate(settings: Settings, model: str, name: str | None = None) -> Found:
    """The release of that name, or the one that was handed over last, wherever it has come to.

    A release that was over before the last hand-over is never it.

    Raises:
        UsageError: there is none.
    """
    letters, queued = handover.inbox(settings, model), handover.queue(settings, model)
    if name is None and letters:
        return _handed(letters[-1])
    # read after inbox and queue: what has left them meanwhile is here
    refused = [r for r in handover.refused(settings, model) if name in (None, r.name)]
    try:
        told = account.find(settings.journal_dir / "releases", model, name)
    except UsageError:
        waits = [w for w in (*letters, *queued) if name in (None, w.name)]
        # also a journal whose first line was not completed: its letter is still there
        found = max(
            [*refused, *waits], key=lambda w: (w.place != "refused" and name is not None, w.at), default=None
        )
        if found is None:
            raise
        return _handed(found)
    if name is None:
        newest = max([*refused, *queued], key=lambda w: w.at, default=None)
        if newest is not None and (newest.place == "queue" or newest.at > told.began):
            return _handed(newest)
        return Found(told.release.name, "journal", told)
    return _again(told, letters, refused) or Found(told.release.name, "journal", told)


def _handed(found: Handover) -> Found:
    return Found(found.name, found.place, None, found)


def _again(told: Account, letters: list[Handover], refused: list[Handover]) -> Found | None:
    """A later hand-over of a name that has a journal: refused, or waiting although the first was over by then."""
    name = told.release.name
    for letter in letters:
        if letter.name == name and not told.state.live and letter.at > told.told:
            return _handed(letter)
    for refusal in refused:
        if refusal.name == name and refusal.at > told.began:
            return _handed(refusal)
    return None


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
    on_wire: Callable[[Account], bool] = lambda told: False,
) -> Waited:
    """Wait until the release is over, stuck, or `timeout` has passed.

    Args:
        passed: seconds since the beginning.
        say: told of where the release is whenever that changed.
        on_wire: asked of an end that is not confirmed: whether its traffic is in force all the same, so that only an
            alias is missing (a registry that is down must not keep a pipeline waiting).

    Raises:
        UsageError: there is no such release.
        WindlassError: it is gone, and nobody said why.
    """
    found = locate(settings, model, name)
    reader = Reader(settings, model, found.name)
    before: tuple[str, int] | None = None
    while True:
        seen = reader.where()
        if seen is None:
            raise WindlassError(
                f"release {found.name!r} of {model!r} is not waiting any more and was never started: the platform "
                "refused it; `windlass release lint -f FILE` and the platform's output say why"
            )
        now = (seen.place, 0 if seen.told is None else seen.told.history.seq)
        if now != before:
            say(seen)
            before = now
        if seen.place == "refused":
            return Waited(seen, None)
        if seen.told is not None:
            came = outcome.settled(seen.told.history)
            if came is not None:
                return Waited(seen, came)
            came = outcome.of(seen.told.history)
            if came is not None and on_wire(seen.told):
                return Waited(seen, came, _pending(seen.told))
        left = None if timeout is None else timeout.total_seconds() - passed()
        if left is not None and left <= 0:
            return Waited(seen, None)
        sleep(every if left is None else min(every, left))


def _pending(told: Account) -> str:
    record = told.history.unconfirmed or {}
    if record.get("champion") is None:
        return "the platform has yet to confirm it"
    return f"the alias is still to be moved to version {record['champion']}"


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
        """Where it is; None where neither a letter, nor a place in the queue, a refusal or a journal is left."""
        found = self._journal()
        if found is None or found.told is None:
            try:
                return locate(self._settings, self._model, self._name)
            except UsageError:
                # it has a journal before it leaves inbox and queue: whatever was missed is there now
                return self._journal()
        letters = [] if found.told.state.live else handover.inbox(self._settings, self._model)
        return _again(found.told, letters, handover.refused(self._settings, self._model)) or found

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
        try:
            self._records += [json.loads(line) for line in lines]
        except ValueError:
            history.records(path)  # says which line
            raise
        return bool(lines)
