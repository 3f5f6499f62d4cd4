"""Envoy's admin interface, read only: what the proxy really does, beside what it was told."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

from serving.release.envoy_config import ROUTE_CONFIG

Document = dict[str, Any]


class AdminError(Exception):
    """Nobody answers on the admin address, or what answers is not Envoy."""


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

    def _dump(self, resource: str) -> list[Mapping[str, Any]]:
        try:
            return list(json.loads(self.get(f"/config_dump?resource={resource}")).get("configs", ()))
        except json.JSONDecodeError as error:
            raise AdminError(f"{self.address}: the answer is not Envoy's: {error}") from error
