"""Request ids: those that callers state, and new ones."""

from __future__ import annotations

import secrets

from serving.runtime.refusal import FieldError

LONGEST_ID = 128


class RequestIds:
    """New UUIDs: a random start for each process and a count, for a fraction of what a random one costs."""

    def __init__(self) -> None:
        r = secrets.token_hex(10)
        self._start = f"{r[:8]}-{r[8:12]}-4{r[12:15]}-8{r[15:18]}"
        self._count = 0

    def new(self) -> str:
        """An id that no other request has."""
        self._count += 1
        return f"{self._start}-{self._count:012x}"


def checked_id(value: str, where: str) -> str:
    """Check an id that a caller states: it goes into a response header and into a line of several logs.

    Raises:
        FieldError: it is too long, or holds what a header or a log line may not.
    """
    if len(value) > LONGEST_ID or not value.isascii() or not value.isprintable() or " " in value:
        raise FieldError(where, value, f"at most {LONGEST_ID} visible ASCII characters")
    return value
