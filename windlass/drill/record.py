"""What happened in a drill, step by step, and whether each expectation held."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["prepared", "injected", "observed", "alert", "state", "lost", "runbook", "restored"]


@dataclass(frozen=True)
class Step:
    """One line of a record.

    Attributes:
        holds: whether an expectation held; None where the step states none.
        seconds: since the drill began.
    """

    kind: Kind
    text: str
    holds: bool | None = None
    seconds: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


class Record:
    """The steps of one drill.

    Args:
        say: told of each step as it happens.
    """

    def __init__(self, drill: str, say: Callable[[str], None] = lambda _: None) -> None:
        self.drill = drill
        self.steps: list[Step] = []
        self._say = say
        self._began = time.monotonic()

    def note(self, kind: Kind, text: str, **detail: Any) -> None:
        """Write down what was done or seen."""
        self._add(Step(kind, text, None, self._elapsed(), detail))

    def expect(self, kind: Kind, text: str, holds: bool, **detail: Any) -> bool:
        """Write down an expectation, in the words of what should be, and whether it held."""
        self._add(Step(kind, text, holds, self._elapsed(), detail))
        return holds

    @property
    def passed(self) -> bool:
        """Whether every expectation held, of which there is at least one of each kind that a drill must show."""
        held = [s for s in self.steps if s.holds is not None]
        shown = {s.kind for s in held}
        return all(s.holds for s in held) and {"alert", "state", "lost"} <= shown

    def as_json(self) -> dict[str, Any]:
        return {"drill": self.drill, "passed": self.passed, "steps": [asdict(s) for s in self.steps]}

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 1)

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._say(line(step))


def line(step: Step) -> str:
    """One step for people."""
    mark = "" if step.holds is None else "ok    " if step.holds else "FAIL  "
    return f"{step.seconds:6.1f} s  {step.kind:<9} {mark}{step.text}"
