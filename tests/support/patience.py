"""Waiting for what happens in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(condition: Callable[[], bool], what: str = "what was waited for", seconds: float = 120.0) -> None:
    """Ask until it holds; fail with `what` where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.02)
