"""A model's `Traffic` as Envoy's routes, and the names by which the access log and the read-back know them.

Choices that matter:

* The versions of one decision are weighted clusters of one route, so a new split is one atomic update. The random
  number comes from the header `x-windlass-random` where a caller (a replay, a hop before us) sends one.
* Mirroring belongs to the cluster that was picked, not to the route: a route-wide mirror would send the candidate's
  own requests to the candidate a second time. The picked cluster adds a header that names the mirror's cluster, and
  the mirror policy reads its target from that header.
* Assigned units: the last route of the model carries the Lua text (`envoy_lua.py`), which writes the bucket; Envoy
  then picks again, and a route that matches the bucket's range answers. Where there is no bucket the last route does.
* Nothing is retried once a server may have seen the request: a prediction is logged, so it is not idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from serving.release.envoy import lua as envoy_lua
from serving.release.envoy.config import (
    COLLECTOR_CLUSTER,
    LUA_FILTER,
    MIRROR_HEADER,
    ROUTE_CONFIG,
    TYPE,
    Document,
    Routing,
    cluster_name,
    mirrors,
    shadow_cluster,
)
from serving.release.traffic import Assignment, Match, Segments, Traffic

RANDOM_HEADER = "x-windlass-random"
VERSION_HEADER = "x-windlass-version"
#: What a mirrored request's Host header is: model servers know a copy by the ending "-shadow".
MIRROR_HOST = "windlass-shadow"
COLLECTOR_PATHS = ("/feedback", "/report")
#: Key of our notes in a route's metadata.
NOTES = "windlass"

Kind = Literal["weights", "segment", "arm", "match", "unassigned", "version"]

#: Routes whose answers are evidence: nobody chose the version, and a unit, where there is one, was assigned.
COUNTED: frozenset[Kind] = frozenset({"weights", "segment", "arm"})


def name_of(model: str, kind: Kind, detail: str = "") -> str:
    """Name of a route; `kind_of` is its inverse. The detail is a version, a segment's value or a match's number."""
    if kind == "weights":
        return model
    if kind == "version":
        return f"{model}@{detail}"
    return f"{model}/{kind}/{detail}" if detail else f"{model}/{kind}"


def kind_of(route: str) -> tuple[Kind, str]:
    """Kind and detail of a route by its name."""
    model, slash, rest = route.partition("/")
    if not slash:
        _, at, version = model.partition("@")
        return ("version", version) if at else ("weights", "")
    kind, _, detail = rest.partition("/")
    return kind, detail  # type: ignore[return-value]


def routes(routing: Routing, *, trust_random_header: bool = True) -> Document:
    """The RDS file: by model its traffic, by explicit version that version, and the collector's paths."""
    entries: list[Document] = []
    if routing.collector is not None:
        entries += [
            {
                "name": f"{COLLECTOR_CLUSTER}{path}",
                "match": {"prefix": path},
                "route": {"cluster": COLLECTOR_CLUSTER, "timeout": "30s"},
            }
            for path in COLLECTOR_PATHS
        ]
    for model, route in sorted(routing.models.items()):
        if route.traffic is None:
            continue
        path = re.escape(model)
        entries += [
            {
                "name": name_of(model, "version", version),
                "match": {"safe_regex": {"regex": f"/v2/models/{path}/versions/{re.escape(version)}(/.*)?"}},
                "route": {"cluster": cluster_name(model, version), "timeout": "30s", "retry_policy": _RETRY},
                "response_headers_to_add": [_header(VERSION_HEADER, version)],
            }
            for version in sorted(route.servers)
        ]
        entries += _Model(model, route.traffic, trust_random_header).routes()
    return {
        "version_info": str(routing.revision),
        "resources": [
            {
                "@type": TYPE + "config.route.v3.RouteConfiguration",
                "name": ROUTE_CONFIG,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": entries}],
            }
        ],
    }


def route_names(route_config: Mapping[str, Any]) -> list[str]:
    """Names of the routes of a route configuration, in their order."""
    return [e["name"] for host in route_config.get("virtual_hosts", ()) for e in host.get("routes", ())]


# Only where no server can have seen the request: the connection failed, or the stream was refused unprocessed.
_RETRY: Document = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
}


class _Model:
    """The routes of one model, in the order in which Envoy tries them."""

    def __init__(self, model: str, traffic: Traffic, trust_random_header: bool) -> None:
        self._model = model
        self._traffic = traffic
        self._mirrors = mirrors(traffic)
        self._trust_random_header = trust_random_header
        self._path = {"safe_regex": {"regex": f"/v[12]/models/{re.escape(model)}([:/].*)?"}}

    def routes(self) -> Iterator[Document]:
        traffic = self._traffic
        yield from (self._match(number, match) for number, match in enumerate(traffic.matches))
        if traffic.segments is not None:
            yield from self._segments(traffic.segments)
        if traffic.assignment is None:
            last = self._route(name_of(self._model, "weights"), traffic.weights)
        else:
            yield from self._arms(traffic.assignment)
            last = self._unassigned(traffic.assignment)
        notes = {"mirror_to": traffic.mirror_to, "mirror_percent": traffic.mirror_percent}
        yield {**last, "metadata": {"filter_metadata": {NOTES: notes}}}

    def _match(self, number: int, match: Match) -> Document:
        condition = {"name": match.name, "string_match": {"exact": match.value}}
        which = "headers" if match.kind == "header" else "cookies"
        name = name_of(self._model, "match", str(number))
        return self._route(name, {match.version: 100}, {which: [condition]}, mirrored=False)

    def _segments(self, segments: Segments) -> Iterator[Document]:
        for value, weights in segments.weights.items():
            condition = {"name": segments.header, "string_match": {"exact": value}}
            yield self._route(name_of(self._model, "segment", value), weights, {"headers": [condition]})

    def _arms(self, assignment: Assignment) -> Iterator[Document]:
        for version, ranges in assignment.buckets.items():
            for low, high in ranges:
                condition = {"name": envoy_lua.BUCKET_HEADER, "range_match": {"start": low, "end": high}}
                name = name_of(self._model, "arm", version)
                yield self._route(name, {version: 100}, {"headers": [condition]})

    def _unassigned(self, assignment: Assignment) -> Document:
        lua = {
            "@type": TYPE + "extensions.filters.http.lua.v3.LuaPerRoute",
            "source_code": {"inline_string": envoy_lua.script(assignment.unit, assignment.salt)},
        }
        name = name_of(self._model, "unassigned")
        route = self._route(name, {assignment.otherwise: 100}, mirrored=False)
        return {**route, "typed_per_filter_config": {LUA_FILTER: lua}}

    def _route(
        self,
        name: str,
        weights: Mapping[str, int],
        condition: Mapping[str, Any] | None = None,
        *,
        mirrored: bool = True,
    ) -> Document:
        weighted: list[Document] = []
        for version, weight in weights.items():
            cluster: Document = {
                "name": cluster_name(self._model, version),
                "weight": weight,
                "response_headers_to_add": [_header(VERSION_HEADER, version)],
            }
            if mirrored and version in self._mirrors:
                target = shadow_cluster(self._model, self._mirrors[version])
                cluster["request_headers_to_add"] = [_header(MIRROR_HEADER, target)]
            weighted.append(cluster)
        action: Document = {
            "weighted_clusters": {"clusters": weighted},
            "timeout": "30s",
            "retry_policy": _RETRY,
        }
        if self._trust_random_header:
            action["weighted_clusters"]["header_name"] = RANDOM_HEADER
        if mirrored and self._mirrors:
            action["request_mirror_policies"] = [_mirror_policy(self._traffic.mirror_percent)]
        return {"name": name, "match": {**self._path, **(condition or {})}, "route": action}


def _mirror_policy(percent: int) -> Document:
    # Envoy draws version and copy from one random number, modulo 100 and modulo the denominator: only hundreds of
    # ten thousand make the two independent, so that each version is copied in proportion to what it answers
    return {
        "cluster_header": MIRROR_HEADER,
        "host_rewrite_literal": MIRROR_HOST,
        "runtime_fraction": {"default_value": {"numerator": 100 * percent, "denominator": "TEN_THOUSAND"}},
    }


def _header(key: str, value: str) -> Document:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
