"""A model's traffic as the spec of an HTTPRoute, and a live spec back as traffic: pure, both ways.

Rules in this order: everybody else, which is the least specific one and counts last wherever it stands; then, of
equally specific ones the first counts: matches, segments (a rule for each value), arms of an experiment (buckets that
the script of `policy.py` puts into a header). Each rule tells the model server in a header why the request is its
(`route_header`), and each backend states its version in a response header.
Needs Gateway API v1: weights and the request's header are core, the response header on a backend and `requestMirror`
extended, and `requestMirror.percent` is in the standard channel from v1.3 on.

Reading back does not parse: an annotation says what traffic the spec was written for, and it is believed where writing
that traffic again gives the very spec that is live (what the API server filled in aside). So a spec that was edited
by hand reads as different traffic, whatever was edited. Routes from before the request's header read as what they do.

A route never shrinks. Envoy Gateway names a proxy's clusters after the places of rule and backend, and takes a cluster
away a moment before the route that still names it: a request that came in between would be answered 500. So a place
that a live route has is kept: as one more backend of the version that has most of the rule, or as a rule for a path
that nobody asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from serving.release import route_header
from serving.release import traffic as values
from serving.release.cluster import naming, patterns
from serving.release.envoy.lua import BUCKET_HEADER
from serving.release.envoy.routes import VERSION_HEADER
from serving.release.release import Gateway
from serving.release.route_header import ROUTE_HEADER
from serving.release.traffic import BUCKETS, Assignment, Traffic
from windlass.errors import UsageError

Spec = dict[str, Any]
Shape = tuple[int, ...]
"""How many backends each rule of a route has."""

#: The Gateway API's own bound. Those of matches (64 a rule, 128 a route) are out of reach: the most scattered buckets
#: make 45 of them.
MOST_RULES = 16

#: What is read where a live route says something that we never write.
FOREIGN = Traffic({})

_PORT = 80
#: What the rules that are kept for their places match.
_NOBODY = {"path": {"type": "Exact", "value": "/windlass.dev/nobody"}}


def refusal(traffic: Traffic, gateway: Gateway) -> str | None:
    """Why a Gateway cannot do this, with what to do instead; None where it can."""
    if traffic.mirror_to is not None and traffic.weights.get(traffic.mirror_to):
        return (
            f"version {traffic.mirror_to} has a share and a copy of the others' requests: a Gateway mirrors what a "
            "rule matches, whoever answers, so that version would score its own requests twice; use a shadow release"
        )
    if traffic.assignment is not None and gateway.extension is None:
        return (
            f"Gateway {gateway.name} has no extension that assigns units; run Envoy Gateway and state "
            "spec.gateway.extension: envoyGateway, or use a canary"
        )
    if traffic.assignment is not None and traffic.segments is not None:
        return "units are assigned or weights go by a header's value, not both; leave one out"
    for weights in (traffic.weights, *(traffic.segments.weights.values() if traffic.segments else ())):
        if sum(weights.values()) != 100 or min(weights.values()) < 0:
            return f"weights {dict(weights)} are no shares of 100"
    if traffic.assignment is not None:
        shares = _shares(traffic.assignment)
        if shares != {version: weight for version, weight in traffic.weights.items() if weight}:
            return f"weights {dict(traffic.weights)} are not the shares of the buckets, {shares}"
    segments = 0 if traffic.segments is None else len(traffic.segments.weights)
    arms = 0 if traffic.assignment is None else len(traffic.assignment.buckets)
    count = len(traffic.matches) + segments + arms + 1
    if count > MOST_RULES:
        return f"{count} rules are more than the {MOST_RULES} of an HTTPRoute; use fewer header values or versions"
    return None


def shape(route: Mapping[str, Any] | None) -> Shape:
    """The places that a live route has; none where there is no route."""
    rules = () if route is None else route["spec"].get("rules", ())
    return tuple(sum(1 for ref in rule.get("backendRefs", ()) if ref.get("weight", 1)) for rule in rules)


def spec(
    model: str, namespace: str, traffic: Traffic, gateway: Gateway, *, kept: Shape = (), former: bool = False
) -> Spec:
    """The spec that puts `traffic` in force, with every default spelled out.

    Args:
        kept: places that it has at least.
        former: as it was written before its rules told the model servers why a request is theirs.

    Raises:
        UsageError: a name cannot stand on a cluster or in a match.
    """
    write = _Writer(model, namespace, traffic, bool(gateway.hostnames), former)
    found: Spec = {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": gateway.name,
                "namespace": gateway.namespace or namespace,
            }
        ],
        "rules": write.rules() if former else write.kept(kept),
    }
    return {**found, "hostnames": list(gateway.hostnames)} if gateway.hostnames else found


def manifest(
    model: str, namespace: str, traffic: Traffic, gateway: Gateway, *, kept: Shape = ()
) -> dict[str, Any]:
    """Metadata and spec of the whole object."""
    return {
        "metadata": {
            "labels": {**naming.MANAGED_BY, naming.MODEL_LABEL: model},
            "annotations": {naming.TRAFFIC_ANNOTATION: _json(traffic)},
        },
        "spec": spec(model, namespace, traffic, gateway, kept=kept),
    }


def read(route: Mapping[str, Any], model: str, gateway: Gateway) -> Traffic:
    """What a live route does; `FOREIGN` where that is nothing that we write."""
    namespace = route["metadata"]["namespace"]
    live = _filled(route["spec"], namespace)
    said = route["metadata"].get("annotations", {}).get(naming.TRAFFIC_ANNOTATION)
    for candidate in (_from_json(said), _weights_alone(live, model)):
        if candidate is None or refusal(candidate, gateway) is not None:
            continue
        try:
            for former in (False, True):
                written = spec(model, namespace, candidate, gateway, kept=shape(route), former=former)
                if _filled(written, namespace) == live:
                    return candidate
        except UsageError:
            continue
    return FOREIGN


class _Writer:
    def __init__(self, model: str, namespace: str, traffic: Traffic, own_host: bool, former: bool) -> None:
        self._model = model
        self._namespace = namespace
        self._traffic = traffic
        self._former = former
        self._paths = [("PathPrefix", "/")] if own_host else _paths(model)

    def kept(self, places: Shape) -> list[Spec]:
        """The rules, with at least these places."""
        rules = self.rules()
        widest = max(self._traffic.weights, key=lambda version: self._traffic.weights[version])
        nobody = self._rule("match", [], {widest: 100}, mirrored=False) | {"matches": [_NOBODY]}
        return [
            _widened(nobody if rule is None else rule, most)
            for rule, most in zip_longest(rules, places[:MOST_RULES], fillvalue=None)
        ]

    def rules(self) -> list[Spec]:
        """What the traffic asks for."""
        traffic = self._traffic
        # whoever asks for a version by name is outside all evidence, so nothing is mirrored
        rules = [
            self._rule("match", [self._header(match)], {match.version: 100}, mirrored=False)
            for match in traffic.matches
        ]
        last, default = "weights", traffic.weights
        if traffic.segments is not None:
            rules += [
                self._rule(route_header.segment(value), [_exact(traffic.segments.header, value)], weights)
                for value, weights in traffic.segments.weights.items()
            ]
        if traffic.assignment is not None:
            for version, ranges in traffic.assignment.buckets.items():
                headers = [
                    _header(BUCKET_HEADER, "RegularExpression", text) for text in patterns.buckets(ranges)
                ]
                if headers:
                    rules.append(self._rule("arm", headers, {version: 100}))
            last, default = "unassigned", {traffic.assignment.otherwise: 100}
        everybody = self._rule(last, [None], default)
        return [*rules, everybody] if self._former else [everybody, *rules]

    def _header(self, match: values.Match) -> Spec:
        if match.kind == "cookie":
            return _header("cookie", "RegularExpression", patterns.cookie(match.name, match.value))
        return _exact(match.name, match.value)

    def _rule(
        self, why: str, headers: Sequence[Spec | None], weights: Mapping[str, int], *, mirrored: bool = True
    ) -> Spec:
        matches = [
            {"path": {"type": kind, "value": path}, **({} if header is None else {"headers": [header]})}
            for header in headers
            for kind, path in self._paths
        ]
        rule: Spec = {
            "matches": matches,
            "backendRefs": [
                {
                    **self._service(version),
                    "weight": weight,
                    "filters": [
                        {
                            "type": "ResponseHeaderModifier",
                            "responseHeaderModifier": {"set": [{"name": VERSION_HEADER, "value": version}]},
                        }
                    ],
                }
                for version, weight in weights.items()
                if weight
            ],
        }
        filters: list[Spec] = []
        if not self._former:
            told = {"set": [{"name": ROUTE_HEADER, "value": why}]}
            filters.append({"type": "RequestHeaderModifier", "requestHeaderModifier": told})
        if mirrored and self._traffic.mirror_to is not None:
            mirror: Spec = {"backendRef": self._service(self._traffic.mirror_to)}
            if self._traffic.mirror_percent < 100:
                mirror["percent"] = self._traffic.mirror_percent
            filters.append({"type": "RequestMirror", "requestMirror": mirror})
        return {**rule, "filters": filters} if filters else rule

    def _service(self, version: str) -> Spec:
        return {
            "group": "",
            "kind": "Service",
            "name": naming.predictor(self._model, version),
            "namespace": self._namespace,
            "port": _PORT,
        }


def _widened(rule: Spec, places: int | None) -> Spec:
    """The rule with at least so many backends, those of the version that has most of it more than once."""
    refs: list[Spec] = rule["backendRefs"]
    most = max(refs, key=lambda ref: int(ref["weight"]))
    more = min((places or 0) - len(refs), most["weight"] - 1)
    if more <= 0:
        return rule
    refs = [ref if ref is not most else {**ref, "weight": ref["weight"] - more} for ref in refs]
    return {**rule, "backendRefs": [*refs, *({**most, "weight": 1} for _ in range(more))]}


def _paths(model: str) -> list[tuple[str, str]]:
    """A model's paths on a host that it shares: "flights:predict" is one element, so no prefix of another covers it."""
    return [
        ("PathPrefix", f"/v2/models/{model}"),
        ("PathPrefix", f"/v1/models/{model}"),
        ("Exact", f"/v1/models/{model}:predict"),
    ]


def _exact(name: str, value: str) -> Spec:
    return _header(name, "Exact", value)


def _header(name: str, kind: str, value: str) -> Spec:
    return {"type": kind, "name": name, "value": value}


def _json(traffic: Traffic) -> str:
    return json.dumps(values.to_json(traffic), sort_keys=False, separators=(",", ":"))


def _from_json(text: str | None) -> Traffic | None:
    try:
        return None if text is None else values.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _weights_alone(live: Spec, model: str) -> Traffic | None:
    """Weights and mirror of a route's only rule, so that an edit of weights by hand is reported as what it is."""
    rules = live.get("rules", [])
    if len(rules) != 1:
        return None
    weights: dict[str, int] = {}
    for ref in rules[0].get("backendRefs", ()):
        version = naming.version_of(model, ref["name"])
        if version is None:
            return None
        weights[version] = weights.get(version, 0) + ref["weight"]
    if not weights:
        return None
    for item in rules[0].get("filters", ()):
        mirror = item.get("requestMirror")
        if mirror is None:
            continue
        return Traffic(
            weights,
            naming.version_of(model, mirror.get("backendRef", {}).get("name", "")),
            mirror.get("percent", 100),
        )
    return Traffic(weights)


def _filled(live: Mapping[str, Any], namespace: str) -> Spec:
    """The spec with what the API server fills in, so that two ways of writing the same are equal."""
    found: Spec = dict(live)
    found["parentRefs"] = [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, **ref}
        for ref in live.get("parentRefs", ())
    ]
    found["rules"] = [_filled_rule(rule, namespace) for rule in live.get("rules", ())]
    return {key: value for key, value in found.items() if value}


def _filled_rule(rule: Mapping[str, Any], namespace: str) -> Spec:
    def service(ref: Mapping[str, Any]) -> Spec:
        return {"group": "", "kind": "Service", "namespace": namespace, **ref}

    found: Spec = {key: value for key, value in rule.items() if value not in ([], {}, None)}
    found["matches"] = [
        {
            **match,
            "path": {"type": "PathPrefix", "value": "/", **match.get("path", {})},
            **(
                {"headers": [{"type": "Exact", **item} for item in match["headers"]]}
                if match.get("headers")
                else {}
            ),
        }
        for match in rule.get("matches") or [{}]
    ]
    # the order of backends means nothing, and Envoy's shares do not depend on it
    found["backendRefs"] = sorted(
        ({"weight": 1, **service(ref)} for ref in rule.get("backendRefs", ()) if ref.get("weight", 1)),
        key=lambda ref: (ref["name"], json.dumps(ref, sort_keys=True)),
    )
    if rule.get("filters"):
        found["filters"] = [
            {
                **item,
                "requestMirror": {
                    **item["requestMirror"],
                    "backendRef": service(item["requestMirror"]["backendRef"]),
                },
            }
            if "requestMirror" in item
            else item
            for item in rule["filters"]
        ]
    return found


def _shares(assignment: Assignment) -> Mapping[str, float]:
    """Percent of the units that each version has."""
    sizes = {
        version: sum(high - low for low, high in ranges) for version, ranges in assignment.buckets.items()
    }
    return {version: size * 100 / BUCKETS for version, size in sizes.items() if size}
