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
_DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"


def attach(item: dict[str, Any]) -> None:
    """Write the rules into the schema of a check."""
    rule.attach(item, _rules())
    properties = item["properties"]
    properties["bound"] |= {
        "pattern": f"{_PERCENT}|{_DURATION}",
        "maxLength": 64,
        **_neither_list_nor_mapping(),
    }
    properties["minimumDetectableEffect"] |= {
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1000,
        "exclusiveMaximum": True,
        "pattern": r"^\+?(0*[0-9]{1,3}(\.[0-9]*)?|\.[0-9]+)%$",
        "maxLength": 64,
        **_neither_list_nor_mapping(),
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
    """In an order that tells: of alternatives that all fail, an API server shows the first one's reason."""
    bounded, unbounded = _split(lambda metric: "bound" in metric.fields)
    relative = {"required": ["relativeToChampion"], "properties": {"relativeToChampion": {"enum": [True]}}}
    # a check of a rate or a latency has a bound, or the champion for one
    yield {"anyOf": [{"required": ["bound"]}, relative, _metric(unbounded)]}
    yield {"anyOf": [_metric(bounded), {"not": {"required": ["bound"]}}]}
    effect = _knowing("minimumDetectableEffect")
    yield {"anyOf": [_metric(effect), {"not": {"required": ["minimumDetectableEffect"]}}]}
    latencies, others = _split(lambda metric: metric.unit == "latency")
    a_duration = {
        "pattern": _DURATION,
        # no number is both, so a number is refused: 50 could be seconds
        "minimum": 1,
        "maximum": 0,
    }
    yield {"anyOf": [_metric(latencies, bound=a_duration), _metric(others)]}
    a_percentage = {"pattern": _PERCENT, "minimum": 0, "maximum": 100, "exclusiveMaximum": True}
    yield {"anyOf": [_metric(others, bound=a_percentage), _metric(latencies)]}
    above_nothing = {"pattern": "[1-9]", "minimum": 0, "exclusiveMinimum": True}
    # a bound of 0 cannot be judged from a sample, but no more than the champion's can
    yield {"anyOf": [{"properties": {"bound": above_nothing}}, relative, _metric(latencies)]}


def _metric(names: list[str], **more: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"metric": {"enum": names}, **more}}


def _of_kind(kind: str) -> list[str]:
    return _with(lambda metric: kind in metric.kinds)


def _from(source: str) -> list[str]:
    return _with(lambda metric: source in metric.sources)


def _knowing(field: str) -> list[str]:
    return _with(lambda metric: field in metric.fields)


def _with(wanted: Callable[[Metric], bool]) -> list[str]:
    return [name for name, metric in METRICS.items() if wanted(metric)]


def _split(wanted: Callable[[Metric], bool]) -> tuple[list[str], list[str]]:
    return _with(wanted), _with(lambda metric: not wanted(metric))


def _possible(of: Callable[[Metric], tuple[str, ...]]) -> str:
    """Which metrics have which, the ones with the same together: `errorRate, latencyP50: envoy, prometheus`."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, metric in METRICS.items():
        alike.setdefault(of(metric), []).append(name)
    return "; ".join(f"{', '.join(names)}: {' or '.join(found)}" for found, names in alike.items())


def _neither_list_nor_mapping() -> dict[str, int]:
    return {"minItems": 1, "maxItems": 0, "minProperties": 1, "maxProperties": 0}
