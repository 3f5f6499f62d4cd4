"""What a caller states about a request beside its content, in headers or in gRPC's metadata: its time, its patience."""

from __future__ import annotations

import math
import time
from typing import Any

from serving.runtime.options import Options
from serving.runtime.refusal import FieldError

RESERVE = 0.9
"""Of a caller's patience; the rest is for the way back."""
MOST_US = 1 << 62
"""A whole number in JSON may be of any size, and a float not."""


def patience_s(limit_s: float, expected_ms: bytes | str | None, timeout_us: Any) -> float:
    """How many seconds the caller will wait, less what the way back takes.

    Args:
        limit_s: of a request that states nothing else.
        expected_ms: x-envoy-expected-rq-timeout-ms, what Envoy waits.
        timeout_us: the parameter `timeout` of V2.

    Raises:
        FieldError: the parameter is no time.
    """
    # more digits than these are no limit, and may be more than a float takes
    if expected_ms is not None and len(expected_ms) < 10 and expected_ms.isdigit() and int(expected_ms) > 0:
        limit_s = min(limit_s, RESERVE * int(expected_ms) / 1e3)
    if timeout_us is not None:
        if timeout_us.__class__ is not int or timeout_us <= 0:
            raise FieldError("parameters.timeout", timeout_us, "microseconds, a whole number above 0")
        limit_s = min(limit_s, RESERVE * min(timeout_us, MOST_US) / 1e6)
    return limit_s


def now(options: Options, stated: bytes | str | None) -> float:
    """ "Now" of a request's features, epoch seconds.

    Args:
        stated: x-windlass-at; read where the server runs on a replay clock.

    Raises:
        FieldError: it is no time.
    """
    if stated is None or not options.replay_clock:
        return options.as_of or time.time()
    try:
        at = float(stated)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        text = stated if isinstance(stated, str) else stated.decode("latin-1")
        raise FieldError("header x-windlass-at", text, "seconds since the epoch")
    return at
