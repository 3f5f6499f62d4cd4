"""Durations as Kubernetes writes them (`10m`, `1h30m`, `50ms`), with days beside."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Beyond this a duration is a slip of the keyboard, and no calendar reaches to its end.
LONGEST = timedelta(days=36_500)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse(text: str) -> timedelta:
    """Read a duration.

    Raises:
        ValueError: it is none, or longer than `LONGEST`.
    """
    position = 0
    seconds = 0.0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if position == 0 or position != len(text):
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        raise ValueError(f"{shown!r} is no duration; write it like 50ms, 30s, 10m, 24h or 3d")
    if seconds > LONGEST.total_seconds():
        raise ValueError(
            f"a duration of more than {LONGEST.days} days is none that ends; write at most 36500d"
        )
    return timedelta(seconds=seconds)


def format(duration: timedelta) -> str:
    """The shortest text that `parse` reads back as the same duration (to the millisecond)."""
    rest = round(duration / timedelta(milliseconds=1))
    if rest == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, round(_UNITS[unit] * 1000))
        if count:
            text += f"{count}{unit}"
    return text
