"""What one set of Kubernetes objects has that another has not, as kustomize can say it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, order=True)
class Key:
    """What identifies an object."""

    api_version: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Difference:
    """From one set to another.

    Attributes:
        added: whole objects.
        removed: what identifies those that are gone.
        changed: steps of a JSON patch (RFC 6902) by object.
    """

    added: tuple[Document, ...]
    removed: tuple[Key, ...]
    changed: Mapping[Key, list[Document]]


def key(document: Mapping[str, Any]) -> Key:
    """What identifies an object."""
    metadata = document["metadata"]
    return Key(document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"])


def compare(before: Mapping[Key, Document], after: Mapping[Key, Document]) -> Difference:
    """From `before` to `after`."""
    changed = {name: steps(before[name], after[name]) for name in before if name in after}
    return Difference(
        tuple(found for name, found in after.items() if name not in before),
        tuple(name for name in before if name not in after),
        {name: found for name, found in changed.items() if found},
    )


def steps(before: Any, after: Any, place: str = "") -> list[Document]:
    """A JSON patch that turns one value into another. Lists of another length are replaced whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[Document] = []
        for name in before:
            path = f"{place}/{_escaped(name)}"
            if name not in after:
                found.append({"op": "remove", "path": path})
            else:
                found += steps(before[name], after[name], path)
        for name, value in after.items():
            if name not in before:
                found.append({"op": "add", "path": f"{place}/{_escaped(name)}", "value": value})
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            step
            for index, pair in enumerate(zip(before, after, strict=True))
            for step in steps(*pair, f"{place}/{index}")
        ]
    # 1 and true are equal in Python and nowhere else
    if before == after and type(before) is type(after):
        return []
    return [{"op": "replace", "path": place, "value": after}]


def patched(before: Mapping[Key, Document], difference: Difference) -> dict[Key, Document]:
    """`before` with the difference."""
    found = {name: copy.deepcopy(value) for name, value in before.items() if name not in difference.removed}
    for name, patch in difference.changed.items():
        for step in patch:
            _carry_out(found[name], step)
    return found | {key(added): copy.deepcopy(added) for added in difference.added}


def _carry_out(document: Any, step: Mapping[str, Any]) -> None:
    *outer, last = (part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:])
    for part in outer:
        document = document[int(part) if isinstance(document, list) else part]
    name: Any = int(last) if isinstance(document, list) else last
    if step["op"] == "remove":
        del document[name]
    else:
        document[name] = step["value"]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
