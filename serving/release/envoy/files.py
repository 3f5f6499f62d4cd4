"""The files of one Envoy: the desired routing, and the documents derived from it that Envoy watches."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.release.envoy import config as envoy_config
from serving.release.envoy import routes as envoy_routes
from serving.release.envoy.config import Endpoints, ModelRoute, Routing
from serving.release.traffic import from_json
from windlass import atomic
from windlass.errors import WindlassError


class EnvoyFiles:
    """One folder; every write is an atomic rename, which is also what Envoy's watch waits for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the routing meanwhile."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def desired(self) -> Routing:
        """What was last asked for; nothing in a new folder."""
        try:
            stored = json.loads((self.directory / "desired.json").read_bytes())
        except FileNotFoundError:
            return Routing()
        models = {name: _route(route) for name, route in stored["models"].items()}
        return Routing(revision=stored["revision"], models=models, collector=stored["collector"])

    def desire(self, routing: Routing) -> None:
        self._write("desired.json", asdict(routing))

    def endpoints(self) -> Endpoints:
        """Where the proxy of this folder listens.

        Raises:
            WindlassError: none was ever started.
        """
        try:
            stored = json.loads((self.directory / "endpoints.json").read_bytes())
        except FileNotFoundError as error:
            raise WindlassError(
                f"no proxy was started in {self.directory}; start one with `windlass up`"
            ) from error
        return Endpoints(**{**stored, "access_log": Path(stored["access_log"])})

    def write_start(self, endpoints: Endpoints) -> None:
        """Everything that a starting Envoy reads."""
        endpoints.access_log.parent.mkdir(parents=True, exist_ok=True)
        self._write("endpoints.json", {**asdict(endpoints), "access_log": str(endpoints.access_log)})
        self._write("bootstrap.json", envoy_config.bootstrap(self.directory, endpoints))
        self._write("lds.json", envoy_config.listeners(self.directory, endpoints))
        routing = self.desired()
        self.write_clusters(routing)
        self.write_routes(routing, endpoints)

    def write_clusters(self, routing: Routing) -> None:
        self._write("cds.json", envoy_config.clusters(routing))

    def write_routes(self, routing: Routing, endpoints: Endpoints) -> None:
        self._write(
            "rds.json", envoy_routes.routes(routing, trust_random_header=endpoints.trust_random_header)
        )

    def _write(self, name: str, document: envoy_config.Document) -> None:
        atomic.write_text(self.directory / name, json.dumps(document))


def _route(stored: dict[str, Any]) -> ModelRoute:
    traffic = stored["traffic"]
    return ModelRoute(**{**stored, "traffic": None if traffic is None else from_json(traffic)})
