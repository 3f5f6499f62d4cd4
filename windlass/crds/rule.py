"""A CEL rule of a schema, and what several rules need of the language."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serving.release.durations import LONGEST

DURATION = "^([0-9]+([.][0-9]+)?(ms|s|m|h|d))+$"
VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """What must hold of the value at a place of a schema.

    Attributes:
        at: the place, names with dots below the schema that it is attached to; `[]` stands for a list's items.
        holds: CEL that is true of a value that can be meant.
        message: what to do instead, for a person.
        field: the field that a message is about, where it is one below `at`.
    """

    at: str
    holds: str
    message: str
    field: str = ""

    def written(self) -> dict[str, str]:
        found = {"rule": self.holds, "message": self.message}
        return {**found, "fieldPath": self.field} if self.field else found


def attach(schema: dict[str, Any], rules: Iterable[Rule]) -> None:
    """Write rules into the schema that they speak of."""
    for rule in rules:
        place(schema, rule.at).setdefault(VALIDATIONS, []).append(rule.written())


def place(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """The schema of a place, see `Rule.at`."""
    for name in filter(None, at.replace("[]", ".[]").split(".")):
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    return schema


def texts(values: Iterable[str]) -> str:
    """A list of texts in CEL."""
    return "[" + ", ".join(text(value) for value in values) + "]"


def text(value: str) -> str:
    """A text in CEL: JSON's escapes are among CEL's."""
    return json.dumps(value)


def seconds(duration: str) -> str:
    """Seconds of an expression that is a duration's text: CEL's own durations know no days."""
    plain = f'{duration}.replace("ms", "x")'
    parts = [
        f'{plain}.findAll("[0-9.]+{unit}").map(p, double(p.replace("{unit}", ""))).sum() * {factor}'
        for unit, factor in (("x", "0.001"), ("s", "1.0"), ("m", "60.0"), ("h", "3600.0"), ("d", "86400.0"))
    ]
    return "(" + " + ".join(parts) + ")"


def duration(at: str) -> Rule:
    """A duration, and one that some calendar reaches the end of."""
    longest = f"{LONGEST.total_seconds():.1f}"
    return Rule(
        at,
        f"self.matches({text(DURATION)}) && {seconds('self')} <= {longest}",
        f"write a duration like 50ms, 30s, 10m, 24h or 3d, of at most {LONGEST.days}d",
    )
