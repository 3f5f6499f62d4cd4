"""A condition of an object's status, as Kubernetes writes it: since when it has been so is kept from look to look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

Truth = Literal["True", "False", "Unknown"]

#: What is longer is cut: a condition is read in a terminal, and Kubernetes takes no more than 32 KiB.
LONGEST_MESSAGE = 1024


def condition(
    before: Mapping[str, Any] | None,
    kind: str,
    truth: Truth,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> dict[str, Any]:
    """One condition; `before` is the same one as it was written last, None where it was not."""
    since = before.get("lastTransitionTime") if before is not None and before.get("status") == truth else None
    return {
        "type": kind,
        "status": truth,
        "reason": reason,
        "message": short(message),
        "lastTransitionTime": since or time(now),
        "observedGeneration": generation,
    }


def time(moment: datetime | str) -> str:
    """A moment as Kubernetes writes it."""
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(text: str) -> str:
    """Not more than LONGEST_MESSAGE characters."""
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
