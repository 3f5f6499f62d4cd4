"""Whose turn it is: keys that are due, each at one place at a time. Pure but for what it remembers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from windlass.operator.reconciler import Key

#: Seconds until a turn that failed is tried again: the first, and the most after several failures.
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0


@dataclass(frozen=True)
class Due:
    """A key whose turn has come; `late_s` is how long ago it was due."""

    key: Key
    late_s: float


class Dispatcher:
    """Turns of many keys on few threads.

    A key that is woken while its turn runs gets another one right after it. Not for several threads: whoever runs
    turns in threads tells of them from one.

    Args:
        clock: monotonic seconds.
        spread: a number in [0, 1) for each next turn, so that keys that began together do not stay together.
    """

    def __init__(self, clock: Callable[[], float], *, spread: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._spread = spread
        self._due: dict[Key, float] = {}
        self._running: set[Key] = set()
        #: Since when keys that run are due once more.
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}

    def wake(self, key: Key) -> None:
        """Make `key` due now."""
        now = self._clock()
        if key in self._running:
            self._again.setdefault(key, now)
            return
        self._due[key] = min(self._due.get(key, now), now)

    def begin(self) -> None:
        """Take turns from now on: what was due while nobody took any is due now, and not late by that."""
        now = self._clock()
        self._due = {key: max(at, now) for key, at in self._due.items()}

    def take(self, most: int) -> list[Due]:
        """Up to `most` keys whose turn has come, the longest due first; they run from now on."""
        if most <= 0 or not self._due:
            return []
        now = self._clock()
        ready = sorted((at, key) for key, at in self._due.items() if at <= now)[:most]
        for _, key in ready:
            del self._due[key]
            self._running.add(key)
        return [Due(key, now - at) for at, key in ready]

    def done(self, key: Key, after_s: float | None) -> None:
        """The turn of `key` is over; the next one is in `after_s` seconds, or when it is woken."""
        self._failures.pop(key, None)
        self._over(key, None if after_s is None else after_s * (0.95 + 0.1 * self._spread()))

    def failed(self, key: Key) -> float:
        """The turn of `key` failed; seconds until it is tried again."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_RETRY_S * 2.0 ** (failures - 1), LAST_RETRY_S)
        # news may be what helps, as a person's rollback; but not at once, where every turn that fails brings news
        if self._again.pop(key, None) is not None:
            pause = FIRST_RETRY_S
        self._over(key, pause)
        return pause

    def wait_s(self, longest: float) -> float:
        """Seconds until the next key is due, at most `longest`."""
        if not self._due:
            return longest
        return max(0.0, min(longest, min(self._due.values()) - self._clock()))

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._due)

    def _over(self, key: Key, after_s: float | None) -> None:
        self._running.discard(key)
        woken = self._again.pop(key, None)
        if woken is not None:
            self._due[key] = woken
        elif after_s is not None:
            self._due[key] = self._clock() + after_s
