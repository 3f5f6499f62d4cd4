"""Whether a traffic can be meant at all, and its one canonical form: asked before any router is told."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from serving.release import buckets
from serving.release.traffic import Assignment, Segments, Traffic
from windlass.errors import UsageError

__all__ = ["canonical", "fault_of_name", "fault_of_value", "require_meant"]

# RFC 9110, section 5.6.2: a token. Other characters cannot stand in a header's or a cookie's name.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# what a header carries unchanged: visible ASCII, blanks inside only
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]+")
_OURS = "x-windlass-"
_ALLOWED_OURS = ("x-windlass-preview", "x-windlass-random")


def canonical(traffic: Traffic) -> Traffic:
    """The same traffic without shares of zero and with ranges merged: what is read back from the wire."""
    assignment, segments = traffic.assignment, traffic.segments
    if assignment is not None:
        owned = {v: buckets.merged(ranges) for v, ranges in assignment.buckets.items()}
        assignment = replace(assignment, buckets={v: ranges for v, ranges in owned.items() if ranges})
    if segments is not None:
        by_value = {value: _shares(weights) for value, weights in segments.weights.items()}
        segments = Segments(segments.header, by_value) if by_value else None
    return replace(
        traffic,
        weights=_shares(traffic.weights),
        matches=tuple(traffic.matches),
        assignment=assignment,
        segments=segments,
    )


def fault_of_name(kind: str, name: str) -> str | None:
    """Why no request can have a header or cookie of this name, as a remedy; None where it can."""
    if not _TOKEN.fullmatch(name):
        return f"cannot be a {kind}'s name; give letters, digits and dashes"
    if kind == "header" and name.lower().startswith(_OURS) and name.lower() not in _ALLOWED_OURS:
        return "is the proxy's own header, callers cannot send it; choose another"
    return None


def fault_of_value(kind: str, value: str) -> str | None:
    """Why no request can carry this value in a header or cookie, as a remedy; None where it can."""
    if (_VALUE if kind == "header" else _COOKIE_VALUE).fullmatch(value):
        return None
    return f"no request carries it in a {kind}; give visible ASCII without blanks around it"


def require_meant(model: str, traffic: Traffic, servers: Collection[str]) -> None:
    """Raise unless `traffic` can be carried out with the versions that have `servers`.

    Raises:
        UsageError: shares that do not sum to 100, buckets that are not 10,000, each once, or not as many as the
            weights say, a version without a server, a name or value that no header can carry, an assignment beside
            segments.
    """
    _require_weights(f"weights {dict(traffic.weights)} of {model}", traffic.weights)
    for version in canonical(traffic).versions:
        if version not in servers:
            known = ", ".join(sorted(servers)) or "none"
            raise UsageError(
                f"version {version} of {model} has no server (known: {known}); start it before it gets traffic"
            )
    if not 0 <= traffic.mirror_percent <= 100:
        raise UsageError(f"mirror of {model}: {traffic.mirror_percent} percent; give 0 to 100")
    for match in traffic.matches:
        _require_name(model, match.kind, match.name)
        fault = fault_of_value(match.kind, match.value)
        if fault is not None:
            raise UsageError(f"{match.kind} {match.name} = {match.value!r} of {model}: {fault}")
    if traffic.segments is not None:
        if traffic.assignment is not None:
            raise UsageError(
                f"{model}: units are assigned, so weights by the header {traffic.segments.header} cannot hold as well; "
                "give one of the two"
            )
        _require_segments(model, traffic.segments)
    if traffic.assignment is not None:
        _require_assignment(model, traffic.assignment, traffic.weights)


def _require_segments(model: str, segments: Segments) -> None:
    _require_name(model, "header", segments.header)
    for value, weights in segments.weights.items():
        fault = fault_of_value("header", value)
        if fault is not None:
            raise UsageError(f"header {segments.header} = {value!r} of {model}: {fault}")
        _require_weights(f"weights {dict(weights)} of {model} where {segments.header} is {value}", weights)


def _require_assignment(model: str, assignment: Assignment, weights: Mapping[str, int]) -> None:
    _require_name(model, assignment.unit.kind, assignment.unit.name)
    buckets.require_partition(assignment.buckets)
    owned = {version: buckets.size(ranges) for version, ranges in assignment.buckets.items() if ranges}
    stated = {version: weight * buckets.PERCENT for version, weight in weights.items() if weight}
    if owned != stated:
        raise UsageError(
            f"{model}: weights {dict(weights)} ask for {stated} buckets, the assignment has {owned}; "
            "use buckets.initial and buckets.move"
        )


def _require_weights(what: str, weights: Mapping[str, int]) -> None:
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) != 100:
        raise UsageError(f"{what} must be percents that sum to 100")


def _require_name(model: str, kind: str, name: str) -> None:
    fault = fault_of_name(kind, name)
    if fault is not None:
        raise UsageError(f"{kind} {name!r} of {model} {fault}")


def _shares(weights: Mapping[str, int]) -> dict[str, int]:
    return {version: int(weight) for version, weight in weights.items() if weight}
