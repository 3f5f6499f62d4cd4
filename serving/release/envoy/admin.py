"""Envoy's admin interface, read only: what the proxy really does, beside what it was told."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from serving.release.envoy.config import ROUTE_CONFIG, cluster_name, shadow_cluster

Document = dict[str, Any]


class AdminError(Exception):
    """Nobody answers on the admin address, or what answers is not Envoy."""


@dataclass(frozen=True)
class Counted:
    """What one cluster did since Envoy started: the requests of one version, or its copies.

    Every request that was given to the cluster is in `answered`, `failed` or `in_flight`, so the three account for
    all of them.

    Attributes:
        answered: ended with a status below 500.
        failed: ended with 5xx, by the server or by Envoy in its place (no connection, too late, over the limits).
        in_flight: not ended yet.
        overflowed: those of the failed that were not sent because the cluster's limits were reached.
        streaks: times that `envoy_config.STREAK` requests in a row failed, attempts to connect included.
        latency_ms: (upper bound in milliseconds, requests up to it), ascending; it lags by up to a second, and holds
            only what a server answered.
    """

    answered: int = 0
    failed: int = 0
    in_flight: int = 0
    overflowed: int = 0
    streaks: int = 0
    latency_ms: tuple[tuple[float, int], ...] = ()

    @property
    def given(self) -> int:
        return self.answered + self.failed + self.in_flight


class Admin:
    """One address; every call opens a connection of its own, so that a restarted proxy is no special case."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 2.0) -> None:
        self.address = f"{host}:{port}"
        self._host, self._port, self._timeout = host, port, timeout

    def get(self, path: str) -> bytes:
        """Body of a GET.

        Raises:
            AdminError: no answer, or a status other than 200.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(f"{self.address}{path}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise AdminError(f"{self.address}{path}: status {response.status}")
        return body

    def ready(self) -> bool:
        try:
            return self.get("/ready").strip() == b"LIVE"
        except AdminError:
            return False

    def routes(self) -> Document:
        """The route configuration in force; empty before the first one."""
        for item in self._dump("dynamic_route_configs"):
            config: Document = item.get("route_config", {})
            if config.get("name") == ROUTE_CONFIG:
                return config
        return {}

    def clusters(self) -> dict[str, str]:
        """Name -> `host:port` of each upstream cluster in force."""
        found: dict[str, str] = {}
        for item in self._dump("dynamic_active_clusters"):
            cluster = item["cluster"]
            for locality in cluster.get("load_assignment", {}).get("endpoints", ()):
                for endpoint in locality.get("lb_endpoints", ()):
                    where = endpoint["endpoint"]["address"]["socket_address"]
                    found[cluster["name"]] = f"{where['address']}:{where['port_value']}"
        return found

    def listener_error(self) -> str | None:
        """Why the newest listener was not taken into service; None where it was."""
        for item in self._dump("dynamic_listeners"):
            error = item.get("error_state")
            if error:
                return str(error.get("details", error))
        return None

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose name matches the regular expression `pattern`."""
        body = json.loads(self.get(f"/stats?format=json&filter={pattern}"))
        return {s["name"]: int(s["value"]) for s in body["stats"] if "name" in s and "value" in s}

    def counted(self, model: str, version: str, *, copies: bool = False) -> Counted:
        """The requests that a version was given, or, by `copies`, the mirrored ones.

        Raises:
            AdminError: no answer, or Envoy knows no such version.
        """
        name = shadow_cluster(model, version) if copies else cluster_name(model, version)
        prefix = f"cluster.{name}."
        wanted = quote(f"^{re.escape(prefix)}({'|'.join(_COUNTERS)}|upstream_rq_time$)")
        try:
            body = json.loads(self.get(f"/stats?format=json&histogram_buckets=cumulative&filter={wanted}"))
        except json.JSONDecodeError as error:
            raise AdminError(f"{self.address}: the answer is not Envoy's: {error}") from error
        value: dict[str, int] = {}
        latency: tuple[tuple[float, int], ...] = ()
        for stat in body["stats"]:
            for histogram in stat.get("histograms", ()):
                latency = tuple((float(b["upper_bound"]), int(b["cumulative"])) for b in histogram["buckets"])
            if "value" in stat:
                value[stat["name"].removeprefix(prefix)] = int(stat["value"])
        if "upstream_rq_active" not in value:
            raise AdminError(f"{self.address}: Envoy has no cluster {name}")
        failed = value.get("upstream_rq_5xx", 0)
        return Counted(
            answered=value.get("upstream_rq_completed", 0) - failed,
            failed=failed,
            in_flight=value["upstream_rq_active"] + value["upstream_rq_pending_active"],
            overflowed=value["upstream_rq_pending_overflow"],
            streaks=value["outlier_detection.ejections_detected_consecutive_5xx"],
            latency_ms=latency,
        )

    def _dump(self, resource: str) -> list[Mapping[str, Any]]:
        try:
            return list(json.loads(self.get(f"/config_dump?resource={resource}")).get("configs", ()))
        except json.JSONDecodeError as error:
            raise AdminError(f"{self.address}: the answer is not Envoy's: {error}") from error


_COUNTERS = (
    "upstream_rq_completed$",
    "upstream_rq_5xx$",
    "upstream_rq_active$",
    "upstream_rq_pending_active$",
    "upstream_rq_pending_overflow$",
    r"outlier_detection\.ejections_detected_consecutive_5xx$",
)
