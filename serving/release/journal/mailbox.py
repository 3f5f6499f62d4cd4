"""Files by which commands reach a running platform: Release documents, and what a person wants done to one.

The contract: a writer puts one complete file into the folder by an atomic rename; the platform takes files in the
order of their names, acts, and removes each one once its act is in the journal. So a command outlives a platform
that is down: it is carried out when the next one starts.

* `run/releases/inbox/<time>-<name>.json`: {"document": <Release>, "at": ISO time}
* `run/releases/commands/<time>-<model>-<command>.json`: {"model", "command", "by", "to", "at"}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import atomic
from windlass.errors import WindlassError
from windlass.settings import Settings

if TYPE_CHECKING:
    # a rollback leaves an order and must not pay for the engine
    from serving.release.decision import Command
    from serving.release.release import Release

COMMANDS: tuple[Command, ...] = ("pause", "resume", "abort", "rollback", "promote")


@dataclass(frozen=True)
class Order:
    """What a person wants.

    Attributes:
        to: version that a rollback goes to, None for the previous one; the candidate that is promoted.
        release: the release that is meant; None for whichever is the model's newest.
    """

    model: str
    command: Command
    by: str
    at: str
    to: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Mailbox:
    """One folder of letters."""

    folder: Path

    def put(self, name: str, at: datetime, content: dict[str, Any]) -> Path:
        # to the microsecond, so that names sort by time; what follows keeps two of one instant apart
        path = self.folder / f"{at:%Y%m%dT%H%M%S.%f}-{name}.json"
        atomic.write_text(path, json.dumps(content))
        return path

    def letters(self, read: Callable[[dict[str, Any]], Any] = dict) -> Iterator[tuple[Path, Any]]:
        """Letters in order, each as `read` makes it of its content; remove each by `unlink` once it is acted on.

        One that cannot be read is moved aside (`.unreadable` after its name): it must not keep others waiting.
        """
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("[!.]*.json")):
            try:
                content = read(json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError, WindlassError):
                path.rename(path.with_name(f"{path.name}.unreadable"))
                continue
            yield path, content


def inbox(settings: Settings) -> Mailbox:
    return Mailbox(settings.run_dir / "releases" / "inbox")


def commands(settings: Settings) -> Mailbox:
    return Mailbox(settings.run_dir / "releases" / "commands")


def submit(box: Mailbox, release: Release, at: datetime) -> Path:
    """Ask a platform to start `release`."""
    from serving.release import spec

    return box.put(release.name, at, {"document": spec.document(release), "at": at.isoformat()})


def submissions(box: Mailbox) -> Iterator[tuple[Path, Release]]:
    """Releases that wait to be started, oldest first; they were validated when they were written."""
    from serving.release import spec

    yield from box.letters(lambda letter: spec.parse(letter["document"]))


def order(box: Mailbox, wanted: Order, at: datetime) -> Path:
    """Ask a platform to carry out a command."""
    return box.put(f"{wanted.model}-{wanted.command}", at, asdict(wanted))


def orders(box: Mailbox) -> Iterator[tuple[Path, Order]]:
    """Commands that wait, oldest first."""
    yield from box.letters(_order)


def _order(letter: dict[str, Any]) -> Order:
    if letter["command"] not in COMMANDS:
        raise ValueError(f"{letter['command']!r} is no command")
    return Order(**letter)


class OrderBox:
    """The mailbox of commands as the controller reads it."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    def waiting(self) -> list[tuple[Path, Order]]:
        return list(orders(self._box))

    def done(self, token: Path) -> None:
        token.unlink(missing_ok=True)
