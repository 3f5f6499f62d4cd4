"""Envoy's configuration as plain data: what the proxy must be told so that a model's versions share its traffic.

Pure functions from the desired `Routing` to the documents of Envoy's xDS files; writing, watching and reading
back are in `envoy.py`. Three choices that matter:

* A model's versions are weighted clusters of one route, so a new split is one atomic route update. The random
  number comes from the header `x-windlass-random` where a caller (a replay, a hop before us) sends one.
* Mirroring belongs to the cluster that was picked, not to the route: a route-wide mirror would send the
  candidate's own requests to the candidate a second time. The picked cluster adds a header that names the
  mirror, and the mirror policy reads its target from that header.
* Nothing is retried once a server may have seen the request: a prediction is logged, so it is not idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RANDOM_HEADER = "x-windlass-random"
VERSION_HEADER = "x-windlass-version"
MIRROR_HEADER = "x-windlass-mirror"
#: What a mirrored request's Host header is: model servers know a copy by the ending "-shadow".
MIRROR_HOST = "windlass-shadow"
COLLECTOR_CLUSTER = "collector"
COLLECTOR_PATHS = ("/feedback", "/report")
ROUTE_CONFIG = "ingress"
LISTENER = "ingress"

Document = dict[str, Any]

_TYPE = "type.googleapis.com/envoy."


@dataclass(frozen=True)
class ModelRoute:
    """How one model's traffic is to be split.

    Attributes:
        servers: version -> `host:port` of its server.
        weights: version -> percent, summing to 100.
        mirrors: version -> the version that also gets a copy of each of its requests.
        stable: the newest version that had, or has, all the traffic; `previous` the one before it.
    """

    servers: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    mirrors: Mapping[str, str] = field(default_factory=dict)
    stable: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Routing:
    """All that the proxy has to know; `revision` becomes the `version_info` of the files."""

    revision: int = 0
    models: Mapping[str, ModelRoute] = field(default_factory=dict)
    collector: str | None = None


@dataclass(frozen=True)
class Endpoints:
    """Where the proxy listens and logs.

    Attributes:
        listener: port of the one address that callers use; `admin` the port of Envoy's own interface, always
            on the loopback address.
        trust_random_header: False where callers are not ours, who could pick their version by the header.
    """

    listener: int
    admin: int
    access_log: Path
    host: str = "127.0.0.1"
    trust_random_header: bool = True


def cluster_name(model: str, version: str) -> str:
    """The upstream cluster of one version; `split_cluster` is its inverse."""
    return f"{model}@{version}"


def split_cluster(name: str) -> tuple[str, str] | None:
    """Model and version of an upstream cluster's name; None for a cluster that is no model's."""
    model, at, version = name.rpartition("@")
    return (model, version) if at else None


def bootstrap(directory: Path, endpoints: Endpoints) -> Document:
    """The static start document: the admin address, and where the listener and cluster files lie."""
    return {
        "node": {"id": "windlass", "cluster": "windlass"},
        "admin": {"address": _socket(f"127.0.0.1:{endpoints.admin}")},
        "dynamic_resources": {
            "lds_config": _watched(directory, "lds.json"),
            "cds_config": _watched(directory, "cds.json"),
        },
    }


def listeners(directory: Path, endpoints: Endpoints) -> Document:
    """The LDS file: one listener, whose routes come from the watched RDS file."""
    manager = {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        # a caller's request id is the key by which labels join predictions: keep it, bit by bit, and give it back
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": _TYPE + "extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
                "use_request_id_for_trace_sampling": False,
            }
        },
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _watched(directory, "rds.json")},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
            }
        ],
        "access_log": [_access_log(endpoints.access_log)],
    }
    listener = {
        "@type": _TYPE + "config.listener.v3.Listener",
        "name": LISTENER,
        "address": _socket(f"{endpoints.host}:{endpoints.listener}"),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"version_info": "1", "resources": [listener]}


def clusters(routing: Routing) -> Document:
    """The CDS file: one cluster a version's server, and the collector's."""
    resources = [
        _cluster(cluster_name(model, version), address)
        for model, route in sorted(routing.models.items())
        for version, address in sorted(route.servers.items())
    ]
    if routing.collector is not None:
        resources.append(_cluster(COLLECTOR_CLUSTER, routing.collector))
    return {"version_info": str(routing.revision), "resources": resources}


def routes(routing: Routing, *, trust_random_header: bool = True) -> Document:
    """The RDS file: by model the split, by explicit version that version, and the collector's paths."""
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
        if not route.weights:
            continue
        name = re.escape(model)
        entries += [
            {
                "name": f"{model}@{version}",
                "match": {"safe_regex": {"regex": f"/v2/models/{name}/versions/{re.escape(version)}(/.*)?"}},
                "route": {"cluster": cluster_name(model, version), "timeout": "30s", "retry_policy": _RETRY},
                "request_headers_to_remove": [MIRROR_HEADER],
                "response_headers_to_add": [_header(VERSION_HEADER, version)],
            }
            for version in sorted(route.servers)
        ]
        entries.append(
            {
                "name": model,
                "match": {"safe_regex": {"regex": f"/v[12]/models/{name}([:/].*)?"}},
                "route": _split(model, route, trust_random_header),
            }
        )
    return {
        "version_info": str(routing.revision),
        "resources": [
            {
                "@type": _TYPE + "config.route.v3.RouteConfiguration",
                "name": ROUTE_CONFIG,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": entries}],
            }
        ],
    }


def route_names(route_config: Mapping[str, Any]) -> list[str]:
    """Names of the routes of a route configuration, in their order."""
    return [e["name"] for host in route_config.get("virtual_hosts", ()) for e in host.get("routes", ())]


def weights_on_the_wire(route_config: Mapping[str, Any], model: str) -> tuple[dict[str, int], dict[str, str]]:
    """Weights and mirrors of `model` in a route configuration as Envoy's admin shows it; empty without a route."""
    for host in route_config.get("virtual_hosts", ()):
        for entry in host.get("routes", ()):
            if entry.get("name") != model:
                continue
            weights: dict[str, int] = {}
            mirrors: dict[str, str] = {}
            for cluster in entry["route"]["weighted_clusters"]["clusters"]:
                version = cluster["name"].rpartition("@")[2]
                weights[version] = int(cluster.get("weight", 0))
                for option in cluster.get("request_headers_to_add", ()):
                    if option["header"]["key"] == MIRROR_HEADER:
                        mirrors[version] = option["header"]["value"].rpartition("@")[2]
            return weights, mirrors
    return {}, {}


# Only where no server can have seen the request: the connection failed, or the stream was refused unprocessed.
_RETRY: Document = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
}


def _split(model: str, route: ModelRoute, trust_random_header: bool) -> Document:
    weighted: list[Document] = []
    for version, weight in route.weights.items():
        if weight == 0:
            continue
        cluster: Document = {
            "name": cluster_name(model, version),
            "weight": weight,
            "response_headers_to_add": [_header(VERSION_HEADER, version)],
        }
        mirror = route.mirrors.get(version)
        if mirror is None:
            # a caller must not be able to choose a mirror by sending the header itself
            cluster["request_headers_to_remove"] = [MIRROR_HEADER]
        else:
            cluster["request_headers_to_add"] = [_header(MIRROR_HEADER, cluster_name(model, mirror))]
        weighted.append(cluster)
    action: Document = {
        "weighted_clusters": {"clusters": weighted},
        "timeout": "30s",
        "retry_policy": _RETRY,
    }
    if trust_random_header:
        action["weighted_clusters"]["header_name"] = RANDOM_HEADER
    if route.mirrors:
        action["request_mirror_policies"] = [
            {"cluster_header": MIRROR_HEADER, "host_rewrite_literal": MIRROR_HOST}
        ]
    return action


def _cluster(name: str, address: str) -> Document:
    protocol: Document = {
        "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
        # shorter than the servers' own keep-alive, so that a request never meets a connection being closed
        "common_http_protocol_options": {"idle_timeout": "20s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(address)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
    }


def _access_log(path: Path) -> Document:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": _TYPE + "extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {
                "json_format": {
                    "at": "%START_TIME(%s.%6f)%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                    "method": "%REQ(:METHOD)%",
                    "path": "%PATH(NQ)%",
                    "cluster": "%UPSTREAM_CLUSTER%",
                    "code": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
                    "upstream_us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
                    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                    "event_at": "%REQ(X-WINDLASS-AT)%",
                }
            },
        },
    }


def _watched(directory: Path, name: str) -> Document:
    source = {"path": str(directory / name), "watched_directory": {"path": str(directory)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def _socket(address: str) -> Document:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _header(key: str, value: str) -> Document:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
