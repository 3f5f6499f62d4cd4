"""The definition of Release: the document's own schema, with limits, rules, a status and columns."""

from __future__ import annotations

from typing import Any, get_args

from serving.release.people import schema
from serving.release.state import Phase
from windlass.crds import check_rules, limits, release_rules, rule, strategy_rules
from windlass.crds.definition import AGE, Column, Names, definition, root

NAMES = Names("Release", "releases", "rel")

COLUMNS = (
    Column("Model", ".spec.model"),
    Column("Phase", ".status.phase"),
    Column("Step", ".status.step", "integer"),
    Column("Weights", ".status.weights", doc="version -> percent of the requests"),
    Column("Champion", ".status.champion"),
    AGE,
    Column("Strategy", ".spec.strategy.type", wide=True),
    Column("Backend", ".spec.backend", wide=True),
    Column("Candidates", ".status.candidates", wide=True),
    Column("Reason", ".status.decision.reason", wide=True),
)

_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_WEIGHTS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
    "x-kubernetes-map-type": "atomic",
}


def crd() -> dict[str, Any]:
    """The whole definition."""
    whole = root("A version of a model brought to its users as far as its checks allow.", spec(), status())
    rule.attach(whole, release_rules.of_the_object())
    return definition(NAMES, whole, COLUMNS)


def spec() -> dict[str, Any]:
    """Schema of `spec` as an API server is given it."""
    found = schema.spec()
    candidates = found["properties"]["candidates"]
    candidates["items"] = {**candidates["items"], "pattern": release_rules.NAME}
    candidates["x-kubernetes-list-type"] = "set"
    _for_an_api_server(found)
    rule.attach(found, release_rules.of_the_spec())
    return found


def template() -> dict[str, Any]:
    """Schema of a Release's part that a RetrainPolicy states: who is released is added later, and so are defaults."""
    found = schema.spec()
    for name in ("model", "candidate", "candidates", "champion"):
        del found["properties"][name]
    found["required"] = ["strategy", "checks"]
    _for_an_api_server(found)
    _without_defaults(found)
    rule.attach(found, release_rules.of_a_template())
    return found


def _for_an_api_server(found: dict[str, Any]) -> None:
    properties = found["properties"]
    limits.bound(found)
    # names are unique: whoever applies a part of the list says which check it means
    properties["checks"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    properties["strategy"]["properties"]["allocation"]["minProperties"] = 1
    properties["strategy"]["properties"]["smoke"]["items"]["properties"]["body"] |= {"type": "object"}
    check_rules.attach(properties["checks"]["items"])
    strategy_rules.attach(properties["strategy"])


def _without_defaults(found: dict[str, Any]) -> None:
    found.pop("default", None)
    for child in (*found.get("properties", {}).values(), *filter(None, [found.get("items")])):
        _without_defaults(child)


def status() -> dict[str, Any]:
    """Schema of `status`: what the operator writes, for people and for `kubectl wait`."""
    return {
        "type": "object",
        "description": "how the release stands, written by the operator",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "phase": {**_TEXT, "description": f"Queued, {', '.join(get_args(Phase))}, or Refused"},
            "step": {"type": "integer", "description": "counted from 1"},
            "steps": {"type": "integer"},
            "champion": {**_TEXT, "description": "the version that candidates are compared with"},
            "candidate": _TEXT,
            "candidates": {"type": "array", "items": _TEXT, "x-kubernetes-list-type": "atomic"},
            "weights": {
                **_WEIGHTS,
                "description": "version -> percent of the requests (of an experiment: of the units), as read back from "
                "the router",
            },
            "segments": {
                "type": "object",
                "description": "of a contextual bandit: value of the header -> weights; other requests go by `weights`",
                "additionalProperties": _WEIGHTS,
                "x-kubernetes-map-type": "atomic",
            },
            "copies": {
                "type": "object",
                "description": "of a shadow: the version that gets copies, and of how many percent of the requests",
                "properties": {"to": _TEXT, "percent": {"type": "integer", "minimum": 1, "maximum": 100}},
                "x-kubernetes-map-type": "atomic",
            },
            "dropped": {
                "type": "object",
                "description": "candidates that are out -> why",
                "additionalProperties": _TEXT,
                "x-kubernetes-map-type": "atomic",
            },
            "checks": _checks(),
            "decision": {
                "type": "object",
                "description": "the newest one",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"action": _TEXT, "reason": _TEXT, "at": _TIME},
            },
            "handledCommand": {
                **_TEXT,
                "description": "the newest value of the annotation windlass.dev/command that was carried out",
            },
            "startedAt": _TIME,
            "finishedAt": _TIME,
            "message": _TEXT,
            "conditions": _conditions(),
        },
    }


def _checks() -> dict[str, Any]:
    item = {
        "type": "object",
        "required": ["name", "verdict"],
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            "name": _TEXT,
            "kind": _TEXT,
            "candidate": _TEXT,
            "verdict": {**_TEXT, "description": "PASS, FAIL, INCONCLUSIVE or ERROR"},
            "reason": _TEXT,
        },
    }
    return {
        "type": "array",
        "description": "each check's newest verdict",
        "items": item,
        "x-kubernetes-list-type": "atomic",
    }


def _conditions() -> dict[str, Any]:
    return {
        "type": "array",
        "description": "Progressing, Available, Degraded",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {**_TEXT, "maxLength": 316},
                "status": {**_TEXT, "enum": ["True", "False", "Unknown"]},
                "reason": {**_TEXT, "minLength": 1, "maxLength": 1024},
                "message": {**_TEXT, "maxLength": 32768},
                "lastTransitionTime": _TIME,
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            },
        },
    }
