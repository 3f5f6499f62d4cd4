"""Envoy's configuration as plain data: process, listener, clusters and access log; the routes are in `envoy_routes.py`.

Pure functions from the desired `Routing` to the documents of Envoy's xDS files; writing, watching and reading
back are in `envoy.py`. Choices that matter:

* Each version has two clusters on the same server: one for requests that somebody waits for, and one for copies. A
  shadow that hangs fills its own few connections and nobody else's, and the two are counted apart.
* A cluster has one endpoint, so ejecting it could only turn slow failures into fast ones: outlier detection counts
  streaks of failures (`Admin.counted`, an alarm within a second) and ejects nothing; the release engine decides.
* Our own headers are removed before any route is looked at, so that no caller sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.release.envoy.lua import BUCKET_HEADER, UNIT_HEADER
from serving.release.traffic import Traffic

MIRROR_HEADER = "x-windlass-mirror"
COLLECTOR_CLUSTER = "collector"
ROUTE_CONFIG = "ingress"
LISTENER = "ingress"
LUA_FILTER = "envoy.filters.http.lua"
#: Headers that only the proxy may set.
OWN_HEADERS = (MIRROR_HEADER, BUCKET_HEADER, UNIT_HEADER)

Document = dict[str, Any]

TYPE = "type.googleapis.com/envoy."
_SHADOW = "/shadow"

# Requests that one server may be working on. Our servers take one row in about a millisecond: a thousand waiting ones
# are a second of work, and more would only be answered after their callers left.
_LIVE_LIMITS: Mapping[str, int] = {
    "max_connections": 1024,
    "max_pending_requests": 1024,
    "max_requests": 1024,
    "max_retries": 16,
}
# Copies: what a shadow that hangs may hold of the proxy's memory and of the server's connections.
_SHADOW_LIMITS: Mapping[str, int] = {
    "max_connections": 128,
    "max_pending_requests": 256,
    "max_requests": 256,
    "max_retries": 0,
}
#: Failures in a row that are counted as one streak.
STREAK = 10
#: Upper bounds of the buckets in which Envoy counts latencies, in milliseconds.
LATENCY_BOUNDS_MS = (
    *(1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0),
    *(150.0, 200.0, 300.0, 500.0, 750.0, 1000.0, 2000.0, 5000.0, 10000.0, 30000.0),
)


@dataclass(frozen=True)
class ModelRoute:
    """How one model's traffic is to be split.

    Attributes:
        servers: version -> `host:port` of its server.
        traffic: what was last asked for; None before that.
        stable: the newest version that had, or has, all the traffic; `previous` the one before it.
    """

    servers: Mapping[str, str] = field(default_factory=dict)
    traffic: Traffic | None = None
    stable: str | None = None
    previous: str | None = None

    @property
    def weights(self) -> dict[str, int]:
        """version -> percent; empty where nothing was asked for yet."""
        return dict(self.traffic.weights) if self.traffic is not None else {}

    @property
    def mirrors(self) -> dict[str, str]:
        """version -> the version that also gets a copy of each of its requests."""
        return mirrors(self.traffic) if self.traffic is not None else {}


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


def shadow_cluster(model: str, version: str) -> str:
    """The upstream cluster of the copies that a version gets."""
    return cluster_name(model, version) + _SHADOW


def split_cluster(name: str) -> tuple[str, str] | None:
    """Model and version of an upstream cluster's name; None for a cluster that is no model's, or that of copies."""
    model, at, version = name.rpartition("@")
    return (model, version) if at and not version.endswith(_SHADOW) else None


def shadowed_by(cluster: str) -> str:
    """The version whose copies a `shadow_cluster` takes."""
    return cluster.rpartition("@")[2].removesuffix(_SHADOW)


def mirrors(traffic: Traffic) -> dict[str, str]:
    """version -> the version that gets a copy of what it answers.

    What another one answers is copied to `mirror_to`; what that one answers itself, to the version with the largest
    share. Both then score every request that counts.
    """
    to = traffic.mirror_to
    if to is None:
        return {}
    answering = dict.fromkeys(traffic.weights)
    if traffic.segments is not None:
        answering |= dict.fromkeys(v for weights in traffic.segments.weights.values() for v in weights)
    found = {version: to for version in answering if version != to}
    if to in answering and found:
        found[to] = min(found, key=lambda version: (-traffic.weights.get(version, 0), version))
    return found


def bootstrap(directory: Path, endpoints: Endpoints) -> Document:
    """The static start document: the admin address, and where the listener and cluster files lie."""
    return {
        "node": {"id": "windlass", "cluster": "windlass"},
        "admin": {"address": _socket(f"127.0.0.1:{endpoints.admin}")},
        # histograms are merged when statistics are flushed
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": ".upstream_rq_time"}, "buckets": list(LATENCY_BOUNDS_MS)}
            ]
        },
        "dynamic_resources": {
            "lds_config": _watched(directory, "lds.json"),
            "cds_config": _watched(directory, "cds.json"),
        },
    }


def listeners(directory: Path, endpoints: Endpoints) -> Document:
    """The LDS file: one listener, whose routes come from the watched RDS file."""
    manager = {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        # a caller's request id is the key by which labels join predictions: keep it, bit by bit, and give it back
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": TYPE + "extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
                "use_request_id_for_trace_sampling": False,
            }
        },
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _watched(directory, "rds.json")},
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": header} for header in OWN_HEADERS],
                },
            }
        ],
        "http_filters": [
            {
                # switched on by the routes of a model that assigns units, which bring their text; costs others nothing
                "name": LUA_FILTER,
                "disabled": True,
                "typed_config": {"@type": TYPE + "extensions.filters.http.lua.v3.Lua"},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"},
            },
        ],
        "access_log": [_access_log(endpoints.access_log)],
    }
    listener = {
        "@type": TYPE + "config.listener.v3.Listener",
        "name": LISTENER,
        "address": _socket(f"{endpoints.host}:{endpoints.listener}"),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"version_info": "1", "resources": [listener]}


def clusters(routing: Routing) -> Document:
    """The CDS file: two clusters a version's server, and the collector's."""
    resources = [
        _cluster(name, address, _SHADOW_LIMITS if name.endswith(_SHADOW) else _LIVE_LIMITS)
        for name, address in addresses(routing).items()
    ]
    return {"version_info": str(routing.revision), "resources": resources}


def addresses(routing: Routing) -> dict[str, str]:
    """Cluster -> `host:port` of its one endpoint."""
    found: dict[str, str] = {}
    for model, route in sorted(routing.models.items()):
        for version, address in sorted(route.servers.items()):
            found[cluster_name(model, version)] = found[shadow_cluster(model, version)] = address
    if routing.collector is not None:
        found[COLLECTOR_CLUSTER] = routing.collector
    return found


def _cluster(name: str, address: str, limits: Mapping[str, int]) -> Document:
    protocol: Document = {
        "@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
        # shorter than the servers' own keep-alive, so that a request never meets a connection being closed
        "common_http_protocol_options": {"idle_timeout": "20s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "@type": TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [dict(limits)]},
        "outlier_detection": {
            "interval": "1s",
            "consecutive_5xx": STREAK,
            "consecutive_gateway_failure": STREAK,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_failure_percentage": 0,
        },
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
            "@type": TYPE + "extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {
                "json_format": {
                    "at": "%START_TIME(%s.%6f)%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                    "method": "%REQ(:METHOD)%",
                    "path": "%PATH(NQ)%",
                    "route": "%ROUTE_NAME%",
                    "cluster": "%UPSTREAM_CLUSTER%",
                    "code": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
                    "upstream_us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
                    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                    "event_at": "%REQ(X-WINDLASS-AT)%",
                    "bucket": f"%REQ({BUCKET_HEADER})%",
                    "unit": f"%REQ({UNIT_HEADER})%",
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
