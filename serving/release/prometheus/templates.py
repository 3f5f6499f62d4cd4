"""The queries, by name: which counters say how many requests a version answered, how many failed, how long each took.

A set for each way of running: `RUNTIME` asks our model servers, which put model and version on every series, wherever
they run, and `RUNTIME_ASSIGNED` leaves out the requests whose version no route of ours assigned; `ENVOY` asks an Envoy
of ours, whose clusters are called after model and version; `ENVOY_GATEWAY` asks the proxies of Envoy Gateway, whose
clusters are called after the place of a backend in its route, so that they must be named by whoever wrote the route
(`clusters_of`). The runtime sees no request that never reached it; Envoy does, but has
no duration of one whose caller went away, and shows its histograms up to 5 s late (`stats_flush_interval`).

KServe's own model servers (`request_predict_seconds`) state neither a version nor a status, so they have no set here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any

from serving.release import route_header
from serving.release.envoy.config import cluster_name
from serving.release.envoy.routes import COUNTED

#: model and version -> values of the version label that stand for it
Values = Callable[[str, str], tuple[str, ...]]


@dataclass(frozen=True)
class Query:
    """One range selector.

    Attributes:
        name: under which documents and errors speak of it.
        promql: with $model, $values (a pattern of the version label), $more (further matchers) and $window.
        labels: labels that the metric itself has -> what they mean; every other one is the target's.
        version: the label that tells versions apart.
    """

    name: str
    promql: str
    labels: Mapping[str, str]
    version: str

    @property
    def metric(self) -> str:
        return self.promql.partition("{")[0]

    def render(self, model: str, values: tuple[str, ...], more: Mapping[str, str], window_s: float) -> str:
        """The query, with every value quoted."""
        matchers = "".join(f',{name}="{_quoted(value)}"' for name, value in sorted(more.items()))
        return Template(self.promql).substitute(
            model=_quoted(model),
            values=_quoted("|".join(map(_literal, values))),
            more=matchers,
            window=f"{max(1, round(window_s * 1000))}ms",
        )


@dataclass(frozen=True)
class Queries:
    """What a source asks.

    Attributes:
        responses: requests that callers waited for, by outcome.
        outcome: its label of the outcome, and `failed` the pattern of those that failed on our side.
        durations: buckets of a classic histogram (label `le`).
        to_ms: what turns a bound of it into milliseconds.
        values: how a version is called in the version label.
    """

    name: str
    responses: Query
    outcome: str
    failed: str
    durations: Query
    to_ms: float
    values: Values = field(default=lambda model, version: (version,))

    def is_failure(self, outcome: str) -> bool:
        return re.fullmatch(self.failed, outcome) is not None


_LE = "upper bound of a bucket"
_RUNTIME_LABELS = {
    "model": "name of the model",
    "version": "its version",
    "assigned": "false where a caller chose the version, or has no unit",
}


def _runtime(also: str) -> Queries:
    of = f'model="$model",version=~"$values"{also}$more'
    return Queries(
        name="runtime",
        responses=Query(
            "runtimeResponses",
            f"windlass_requests_total{{{of}}}[$window]",
            {**_RUNTIME_LABELS, "protocol": "v1, v2 or grpc", "code": "HTTP status"},
            "version",
        ),
        outcome="code",
        failed="5..",
        durations=Query(
            "runtimeDurations",
            f"windlass_request_seconds_bucket{{{of}}}[$window]",
            {**_RUNTIME_LABELS, "le": f"{_LE}, seconds"},
            "version",
        ),
        to_ms=1000.0,
    )


RUNTIME = _runtime("")

#: Servers of an image that knows no such label are asked for everything.
RUNTIME_ASSIGNED = _runtime(',assigned!="false"')


def runtime(backend: str) -> Queries:
    """The set for the model servers of a release.

    A route of ours overwrites the header that a server goes by. KServe's and Knative's own, and the local proxy, let
    through what a caller puts into it, and nobody may take failures out of the evidence: there all is counted.

    Args:
        backend: one of `release.BACKENDS`.
    """
    return RUNTIME_ASSIGNED if backend == "gateway" else RUNTIME


_ENVOY_LABELS = {"envoy_cluster_name": "the upstream cluster"}


def _envoy(name: str, values: Values) -> Queries:
    return Queries(
        name=name,
        responses=Query(
            f"{name}Responses",
            'envoy_cluster_upstream_rq_xx{envoy_cluster_name=~"$values"$more}[$window]',
            {**_ENVOY_LABELS, "envoy_response_code_class": "1 to 5; 5 also where no server could be reached"},
            "envoy_cluster_name",
        ),
        outcome="envoy_response_code_class",
        failed="5",
        durations=Query(
            f"{name}Durations",
            'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=~"$values"$more}[$window]',
            {**_ENVOY_LABELS, "le": f"{_LE}, milliseconds"},
            "envoy_cluster_name",
        ),
        to_ms=1.0,
        values=values,
    )


ENVOY = _envoy("envoy", lambda model, version: (cluster_name(model, version),))


def listening(window_s: float) -> str:
    """The query that gives something where Prometheus scraped anything at all in the last `window_s` seconds."""
    return f"count(last_over_time(up[{round(window_s * 1000)}ms]))"


#: Labels of a target that its `up` bears as well, of those that tell targets apart.
OF_A_TARGET = ("instance", "job", "pod")


def scraping(targets: Collection[Mapping[str, str]], window_s: float) -> str:
    """The query that says of each scrape of the last `window_s` seconds whether it succeeded: of `targets`, and of
    others that share their labels.

    Args:
        targets: their labels.
    """
    known = {name: sorted({labels.get(name, "") for labels in targets}) for name in OF_A_TARGET}
    matchers = (
        f'{name}=~"{_quoted("|".join(map(_literal, values)))}"'
        for name, values in known.items()
        if all(values)
    )
    return f"up{{{','.join(matchers)}}}[{round(window_s * 1000)}ms]"


def scraping_pods(prefixes: Collection[str], more: Mapping[str, str], window_s: float) -> str:
    """The same of pods whose names begin with one of `prefixes`."""
    pattern = "|".join(f"{_literal(prefix)}.*" for prefix in prefixes)
    matchers = "".join(f',{name}="{_quoted(value)}"' for name, value in sorted(more.items()))
    return f'up{{pod=~"{_quoted(pattern)}"{matchers}}}[{round(window_s * 1000)}ms]'


def envoy_gateway(clusters: Mapping[str, tuple[str, ...]]) -> Queries:
    """The set for Envoy Gateway's proxies.

    Args:
        clusters: version -> names of its clusters, as `clusters_of` a live route says.
    """
    return _envoy("envoyGateway", lambda model, version: clusters.get(version, ()))


def clusters_of(route: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Version -> names that Envoy Gateway (1.9) gives the clusters of its backends in a live HTTPRoute.

    Rules are left out whose requests are no evidence: of callers who chose a version, or have no unit where units are
    assigned.

    They are called after the places of rule and backend, so they change with the route: ask again at every look, and
    expect that a request in flight over a change is counted for whoever has the place then. A backend has a cluster
    of its own because each of ours has a filter; a route without them has one for each rule.

    Args:
        versions: name of a Service -> version.
    """
    metadata, spec = route["metadata"], route["spec"]
    found: dict[str, tuple[str, ...]] = {}
    for rule, content in enumerate(spec.get("rules", ())):
        if not _is_evidence(content):
            continue
        for place, ref in enumerate(content.get("backendRefs", ())):
            version = versions.get(ref["name"])
            if version is not None:
                name = f"httproute/{metadata['namespace']}/{metadata['name']}/rule/{rule}/backend/{place}"
                found[version] = (*found.get(version, ()), name)
    return found


def _is_evidence(rule: Mapping[str, Any]) -> bool:
    for item in rule.get("filters", ()):
        for header in item.get("requestHeaderModifier", {}).get("set", ()):
            if header["name"] == route_header.ROUTE_HEADER:
                said = route_header.read(header["value"])
                return said is None or said[0] in COUNTED
    return True


def _literal(text: str) -> str:
    """`text` within a pattern of RE2."""
    return "".join(c if c.isalnum() or c in "_-/@:" else f"\\{c}" for c in text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
