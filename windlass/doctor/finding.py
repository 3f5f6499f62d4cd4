"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        cause: what is the case, by value; also where all is well.
        remedy: a shell command that puts it right, None where there is nothing to do.
    """

    name: str
    status: Status
    cause: str
    remedy: str | None = None


def ok(name: str, cause: str) -> Finding:
    return Finding(name, "ok", cause)


def warn(name: str, cause: str, remedy: str) -> Finding:
    return Finding(name, "warn", cause, remedy)


def fail(name: str, cause: str, remedy: str) -> Finding:
    return Finding(name, "fail", cause, remedy)
