"""What must hold of a strategy by itself: whose field is whose, weights, shares, and names that a request can carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.release import durations, fields
from serving.release.fields import default_of, document_name
from serving.release.people import schema as documents
from serving.release.release import STRATEGY_CLASSES, Bandit, Experiment
from windlass.crds import rule
from windlass.crds.rule import Rule, duration, seconds, text, texts

_HEADER_NAME = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_HEADER_VALUE = "^[!-~]([ -~]*[!-~])?$"
_COOKIE_VALUE = r"^[!#-+\--:<-\[\]-~]+$"


def attach(schema: dict[str, Any]) -> None:
    """Write the rules into the schema of a strategy."""
    rule.attach(schema, _rules(schema))


def _rules(schema: dict[str, Any]) -> Iterator[Rule]:
    yield from _owners()
    yield from _stated()
    for at in _durations(schema, ""):
        yield duration(at)
    yield Rule(
        "steps",
        "self.map(s, s.weight).isSorted() && self.all(s, self.exists_one(t, t.weight == s.weight))",
        "weights must rise from step to step, for example 10, 25, 50",
    )
    yield from _named("match", with_value=True)
    yield from _named("unit", with_value=False)
    yield Rule("allocation", "self.map(v, self[v]).sum() == 100", "the shares must sum to 100")
    for name in ("period", "update"):
        yield Rule(name, 'self.matches("[1-9]")', f"{name} must be longer than nothing, for example 1m")
    yield from _ends()
    yield from _header("context.header", "self", "")
    yield Rule(
        "context.values",
        f"self.all(v, v.matches({text(_HEADER_VALUE)}))",
        "no request carries such a value in a header; give visible ASCII without blanks around it",
    )
    yield Rule(
        "context.values",
        "self.exists(v, v != self[0])",
        "give at least two different values, for example [mobile, desktop]",
    )


def _owners() -> Iterator[Rule]:
    """A field of another strategy would be read by nobody."""
    owners: dict[str, list[str]] = {}
    for kind, of in STRATEGY_CLASSES.items():
        for name in fields.forms(of):
            owners.setdefault(name, []).append(kind)
    for name, kinds in owners.items():
        yield Rule(
            "",
            f"!has(self.{name}) || self.type in {texts(kinds)}",
            f"{name} is a field of {' and '.join(kinds)}; leave it out of other strategies",
            f".{name}",
        )


def _stated() -> Iterator[Rule]:
    examples = {
        "steps": "[{weight: 10, minSamples: 500}]",
        "unit": "{header: x-user-id}",
        "allocation": '{"12": 50, "13": 50}',
    }
    for kind, name in (("canary", "steps"), ("experiment", "unit"), ("experiment", "allocation")):
        article = "an" if kind == "experiment" else "a"
        yield Rule(
            "",
            f"self.type != {text(kind)} || has(self.{name})",
            f"{article} {kind} needs {name}, for example {examples[name]}",
            f".{name}",
        )


def _durations(schema: dict[str, Any], at: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        here = f"{at}.{name}" if at else name
        if documents.duration().items() <= child.items():
            yield here
        yield from _durations(child, here)
    if isinstance(schema.get("items"), dict):
        yield from _durations(schema["items"], f"{at}[]")


def _named(name: str, *, with_value: bool) -> Iterator[Rule]:
    yield Rule(
        name, "has(self.header) != has(self.cookie)", "name either a header or a cookie: {header: x-user-id}"
    )
    yield from _header(f"{name}.header", "self", "")
    yield Rule(
        f"{name}.cookie",
        f"self.matches({text(_HEADER_NAME)})",
        "cannot be a cookie's name; give letters, digits and dashes",
    )
    if not with_value:
        yield Rule(name, "!has(self.value)", "every value is a unit; leave it out", ".value")
        return
    yield Rule(name, "has(self.value)", "give the value that is meant", ".value")
    yield Rule(
        name,
        f"!has(self.value) || (has(self.cookie) ? self.value.matches({text(_COOKIE_VALUE)}) "
        f": self.value.matches({text(_HEADER_VALUE)}))",
        "no request carries such a value there; give visible ASCII without blanks around it",
        ".value",
    )


def _header(at: str, value: str, field: str) -> Iterator[Rule]:
    yield Rule(
        at,
        f"{value}.matches({text(_HEADER_NAME)})",
        "cannot be a header's name; give letters, digits and dashes",
        field,
    )
    ours = texts(("x-windlass-preview", "x-windlass-random"))
    yield Rule(
        at,
        f'!{value}.lowerAscii().startsWith("x-windlass-") || {value}.lowerAscii() in {ours}',
        "is the proxy's own header, callers cannot send it; choose another",
        field,
    )


def _ends() -> Iterator[Rule]:
    """Both strategies that end by themselves must be able to begin before."""
    lengths = {
        document_name(field.name): durations.format(default_of(field))
        for of in (Experiment, Bandit)
        for field, _ in fields.forms(of).values()
        if field.name in ("min_duration", "max_duration")
    }
    shortest, longest = (
        f"(has(self.{name}) ? {seconds(f'self.{name}')} : {seconds(text(lengths[name]))})"
        for name in ("minDuration", "maxDuration")
    )
    yield Rule(
        "",
        f'!(self.type in ["experiment", "bandit"]) || {shortest} < {longest}',
        f"must be shorter than maxDuration, which is {lengths['maxDuration']} where it is not stated",
        ".minDuration",
    )
