"""Reading what the report is given: any part may be missing, empty or odd, and the page still has to stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

LARGEST = 1e15
LATEST = 7e9  # seconds since 1970: the year 2191


def number(value: object) -> float | None:
    """A finite number of a size that can be plotted, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST:
        return float(value)
    return None


def moment(value: object) -> float | None:
    """Epoch seconds of an ISO time, date or month (UTC where no zone is given), or None."""
    if isinstance(value, (int, float)):
        seconds = number(value)
        return seconds if seconds is not None and 0 <= seconds < LATEST else None
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(f"{value}-01" if len(value) == 7 else value)
    except ValueError:
        return None
    seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 <= seconds < LATEST else None


def text(value: object, default: str = "–") -> str:
    """What to show for a value."""
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def rows(container: object, name: str) -> list[Mapping[str, Any]]:
    """The list of objects under `name`; whatever is none is left out."""
    found = container.get(name) if isinstance(container, Mapping) else None
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, Mapping)):
        return []
    return [row for row in found if isinstance(row, Mapping)]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def date(seconds: float, form: str = "%-d %b %Y") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def clock(seconds: float) -> str:
    return date(seconds, "%-d %b %Y %H:%M")


def count(n: int, singular: str, plural: str | None = None) -> str:
    """ "1 request", "2 requests"."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"
