"""A person's command on a Release: the annotation `windlass.dev/command`, read. Pure.

kubectl annotate release flights-13 windlass.dev/command=pause
kubectl annotate release flights-13 windlass.dev/command=rollback:12 windlass.dev/by=ana
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from serving.release.decision import Command
from windlass.errors import UsageError

#: No command to the engine: of a release that is over and whose end its router does not take, nothing more is tried.
GIVE_UP: Final = "give-up"
COMMANDS: tuple[str, ...] = (*get_args(Command), GIVE_UP)
_WITH_VERSION = ("rollback", "promote")

Name = Literal["pause", "resume", "abort", "rollback", "promote", "give-up"]


@dataclass(frozen=True)
class Wanted:
    """A command; `to` is the version that it names, None where it names none."""

    command: Name
    to: str | None = None


def parse(text: str) -> Wanted:
    """Read the annotation's value.

    Raises:
        UsageError: it is no command.
    """
    name, colon, version = text.strip().partition(":")
    if name not in COMMANDS:
        raise UsageError(f"windlass.dev/command={text!r} is no command; use one of {', '.join(COMMANDS)}")
    if colon and (name not in _WITH_VERSION or not version.strip()):
        raise UsageError(
            f"windlass.dev/command={text!r}: only {' and '.join(_WITH_VERSION)} name a version, like rollback:12"
        )
    return Wanted(name, version.strip() or None)  # type: ignore[arg-type]
