"""Where a process can die: before and after each call that leaves the engine, counted so that each can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

Found = TypeVar("Found")
Side = Literal["before", "after"]


class Crash(BaseException):
    """The process is gone. Not an `Exception`: no handler of the engine may see it."""


class Boundaries:
    """Counts the calls that leave the engine and kills it at a chosen one.

    Attributes:
        calls: how many there were; names of all of them are in `names` where they are kept.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.calls = 0
        self.names: list[str] = []
        self._keep = keep
        self._fatal: tuple[int, Side] | None = None

    def die(self, call: int, side: Side) -> None:
        """Die at call number `call`, counted from now on (1 is the next)."""
        self._fatal = (self.calls + call, side)

    @property
    def armed(self) -> bool:
        """Whether it is still to die."""
        return self._fatal is not None

    def spare(self) -> None:
        self._fatal = None

    def cross(self, name: str, effect: Callable[[], Found]) -> Found:
        """Do `effect` unless the process dies before; it may also die once it is done."""
        self.calls += 1
        here = self.calls
        if self._keep:
            self.names.append(name)
        if self._fatal == (here, "before"):
            self._fatal = None
            raise Crash(f"before {name}")
        found = effect()
        if self._fatal == (here, "after"):
            self._fatal = None
            raise Crash(f"after {name}")
        return found
