"""Waiting for a controller: ask until it did what it was told, refused it, or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a controller is waited for.

    Attributes:
        within_s: time in which what was told must be in force.
        refused_for_s: how long a "no" must stand: a Service that appears a moment after its route is no refusal.
        every_s: pause between two questions.
        clock, sleep: the time in seconds, and waiting for it; tests give others.
    """

    within_s: float = 30.0
    refused_for_s: float = 3.0
    every_s: float = 0.25
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, ask: Callable[[], tuple[bool | None, str]]) -> str | None:
        """None once `ask` answers True; else its last reason, after a lasting False or when the time is over."""
        start = self.clock()
        refused: float | None = None
        while True:
            done, reason = ask()
            now = self.clock()
            if done:
                return None
            if done is None:
                refused = None
            elif refused is None:
                refused = now
            if refused is not None and now - refused >= self.refused_for_s:
                return reason
            if now - start >= self.within_s:
                return f"{reason} (waited {self.within_s:g} s)"
            self.sleep(self.every_s)
