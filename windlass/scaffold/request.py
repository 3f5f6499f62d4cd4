"""What was asked for: a name, a file, and what its columns mean."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from windlass.errors import UsageError

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Request:
    """The arguments of `windlass new`.

    Attributes:
        positive: the label's value that means 1; None where the label holds 0 and 1.
        ignore: columns that are not known when a prediction is made.
    """

    name: str
    data: Path
    label: str
    time: str
    entities: tuple[str, ...]
    label_delay: timedelta
    positive: str | None = None
    ignore: tuple[str, ...] = ()


def check(request: Request) -> None:
    """Refuse what no file could make right.

    Raises:
        UsageError: the name is no module name, a column has two meanings, or the delay is not positive.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", request.name) or keyword.iskeyword(request.name):
        raise UsageError(
            f"name {request.name!r} cannot be a folder that Python imports; use small letters, digits and _, "
            "beginning with a letter, for example churn_2026"
        )
    if not request.entities:
        raise UsageError(
            "no entity column; name at least one with --entity, for example --entity customer_id"
        )
    for column in (request.label, request.time):
        if column in request.entities:
            kind = "--label" if column == request.label else "--time"
            raise UsageError(
                f"column {column!r} is both --entity and {kind}; an entity is what predictions are about"
            )
    if request.label == request.time:
        raise UsageError(f"column {request.label!r} is both --label and --time; they are two columns")
    twice = sorted({e for e in request.entities if request.entities.count(e) > 1})
    if twice:
        raise UsageError(f"--entity {twice[0]} is given twice; once is enough")
    used = {request.label, request.time, *request.entities}
    if both := sorted(used & set(request.ignore)):
        raise UsageError(f"column {both[0]!r} is both used and in --ignore; leave it out of one")
    if request.label_delay <= timedelta(0):
        raise UsageError(
            "--label-delay must be longer than 0: a label known at its own event would be a feature of itself"
        )


def duration(text: str) -> timedelta:
    """Read 90m, 12h, 1d, 2w.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+)([mhdw])", text)
    if not match:
        raise UsageError(f"{text!r} is not a duration; use a number and m, h, d or w, for example 1d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
