"""What a document would change: against the model's newest release, and against what is routed now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.release import spec
from serving.release.release import Release

#: Stands for a field that one of the two does not have; JSON shows it as null.
ABSENT = None


@dataclass(frozen=True)
class Change:
    """One field that differs; what is absent is None."""

    path: str
    before: Any
    after: Any


def changes(before: Release | None, after: Release) -> list[Change]:
    """Field by field, in the order of the new document, then what it no longer has.

    Checks are told apart by their names and not by their places, so that adding one does not change all below it.
    """
    old = {} if before is None else flat(spec.document(before))
    new = flat(spec.document(after))
    paths = [*new, *(path for path in old if path not in new)]
    return [Change(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value of every leaf."""
    found: dict[str, Any] = {}
    _flatten(document, "", found)
    return found


def _flatten(value: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(item, f"{path}.{key}" if path else str(key), found)
    elif isinstance(value, Sequence) and not isinstance(value, str) and _mappings(value):
        for index, item in enumerate(value):
            name = item.get("name", index) if path == "spec.checks" else index
            _flatten(item, f"{path}[{name}]", found)
    else:
        found[path] = value


def _mappings(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)
