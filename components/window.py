"""The time window a training run may see, as one half-open interval of aware UTC instants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from windlass.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Rows with `start <= event time < end`, and labels that were known by `end`."""

    start: datetime
    end: datetime


def parse(start: str, end: str) -> Window:
    """Read the two ends. A bare date means the whole day, so `--to 2013-03-31` includes the 31st of March.

    Raises:
        UsageError: not a date or time of ISO 8601, or reversed.
    """
    first = _instant(start, "--from", end_of_day=False)
    last = _instant(end, "--to", end_of_day=True)
    if first >= last:
        raise UsageError(
            f"--from {start} lies after --to {end}: the window is reversed or empty; swap the two"
        )
    return Window(first, last)


def _instant(text: str, option: str, *, end_of_day: bool) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is not a date; use ISO 8601, for example 2013-03-31 or 2013-03-31T06:00:00+00:00"
        ) from error
    bare_date = len(text) == len("2013-03-31") and "T" not in text
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value + timedelta(days=1) if bare_date and end_of_day else value
