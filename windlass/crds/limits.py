"""How long, how many: what keeps an object small enough for an API server, and its rules cheap enough to be asked.

An API server refuses a definition whose CEL rules could cost too much, and reckons with the largest object that the
schema lets through; without these limits that is one of 3 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DURATION = 64
VERSION = 63

#: Characters of a text, by the field's name.
LONGEST: Mapping[str, int] = {
    "model": 63,
    "name": 253,
    "namespace": 63,
    "hostnames": 253,
    "header": 256,
    "cookie": 256,
    "value": 1024,
    "values": 1024,
    "salt": 253,
    "workload": 63,
}

#: Entries of a list or a mapping, by the field's name. A canary's whole percents rise at most a hundred times; an
#: HTTPRoute has 16 hostnames and 16 rules at most.
MOST: Mapping[str, int] = {
    "candidates": 15,
    "steps": 100,
    "smoke": 32,
    "checks": 32,
    "hostnames": 16,
    "values": 16,
    "allocation": 16,
    "signals": 16,
}


def bound(schema: dict[str, Any], name: str = "") -> None:
    """Give each text, list and mapping of a schema its limit; what holds no statement of its own has none."""
    if schema.get("x-kubernetes-int-or-string"):
        schema.setdefault("maxLength", VERSION)
    elif schema.get("type") == "string" and "enum" not in schema:
        schema.setdefault("maxLength", DURATION if "pattern" in schema else LONGEST[name])
    elif schema.get("type") == "array":
        schema.setdefault("maxItems", MOST[name])
        bound(schema["items"], name)
    elif isinstance(schema.get("additionalProperties"), dict):
        schema.setdefault("maxProperties", MOST[name])
        bound(schema["additionalProperties"], name)
    for child, below in schema.get("properties", {}).items():
        bound(below, child)
