"""Reading a document of plain mappings and lists so that every error names its path, the value and a remedy.

Problems are collected, not raised one by one: `windlass release lint` shows a document's faults all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

from serving.release import durations
from windlass.errors import UsageError

T = TypeVar("T")

_REQUIRED: Any = object()


@dataclass(frozen=True)
class Problem:
    """One fault of a document; `value` is shown as the document has it."""

    path: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} = {self.value}: {self.remedy}"


#: Characters of a value that a message shows.
SHOWN = 200


def shown(value: Any) -> str:
    """A value as YAML writes it on one line, shortened to `SHOWN` characters."""
    text = _written(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return durations.format(value)
    return repr(value)


class SpecError(UsageError):
    """A document that cannot be meant; `problems` holds every fault that was found."""

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{what}: " + "; ".join(str(problem) for problem in problems))


class Reader:
    """One mapping of the document, its path, and the list in which problems gather."""

    def __init__(self, path: str, value: Any, problems: list[Problem]) -> None:
        self.path = path
        self._problems = problems
        self._taken: set[str] = set()
        if not isinstance(value, Mapping):
            self._problems.append(Problem(path or "document", shown(value), "must be a mapping of fields"))
            value = {}
        self._value: Mapping[str, Any] = value

    @property
    def problems(self) -> int:
        """How many were noted so far, in the whole document."""
        return len(self._problems)

    def report(self, field: str, value: object, remedy: str) -> None:
        """Note a problem at `field` of this mapping."""
        path = ".".join(part for part in (self.path, field) if part)
        self._problems.append(Problem(path, "missing" if value is _REQUIRED else shown(value), remedy))

    def has(self, field: str) -> bool:
        return self._value.get(field) is not None

    def assume(self, field: str, value: Any) -> None:
        """Give an absent field a default that depends on others."""
        if not self.has(field):
            self._value = {**self._value, field: value}

    def raw(self, field: str) -> Any:
        """The value as it stands, None where it is absent."""
        self._taken.add(field)
        return self._value.get(field)

    def _field(self, field: str, default: T, remedy: str, convert: Callable[[Any], T | None]) -> T:
        value = self.raw(field)
        if value is None:
            if default is _REQUIRED:
                self.report(field, _REQUIRED, remedy)
            return default
        converted = convert(value)
        if converted is None:
            self.report(field, value, remedy)
            return default
        return converted

    def text(self, field: str, default: Any = _REQUIRED, *, remedy: str = "give a text") -> str:
        """A text; a bare number is taken as its digits, since YAML reads `candidate: 13` so."""

        def convert(value: Any) -> str | None:
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            return value if isinstance(value, str) and value else None

        found: str = self._field(field, default, remedy, convert)
        return found

    def texts(self, field: str, *, remedy: str) -> tuple[str, ...]:
        """A list of texts (or bare whole numbers); an absent or empty one is a problem."""

        def convert(value: Any) -> tuple[str, ...] | None:
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                return None
            found = [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value]
            return tuple(found) if all(isinstance(v, str) and v for v in found) else None

        found: tuple[str, ...] = self._field(field, _REQUIRED, remedy, convert)
        return found

    def choice(self, field: str, options: Sequence[str], default: Any = _REQUIRED) -> str:
        found: str = self._field(
            field,
            default,
            "use one of " + ", ".join(options),
            lambda value: value if isinstance(value, str) and value in options else None,
        )
        return found

    def integer(self, field: str, low: int, high: int | None, default: Any = _REQUIRED) -> int:
        wanted = f"of {low} or more" if high is None else f"in {low}..{high}"

        def convert(value: Any) -> int | None:
            if isinstance(value, bool) or not isinstance(value, int):
                return None
            return value if value >= low and (high is None or value <= high) else None

        found: int = self._field(field, default, f"give a whole number {wanted}", convert)
        return found

    def number(self, field: str, low: float, high: float, default: Any = _REQUIRED, *, remedy: str) -> float:
        """A number strictly between `low` and `high`."""

        def convert(value: Any) -> float | None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return float(value) if low < value < high else None

        found: float = self._field(field, default, remedy, convert)
        return found

    def percent(self, field: str, default: Any = _REQUIRED, *, remedy: str, below: float = 100) -> float:
        """A percentage (`2`, `2.5` or `2%`) of at least 0 and below `below`, as a share (2 % is 0.02)."""

        def convert(value: Any) -> float | None:
            if isinstance(value, str) and value.endswith("%"):
                try:
                    value = float(value[:-1])
                except ValueError:
                    return None
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return value / 100 if 0 <= value < below else None

        found: float = self._field(field, default, remedy, convert)
        return found

    def flag(self, field: str, default: bool = False) -> bool:
        return self._field(
            field, default, "use true or false", lambda value: value if isinstance(value, bool) else None
        )

    def duration(self, field: str, default: Any = _REQUIRED) -> timedelta:
        def convert(value: Any) -> timedelta | None:
            try:
                return durations.parse(value) if isinstance(value, str) else None
            except ValueError:
                return None

        remedy = "write a duration like 50ms, 30s, 10m, 24h or 3d, of at most 36500d"
        found: timedelta = self._field(field, default, remedy, convert)
        return found

    def child(self, field: str) -> Reader:
        """The mapping at `field`; an absent one reads as empty, with a problem noted."""
        value = self.raw(field)
        if value is None:
            self.report(field, _REQUIRED, "state it")
            value = {}
        return Reader(f"{self.path}.{field}" if self.path else field, value, self._problems)

    def children(self, field: str, remedy: str) -> list[Reader]:
        """The mappings of the list at `field`; an absent or empty list is a problem."""
        value = self.raw(field)
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            self.report(field, _REQUIRED if value is None else value, remedy)
            return []
        path = f"{self.path}.{field}" if self.path else field
        return [Reader(f"{path}[{i}]", item, self._problems) for i, item in enumerate(value)]

    def finish(self, known: Sequence[str] = ()) -> None:
        """Note every field that nobody asked for."""
        allowed = sorted(self._taken | set(known))
        for field in self._value:
            if field not in self._taken and field not in known:
                remedy = "unknown field; known here: " + ", ".join(allowed)
                self.report(str(field), self._value[field], remedy)
