"""The Release as a JSON schema, made of the same dataclasses that read it.

It is a structural schema as Kubernetes asks for in a CustomResourceDefinition (OpenAPI v3, no `$ref`, a type at every
node, nothing but `properties` deciding what is known), so it can be put into one as it is, and any editor that knows
JSON schemas can complete and check a document with it. A schema is coarser than `windlass release lint`: the fields of
all strategies stand side by side, and what contradicts itself is found by the rules alone.

Source of the rules for structural schemas: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions",
section "Specifying a structural schema".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from datetime import timedelta
from typing import Any

from serving.release import durations, fields
from serving.release.fields import Form
from serving.release.metrics import METRICS, OPTIONAL_FIELDS
from serving.release.release import BACKENDS, STRATEGIES, STRATEGY_CLASSES, Check, Gateway
from serving.release.spec import API_VERSION

_DURATION = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
#: YAML reads `candidate: 13` as a number, and the document takes it as the text it stands for.
_VERSION: Mapping[str, Any] = {
    "x-kubernetes-int-or-string": True,
    "anyOf": [{"type": "integer"}, {"type": "string"}],
}


def release() -> dict[str, Any]:
    """Schema of a whole document."""
    return {
        "type": "object",
        "description": "A version of a model brought to its users as far as its checks allow.",
        "required": ["kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "enum": [API_VERSION]},
            "kind": {"type": "string", "enum": ["Release"]},
            "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "spec": spec(),
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


def json_schema() -> dict[str, Any]:
    """The same for editors, which want to be told the dialect: OpenAPI v3 has draft 4's limits."""
    return {"$schema": "http://json-schema.org/draft-04/schema#", "title": "Release", **release()}


def spec() -> dict[str, Any]:
    """Schema of the document's `spec`."""
    return {
        "type": "object",
        "required": ["model", "strategy", "checks"],
        "properties": {
            "model": {"type": "string", "minLength": 1, "description": "the registered model"},
            "candidate": {**_VERSION, "description": "version to release"},
            "candidates": {
                "type": "array",
                "minItems": 1,
                "items": _VERSION,
                "description": "versions to release, of an experiment or a bandit",
            },
            "champion": {
                **_VERSION,
                "description": "version to compare with; without it the one that holds the champion alias",
            },
            "backend": {
                "type": "string",
                "enum": list(BACKENDS),
                "default": "local",
                "description": "who routes the requests",
            },
            "gateway": {"description": "the Gateway of backend gateway", **_object(Gateway)},
            "strategy": _strategy(),
            "checks": {
                "type": "array",
                "minItems": 1,
                "description": "what decides; at least one guardrail",
                "items": _check(),
            },
            "onConflict": {
                "type": "string",
                "enum": ["refuse", "queue"],
                "default": "refuse",
                "description": "what to do while another release of the model is live",
            },
            "inconclusiveAfter": {
                **duration(),
                "default": "24h",
                "description": "time without progress after which whenInconclusive applies",
            },
            "whenInconclusive": {
                "type": "string",
                "enum": ["hold", "abort"],
                "default": "hold",
                "description": "hold and alert, or abort",
            },
        },
    }


def duration() -> dict[str, Any]:
    """Schema of a duration's text."""
    return {"type": "string", "pattern": _DURATION}


def _strategy() -> dict[str, Any]:
    """The fields of all strategies; one that several share is described by the first, its limits are the widest."""
    found: dict[str, Any] = {"type": {"type": "string", "enum": list(STRATEGIES)}}
    owners: dict[str, list[str]] = {}
    for kind, of in STRATEGY_CLASSES.items():
        for name, (_, form) in fields.forms(of).items():
            # without its default: an API server would write one strategy's into every other's document
            known = found.setdefault(name, _form(form, None))
            owners.setdefault(name, []).append(kind)
            if form.high is None:
                known.pop("maximum", None)
    for name, kinds in owners.items():
        described = found[name].get("description", "")
        found[name]["description"] = f"{', '.join(kinds)}: {described}"
    found["allocation"] |= {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    found["allocation"].pop("x-kubernetes-preserve-unknown-fields", None)
    return {
        "type": "object",
        "description": "how the requests go over to the candidate; the fields of each type stand side by side",
        "required": ["type"],
        "properties": found,
    }


def _check() -> dict[str, Any]:
    found = _object(Check)
    properties = found["properties"]
    sources = dict.fromkeys(source for metric in METRICS.values() for source in metric.sources)
    properties["source"]["enum"] = list(sources)
    # their defaults depend on the metric and the kind, and some metrics do not know the field at all
    for name in ("alpha", "minSamples", *OPTIONAL_FIELDS):
        properties[name].pop("default", None)
    properties["bound"] = {
        "description": "a percentage such as 2 or 0.5, or a duration for a latency such as 50ms",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return found


def _object(of: type) -> dict[str, Any]:
    forms = fields.forms(of)
    # the reader leaves it to its caller whether anything at all is stated
    required = [
        name
        for name, (field, form) in forms.items()
        if fields.default_of(field) is MISSING and form.kind != "any"
    ]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: _form(form, fields.default_of(field)) for name, (field, form) in forms.items()},
    }
    return {**found, "required": required} if required else found


def _form(form: Form, default: Any) -> dict[str, Any]:
    found = {**_TYPES[form.kind], "description": form.doc}
    if form.kind == "choice":
        found["enum"] = list(form.options)
    if form.kind == "integer":
        found |= _limits(form, "minimum", "maximum")
    if form.kind == "number":
        found |= _limits(form, "minimum", "maximum") | {"exclusiveMinimum": True, "exclusiveMaximum": True}
    if form.kind == "object" and form.of is not None:
        found |= _object(form.of)
    if form.kind == "list" and form.of is not None:
        found["items"] = _object(form.of)
    if form.kind in ("list", "texts"):
        found["minItems"] = 1
    written = _default(default)
    return found if written is None else {**found, "default": written}


def _limits(form: Form, low: str, high: str) -> dict[str, float]:
    found = {}
    if form.low is not None:
        found[low] = form.low
    if form.high is not None:
        found[high] = form.high
    return found


def _default(value: Any) -> Any:
    if isinstance(value, timedelta):
        return durations.format(value)
    return value if isinstance(value, str | int | float | bool) else None


_ANY: Mapping[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string", "minLength": 1},
    "texts": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "choice": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    # `2`, `2.5` and `2%` are all taken
    "percent": _ANY,
    "flag": {"type": "boolean"},
    "duration": duration(),
    "object": {"type": "object"},
    "list": {"type": "array"},
    "any": _ANY,
}
