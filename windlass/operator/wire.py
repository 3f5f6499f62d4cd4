"""Who answers a model's callers before its next release begins: it must be who is called champion.

A router's word is enough where it says what a release writes. Where somebody edited the route into something else, what
it sends to whom can still be read; nothing is begun beside a route of which not even that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.release.cluster import naming
from serving.release.release import Release
from serving.release.traffic import Traffic
from windlass.errors import UsageError


def answering(
    wire: Traffic | None, route: Mapping[str, Any] | None, model: str, namespace: str
) -> frozenset[str] | None:
    """The versions with a share of the traffic; None where that cannot be known.

    Args:
        wire: as the backend reads it.
        route: the model's HTTPRoute, None where there is none of ours; read where the backend cannot. What is no
            version of the model is called by its kind and name.
    """
    if wire is None:
        return frozenset()
    shares = [wire.weights, *(wire.segments.weights.values() if wire.segments is not None else ())]
    found = {version for weights in shares for version, weight in weights.items() if weight}
    if found:
        return frozenset(found)
    if route is None:
        return None
    refs = [
        ref
        for rule in route["spec"].get("rules") or ()
        for ref in rule.get("backendRefs") or ()
        if ref.get("weight", 1)
    ]
    return frozenset(_called(ref, model, namespace) for ref in refs) or None


def agree(release: Release, champion: str | None, versions: frozenset[str]) -> None:
    """Let no release begin beside a champion that does not have the traffic: its first step would move all but a share
    of it to a version that no check has seen, and undo what a person did by hand.

    Raises:
        UsageError: others have traffic.
    """
    if champion is None or versions <= {champion}:
        return
    if len(versions) == 1:
        (serving,) = versions
        raise UsageError(
            f"release {release.name!r}: version {champion} of {release.model!r} is called champion, and version "
            f"{serving} has all of the traffic; move the champion's alias back to {serving}, and release "
            f"{champion} by a release of its own"
        )
    raise UsageError(
        f"release {release.name!r}: version {champion} of {release.model!r} is called champion, and "
        f"{', '.join(sorted(versions))} share the traffic although no release is live; give all of it to one version, "
        "and have the champion's alias say which"
    )


def _called(ref: Mapping[str, Any], model: str, namespace: str) -> str:
    kind, place, name = ref.get("kind", "Service"), ref.get("namespace", namespace), str(ref["name"])
    version = naming.version_of(model, name) if (kind, place) == ("Service", namespace) else None
    return version or f"{kind} {place}/{name}"
