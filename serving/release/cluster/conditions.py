"""What controllers say of an object they were given: nothing yet, yes, or no and why.

A condition counts only where its `observedGeneration` is the object's: an older one speaks of what was there before,
and "Accepted" of the old route is how a bad one would pass for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """A controller's word.

    Attributes:
        accepted: None where it has not spoken yet.
        reason: why not, or what is waited for.
    """

    accepted: bool | None
    reason: str = ""


def of_route(route: Mapping[str, Any], gateway: str, namespace: str, *, wanted: tuple[str, ...]) -> Word:
    """What the controller of Gateway `namespace`/`gateway` says of an HTTPRoute (`status.parents`)."""
    own = route["metadata"]["namespace"]
    entries = [
        entry
        for entry in route.get("status", {}).get("parents", ())
        if entry["parentRef"]["name"] == gateway and entry["parentRef"].get("namespace", own) == namespace
    ]
    return _word(entries, route["metadata"].get("generation", 0), wanted, f"Gateway {namespace}/{gateway}")


def spoken(route: Mapping[str, Any]) -> bool:
    """Whether any controller has said anything of an HTTPRoute as it is now."""
    generation = route["metadata"].get("generation", 0)
    return any(
        condition.get("observedGeneration", 0) >= generation
        for entry in route.get("status", {}).get("parents", ())
        for condition in entry.get("conditions", ())
    )


def of_policy(policy: Mapping[str, Any]) -> Word:
    """What the controller says of a policy (`status.ancestors`)."""
    entries = policy.get("status", {}).get("ancestors", ())
    return _word(entries, policy["metadata"].get("generation", 0), ("Accepted",), "the Gateway's controller")


def _word(entries: Iterable[Mapping[str, Any]], generation: int, wanted: tuple[str, ...], who: str) -> Word:
    said: dict[str, Mapping[str, Any]] = {
        condition["type"]: condition
        for entry in entries
        for condition in entry.get("conditions", ())
        if condition.get("observedGeneration", 0) >= generation
    }
    for name in wanted:
        condition = said.get(name)
        if condition is not None and condition["status"] == "False":
            words = f"{condition.get('reason', 'no reason')}: {condition.get('message', '')}".rstrip(": ")
            return Word(False, f"{name} is False, {words}")
    missing = [name for name in wanted if name not in said or said[name]["status"] != "True"]
    if missing:
        return Word(None, f"{who} has not said {' and '.join(missing)} of generation {generation}")
    return Word(True)
