"""Read dashboards with the types of Grafana's own SDK, in its environment; print what they do not know or allow.

Reads a JSON list of dashboards from stdin, prints a JSON list of problems. The SDK's readers pass over keys that they
do not know and take values as they come, so that two things are asked: what a reader kept is all that was given, and
each value is of the type that the schema states.
"""

from __future__ import annotations

import enum
import inspect
import json
import sys
import typing
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """What was given and is not in what was kept."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                # an optional value that is null is the same as one that is absent
                if value is not None:
                    yield f"{path}.{key}: not in Grafana's schema"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for i, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{i}]")
    elif given != kept:
        yield f"{path}: {given!r} was read as {kept!r}"


def wrong(value: Any, path: str) -> Iterator[str]:
    """Fields whose value is not of the type that their class states."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from wrong(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from wrong(item, f"{path}.{key}")
    elif type(value).__module__.startswith("grafana_foundation_sdk.models") and not isinstance(
        value, enum.Enum
    ):
        hints = typing.get_type_hints(type(value))
        for name, item in vars(value).items():
            if name in hints and not fits(item, hints[name]):
                yield f"{path}.{name}: {item!r} is no {hints[name]}"
            yield from wrong(item, f"{path}.{name}")


def fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object) or isinstance(hint, typing.TypeVar):
        return True
    if origin is typing.Union:
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if not inspect.isclass(hint):
        return True
    if issubclass(hint, enum.Enum):
        return value in {member.value for member in hint}
    if isinstance(value, dict) and hasattr(hint, "from_json"):  # a part that the SDK's reader leaves as it is
        kept = json.loads(json.dumps(hint.from_json(value), cls=JSONEncoder))
        return not any(lost(value, kept, ""))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def problems(content: dict[str, Any]) -> list[str]:
    name = content.get("uid", "?")
    read = Dashboard.from_json(content)
    kept = json.loads(json.dumps(read, cls=JSONEncoder))
    return [*lost(content, kept, name), *wrong(read, name)]


if __name__ == "__main__":
    register_default_plugins()
    print(json.dumps([problem for content in json.load(sys.stdin) for problem in problems(content)]))
