"""What Envoy's admin shows of a model's routes, as the `Traffic` that they carry out.

Read from what the routes *do* (clusters, weights, conditions, mirror headers, the Lua text), so that a configuration
that differs in effect is read as a different traffic. A note in the route's metadata is believed only where the
effects do not contradict it: which of two versions that copy to each other was meant by `mirror_to`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from serving.release import buckets
from serving.release.envoy import lua as envoy_lua
from serving.release.envoy.config import LUA_FILTER, MIRROR_HEADER, mirrors, shadowed_by
from serving.release.envoy.routes import NOTES, Kind, kind_of
from serving.release.traffic import Assignment, Match, Segments, Traffic

Entry = Mapping[str, Any]


def traffic(route_config: Mapping[str, Any], model: str) -> Traffic | None:
    """The traffic of `model` in a route configuration as the admin shows it; None where the model has no route."""
    found: dict[Kind, list[tuple[str, Entry]]] = {}
    for entry in _entries(route_config, model):
        kind, detail = kind_of(entry["name"])
        found.setdefault(kind, []).append((detail, entry))
    last = next((found[kind][-1][1] for kind in ("weights", "unassigned") if kind in found), None)
    if last is None:
        return None
    segments = _segments(found.get("segment", []))
    assignment = _assignment(found.get("arm", []), last) if "unassigned" in found else None
    if assignment is None:
        weights = _weights(last)
    else:
        weights = {v: buckets.size(ranges) // buckets.PERCENT for v, ranges in assignment.buckets.items()}
    matches = tuple(_match(entry) for _, entry in found.get("match", []))
    read = Traffic(weights, matches=matches, assignment=assignment, segments=segments)
    counted = [entry for kind in ("weights", "segment", "arm") for _, entry in found.get(kind, [])]
    return _with_mirrors(read, counted, last.get("metadata", {}).get("filter_metadata", {}).get(NOTES, {}))


def _entries(route_config: Mapping[str, Any], model: str) -> Iterator[Entry]:
    for host in route_config.get("virtual_hosts", ()):
        for entry in host.get("routes", ()):
            name = entry.get("name", "")
            if name == model or name.startswith(f"{model}/"):
                yield entry


def _clusters(entry: Entry) -> list[Mapping[str, Any]]:
    return list(entry["route"]["weighted_clusters"]["clusters"])


def _weights(entry: Entry) -> dict[str, int]:
    return {_version(c): int(c.get("weight", 0)) for c in _clusters(entry)}


def _version(cluster: Mapping[str, Any]) -> str:
    return str(cluster["name"]).rpartition("@")[2]


def _condition(entry: Entry) -> tuple[Literal["header", "cookie"], Mapping[str, Any]]:
    match = entry["match"]
    return ("header", match["headers"][0]) if "headers" in match else ("cookie", match["cookies"][0])


def _match(entry: Entry) -> Match:
    kind, condition = _condition(entry)
    return Match(kind, condition["name"], condition["string_match"]["exact"], _version(_clusters(entry)[0]))


def _segments(entries: list[tuple[str, Entry]]) -> Segments | None:
    if not entries:
        return None
    conditions = [_condition(entry)[1] for _, entry in entries]
    values = [condition["string_match"]["exact"] for condition in conditions]
    return Segments(
        conditions[0]["name"],
        {value: _weights(entry) for value, (_, entry) in zip(values, entries, strict=True)},
    )


def _assignment(arms: list[tuple[str, Entry]], last: Entry) -> Assignment | None:
    text = last.get("typed_per_filter_config", {}).get(LUA_FILTER, {}).get("source_code", {})
    assigned_by = envoy_lua.assigned_by(text.get("inline_string", ""))
    if assigned_by is None:
        return None
    owned: dict[str, list[tuple[int, int]]] = {}
    for _, entry in arms:
        numbers = _condition(entry)[1].get("range_match", {})
        held = (int(numbers.get("start", 0)), int(numbers.get("end", 0)))
        owned.setdefault(_version(_clusters(entry)[0]), []).append(held)
    unit, salt = assigned_by
    return Assignment(
        unit, salt, {v: buckets.merged(ranges) for v, ranges in owned.items()}, _version(_clusters(last)[0])
    )


def _with_mirrors(read: Traffic, counted: list[Entry], notes: Mapping[str, Any]) -> Traffic:
    noted = replace(
        read, mirror_to=notes.get("mirror_to"), mirror_percent=int(notes.get("mirror_percent", 100))
    )
    shown: dict[str, str] = {}
    percents: set[int] = set()
    for entry in counted:
        for cluster in _clusters(entry):
            for option in cluster.get("request_headers_to_add", ()):
                if option["header"]["key"] == MIRROR_HEADER:
                    shown[_version(cluster)] = shadowed_by(option["header"]["value"])
        for policy in entry["route"].get("request_mirror_policies", ()):
            share = policy.get("runtime_fraction", {}).get("default_value", {})
            percents.add(int(share.get("numerator", 0)) // 100)
    percent = min(percents, default=noted.mirror_percent)
    if shown == mirrors(noted) and percent == noted.mirror_percent:
        return noted
    # somebody else wrote these routes: the version that most others copy to is as near as a Traffic comes
    targets = list(shown.values())
    to = max(targets, key=targets.count) if targets else None
    guessed = replace(read, mirror_to=to, mirror_percent=percent)
    return guessed if guessed != noted else replace(read, mirror_to=None)
