"""What must hold of one check: which metric, kind, source and fields go together, and what a bound is.

A bound is a number, or a text with a unit. No type of a structural schema is both, and CEL sees typed fields alone, so
what is said of bounds is said in the schema's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from serving.release.metrics import METRICS, OPTIONAL_FIELDS, Metric
from serving.release.rules import RESERVED
from windlass.crds import rule
from windlass.crds.rule import Rule, text, texts

#: Fields without a type, which CEL cannot see.
_UNTYPED = ("bound", "minimumDetectableEffect")
#: Below 100, as a text: `2%`, `0.5%`.
_PERCENT = r"^\+?(0*[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)%$"


def attach(item: dict[str, Any]) -> None:
    """Write the rules into the schema of a check."""
    rule.attach(item, _rules())
    properties = item["properties"]
    properties["bound"] |= {
        "pattern": f"{_PERCENT}|{rule.DURATION}",
        "maxLength": 64,
        **_a_number_or_a_text(),
    }
    properties["minimumDetectableEffect"] |= {
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1000,
        "exclusiveMaximum": True,
        "pattern": r"^\+?(0*[0-9]{1,3}(\.[0-9]*)?|\.[0-9]+)%$",
        "maxLength": 64,
        **_a_number_or_a_text(),
    }
    item["allOf"] = list(_bounds())


def _rules() -> Iterator[Rule]:
    yield Rule(
        "name",
        f'!(self in {texts(RESERVED)}) && !self.contains("@")',
        "is a name of the engine's own; choose another",
    )
    yield Rule(
        "",
        " && ".join(
            f"(self.kind != {text(kind)} || self.metric in {texts(_of_kind(kind))})"
            for kind in dict.fromkeys(kind for metric in METRICS.values() for kind in metric.kinds)
        ),
        "this metric cannot be of this kind: " + _possible(lambda metric: metric.kinds),
        ".kind",
    )
    yield Rule(
        "",
        " && ".join(
            f"(self.source != {text(source)} || self.metric in {texts(_from(source))})"
            for source in dict.fromkeys(source for metric in METRICS.values() for source in metric.sources)
        ),
        "this metric does not come from there: " + _possible(lambda metric: metric.sources),
        ".source",
    )
    for name in sorted(OPTIONAL_FIELDS - set(_UNTYPED)):
        known = _knowing(name)
        yield Rule(
            "",
            f"!has(self.{name}) || self.metric in {texts(known)}",
            f"{name} belongs to {' and '.join(known)}; leave it out of checks of other metrics",
            f".{name}",
        )
    yield Rule(
        "",
        '!has(self.direction) || self.metric != "brier" || self.direction == "decrease"',
        "brier is a loss, so less of it is better; write decrease, or leave it out",
        ".direction",
    )


def _bounds() -> Iterator[dict[str, Any]]:
    """Of alternatives that all fail an API server shows the one of which most holds, the first where several do."""
    relative = {"required": ["relativeToChampion"], "properties": {"relativeToChampion": {"enum": [True]}}}
    bounded, shares = _knowing("bound"), _with(lambda metric: metric.unit == "share")
    latencies = _with(lambda metric: metric.unit == "latency")
    stated = {
        "required": ["bound"],
        "properties": {name: {"minLength": 1} for name in ("name", "metric", "source")},
    }
    # a check of a rate or a latency has a bound, or the champion for one
    yield {"anyOf": [stated, relative, _not_of(bounded)]}
    for name in _UNTYPED:
        unknown = [metric for metric in METRICS if metric not in _knowing(name)]
        yield {"anyOf": [_field(name, f"nothing: this metric has no {name}"), _not_of(unknown)]}
    a_duration = {"pattern": rule.DURATION, **_NO_NUMBER}
    yield {"anyOf": [_field("bound", "a duration, for example 50ms", a_duration), _not_of(latencies)]}
    a_share = {"pattern": _PERCENT, "minimum": 0, "maximum": 100, "exclusiveMaximum": True}
    yield {
        "anyOf": [_field("bound", "a percentage below 100, for example 2 or 0.5", a_share), _not_of(shares)]
    }
    # nothing cannot be judged from a sample, but no more than the champion has can
    positive = {"pattern": "[1-9]", "minimum": 0, "exclusiveMinimum": True}
    yield {"anyOf": [_field("bound", "more than 0, for example 0.1", positive), relative, _not_of(shares)]}


#: No number is both.
_NO_NUMBER = {"minimum": 1, "maximum": 0}


def _field(name: str, words: str, allowed: dict[str, Any] | None = None) -> dict[str, Any]:
    """A field that is absent or as allowed; the words take the place of the values that an API server proposes."""
    return {"properties": {name: {"anyOf": [{"enum": [words]}, *filter(None, [allowed])]}}}


def _not_of(metrics: list[str]) -> dict[str, Any]:
    return {"not": {"properties": {"metric": {"enum": metrics}}}}


def _of_kind(kind: str) -> list[str]:
    return _with(lambda metric: kind in metric.kinds)


def _from(source: str) -> list[str]:
    return _with(lambda metric: source in metric.sources)


def _knowing(field: str) -> list[str]:
    return _with(lambda metric: field in metric.fields)


def _with(wanted: Callable[[Metric], bool]) -> list[str]:
    return [name for name, metric in METRICS.items() if wanted(metric)]


def _possible(of: Callable[[Metric], tuple[str, ...]]) -> str:
    """Which metrics have which, the ones with the same together: `errorRate, latencyP50: envoy, prometheus`."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, metric in METRICS.items():
        alike.setdefault(of(metric), []).append(name)
    return "; ".join(f"{', '.join(names)}: {' or '.join(found)}" for found, names in alike.items())


def _a_number_or_a_text() -> dict[str, Any]:
    """No list, mapping or flag: of each of them two statements cannot both hold."""
    return {
        "minItems": 1,
        "maxItems": 0,
        "minProperties": 1,
        "maxProperties": 0,
        "not": {"enum": [True, False]},
    }
