"""Messages over a pipe: each behind its length in eight digits."""

from __future__ import annotations

LENGTH_DIGITS = 8
LONGEST = 10**LENGTH_DIGITS - 1


def frame(data: bytes) -> bytes:
    """A message as it goes over the pipe.

    Raises:
        ValueError: it is longer than `LONGEST` bytes.
    """
    if len(data) > LONGEST:
        raise ValueError(f"{len(data)} bytes; {LONGEST} at most go over the pipe")
    return b"%0*d" % (LENGTH_DIGITS, len(data)) + data
