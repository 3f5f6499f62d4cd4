"""What tells two events apart, and the days that partitions are named by."""

from __future__ import annotations

import numpy as np

#: no id holds it
SEPARATOR = "\x1f"
DAY_S = 86_400.0
_FIRST = np.datetime64("1970-01-01", "D")


def half(source: str, kind: str, identity: str) -> str:
    """A CloudEvent: no two of one source, type and id are different ones."""
    return SEPARATOR.join(("event", source, kind, identity))


def row(model: str, version: str, mirrored: bool, half: str, request_id: str) -> str:
    """A prediction. `half` is empty of a whole one, else what there is of it: a request or a response."""
    return SEPARATOR.join(("row", model, version, "1" if mirrored else "0", half, request_id))


def day(moment: float) -> int:
    """The UTC day of epoch seconds, in days since 1970."""
    return int(moment // DAY_S)


def day_of(date: str) -> int:
    """The number of a day YYYY-MM-DD."""
    return int((np.datetime64(date, "D") - _FIRST).astype(int))


def date(day: int) -> str:
    """A day as YYYY-MM-DD."""
    return str(_FIRST + day)
