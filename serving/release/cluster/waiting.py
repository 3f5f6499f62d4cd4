"""Waiting for a controller: it is asked until it did what it was told, refused it, or its time is over.

Nobody sleeps here: a controller may take minutes, and who waits for one has other models to look after.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.release.backend import UnconfirmedError


@dataclass(frozen=True)
class Patience:
    """How long a controller is waited for.

    Attributes:
        within_s: time in which what was told must be in force.
        refused_for_s: how long a "no" must stand: a Service that appears a moment after its route is no refusal.
        clock: the time in seconds; tests give another.
    """

    within_s: float = 30.0
    refused_for_s: float = 3.0
    clock: Callable[[], float] = time.monotonic


class Trial:
    """How it goes with one thing that a controller is told; its time begins with it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.begin()

    def begin(self) -> None:
        """Have the whole time once more: of a time in which nobody could be asked nothing is known."""
        self._start = self._patience.clock()
        self._refused: float | None = None

    @property
    def refused(self) -> bool:
        """Whether the last word was a no; of a time that is over without one nothing is known but silence."""
        return self._refused is not None

    def outcome(self, done: bool | None, reason: str) -> str | None:
        """Take the controller's word: yes, no, or none yet; None for a yes, else why not, after a lasting no or when
        the time is over.

        Raises:
            UnconfirmedError: it may still become so; ask the controller again.
        """
        now = self._patience.clock()
        if done:
            return None
        if done is None:
            self._refused = None
        elif self._refused is None:
            self._refused = now
        if self._refused is not None and now - self._refused >= self._patience.refused_for_s:
            return reason
        if now - self._start >= self._patience.within_s:
            return f"{reason} (waited {self._patience.within_s:g} s)"
        raise UnconfirmedError(reason)
