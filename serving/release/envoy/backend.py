"""The local traffic backend: the real Envoy, told through watched files and read back.

The desired routing is one small file, every other file is derived from it. A change writes the desire, then the
file that Envoy watches, then waits until Envoy's admin shows the same traffic. Whoever dies in between leaves a
desire that the next call, or the next start, carries out. Several processes may change the traffic (the platform, a
person's `windlass release rollback`): a lock file orders them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from serving.release import admission
from serving.release.backend import RejectedError, UnreachableError
from serving.release.envoy import config as envoy_config
from serving.release.envoy import routes as envoy_routes
from serving.release.envoy import wire as envoy_wire
from serving.release.envoy.admin import Admin, AdminError
from serving.release.envoy.config import Endpoints, ModelRoute, Routing
from serving.release.envoy.files import EnvoyFiles
from serving.release.envoy.process import EnvoyProcess, require_free
from serving.release.traffic import Traffic
from windlass.errors import UsageError, WindlassError

__all__ = ["Endpoints", "EnvoyBackend", "ModelRoute", "RejectedError", "UnreachableError"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class EnvoyBackend:
    """Traffic of every model behind one Envoy.

    Args:
        directory: folder of this proxy's files, `settings.run_dir / "envoy"`.
        endpoints: ports and access log of a proxy that is yet to be started.
        confirm_within: seconds that Envoy may take to show a new configuration.
    """

    def __init__(self, directory: Path, endpoints: Endpoints, *, confirm_within: float = 5.0) -> None:
        self.directory = directory
        self.endpoints = endpoints
        self.admin = Admin(endpoints.admin)
        self._confirm_within = confirm_within
        self._files = EnvoyFiles(directory)
        self._process = EnvoyProcess(directory)
        self._live = False

    @classmethod
    def attach(cls, directory: Path, *, confirm_within: float = 5.0) -> EnvoyBackend:
        """The backend of a proxy that another process started.

        Raises:
            WindlassError: no proxy was ever started there.
        """
        backend = cls(directory, EnvoyFiles(directory).endpoints(), confirm_within=confirm_within)
        backend._live = True
        return backend

    # --- life of the process

    def start(self, timeout: float = 30.0) -> None:
        """Write all files from the desired routing, start Envoy and wait until it takes requests.

        Raises:
            PortInUseError: one of the two ports is taken.
            WindlassError: Envoy did not start; the message carries its reason.
        """
        where = self.endpoints
        require_free(where.host, where.listener, "predictions (Envoy)")
        require_free("127.0.0.1", where.admin, "Envoy's admin interface")
        with self._files.locked():
            self._files.write_start(where)
        self._process.start(self._serves, timeout)
        self._live = True

    def stop(self) -> None:
        """End Envoy if this object started it."""
        self._process.stop()
        self._live = False

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def running(self) -> bool:
        """Whether the proxy answers, whoever started it."""
        return self.admin.ready()

    @property
    def url(self) -> str:
        return f"http://{self.endpoints.host}:{self.endpoints.listener}"

    # --- servers

    def set_server(self, model: str, version: str, address: str) -> None:
        """Make the server of a version known as `host:port`; it gets no traffic by this."""
        _require_name("model", model)
        _require_name("version", version)
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(
                f"server of {model} version {version}: {address!r} is no address; give host:port"
            )

        def change(routing: Routing) -> Routing:
            route = routing.models.get(model, ModelRoute())
            return _with(routing, model, replace(route, servers={**route.servers, version: address}))

        self._change_clusters(change)

    def remove_server(self, model: str, version: str) -> None:
        """Forget the server of a version that gets no traffic.

        Raises:
            WindlassError: it still gets traffic.
        """

        def change(routing: Routing) -> Routing:
            route = routing.models.get(model, ModelRoute())
            if route.traffic is not None and version in route.traffic.versions:
                raise WindlassError(
                    f"version {version} of {model} still gets traffic ({_words(route.traffic)}); "
                    "give its share to another version first"
                )
            servers = {v: address for v, address in route.servers.items() if v != version}
            return _with(routing, model, replace(route, servers=servers))

        self._change_clusters(change)

    def set_collector(self, address: str) -> None:
        """Send `/feedback` and `/report` to the server at `host:port`."""
        self._change_clusters(lambda routing: replace(routing, collector=address))

    # --- traffic

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Share the model's requests as `traffic` says; return once Envoy's admin shows it.

        Callers see no failed request from the change itself. Under `Traffic.mirror_to` both sides score every
        request that counts: what another version serves is copied to `mirror_to`, and what that one serves is copied
        to the other version with the largest share. The order of `weights` is the order of the ranges of
        `x-windlass-random` modulo 100.

        Raises:
            UsageError: what cannot be meant (`admission.require_meant`), or a version without a server.
            RejectedError: Envoy refused the routes; the old ones stay in force and on disk.
            UnreachableError: Envoy does not answer; the desire is kept and carried out at its next start.
        """
        meant = admission.canonical(traffic)
        with self._files.locked():
            before = self._files.desired()
            route = before.models.get(model, ModelRoute())
            admission.require_meant(model, traffic, route.servers)
            wanted = _after(route, meant)
            if wanted == route and self._in_force(model, meant):
                return
            after = replace(_with(before, model, wanted), revision=before.revision + 1)
            rejections = self._rejections()
            self._files.desire(after)
            self._files.write_routes(after, self.endpoints)
            if self._live:
                self._confirm_routes(before, model, meant, rejections)

    def traffic(self, model: str) -> Traffic | None:
        """The traffic on the wire, decoded from Envoy's admin; None where the model has no route.

        Raises:
            UnreachableError: Envoy does not answer.
        """
        try:
            return envoy_wire.traffic(self.admin.routes(), model)
        except AdminError as error:
            raise UnreachableError(
                f"traffic of {model} cannot be read: {error}; is `windlass up` running?"
            ) from error

    def set_weights(self, model: str, weights: Mapping[str, int], mirror_to: str | None = None) -> None:
        """`set_traffic` with weights and a mirror alone: matches, assignment and segments end."""
        self.set_traffic(model, Traffic(dict(weights), mirror_to=mirror_to))

    def weights(self, model: str) -> dict[str, int]:
        """The weights of `traffic`; empty where the model has no route."""
        shown = self.traffic(model)
        return {} if shown is None else dict(shown.weights)

    def desired(self, model: str) -> ModelRoute:
        """What was last asked for, whether or not a proxy runs."""
        return self._files.desired().models.get(model, ModelRoute())

    def models(self) -> tuple[str, ...]:
        return tuple(sorted(self._files.desired().models))

    # --- the machinery

    def _change_clusters(self, change: Callable[[Routing], Routing]) -> None:
        with self._files.locked():
            before = self._files.desired()
            after = change(before)
            if after == before and self._has_clusters(after):
                return
            after = replace(after, revision=before.revision + 1)
            self._files.desire(after)
            # clusters first, then routes: a route to a cluster that is not there yet would answer 503
            self._files.write_clusters(after)
            if self._live:
                self._await(lambda: self.admin.clusters() == envoy_config.addresses(after), "clusters")
            self._files.write_routes(after, self.endpoints)
            if self._live:
                wanted = envoy_routes.route_names(envoy_routes.routes(after)["resources"][0])
                self._await(lambda: envoy_routes.route_names(self.admin.routes()) == wanted, "routes")

    def _has_clusters(self, wanted: Routing) -> bool:
        """Whether Envoy has what is wanted: whoever died after writing the desire may not have told it."""
        try:
            return not self._live or self.admin.clusters() == envoy_config.addresses(wanted)
        except AdminError:
            return False

    def _confirm_routes(self, before: Routing, model: str, wanted: Traffic, rejections: int) -> None:
        deadline = time.monotonic() + self._confirm_within
        while True:
            try:
                # the content, not its version: Envoy keeps the old version where nothing changed
                if self._shows(model, wanted):
                    return
                silent = None
            except AdminError as error:
                silent = error
            late = time.monotonic() > deadline
            if late and silent is not None:
                raise UnreachableError(
                    f"{model}: {_words(wanted)} is written but not confirmed: {silent}; "
                    "it takes effect when Envoy starts again (`windlass up`)"
                ) from silent
            if late or self._rejections() > rejections:
                break
            time.sleep(0.002)
        # what Envoy refused must not be what a restarted Envoy finds
        self._files.desire(before)
        self._files.write_routes(before, self.endpoints)
        kept = before.models.get(model, ModelRoute()).traffic
        raise RejectedError(
            f"{model}: {_words(wanted)} is not in force: {self._process.log_tail(1)}; "
            f"what was stays: {_words(kept)}"
        )

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._confirm_within
        reason = "its admin does not show them"
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except AdminError as error:
                reason = str(error)
            time.sleep(0.002)
        raise WindlassError(
            f"Envoy did not take the new {what}: {reason}; its log: {self._process.log_tail(1)}"
        )

    def _rejections(self) -> int:
        try:
            return sum(self.admin.counters("update_rejected").values()) if self._live else 0
        except AdminError:
            return 0

    def _in_force(self, model: str, wanted: Traffic) -> bool:
        try:
            return not self._live or self._shows(model, wanted)
        except AdminError:
            return False

    def _shows(self, model: str, wanted: Traffic) -> bool:
        return envoy_wire.traffic(self.admin.routes(), model) == wanted

    def _serves(self) -> bool:
        try:
            if not self.admin.ready():
                return False
            error = self.admin.listener_error()
            if error is None:
                return sum(self.admin.counters("listener_manager.total_listeners_active").values()) > 0
        except AdminError:
            return False
        self._process.stop()
        raise WindlassError(f"Envoy does not listen on port {self.endpoints.listener}: {error}")


def _with(routing: Routing, model: str, route: ModelRoute) -> Routing:
    return replace(routing, models={**routing.models, model: route})


def _after(route: ModelRoute, traffic: Traffic) -> ModelRoute:
    """The route with `traffic`; a version that gets everything becomes the stable one, the one before it `previous`."""
    full = next((v for v, weight in traffic.weights.items() if weight == 100), None)
    if full is None or full == route.stable or traffic.segments is not None:
        return replace(route, traffic=traffic)
    return replace(route, traffic=traffic, stable=full, previous=route.stable)


def _words(traffic: Traffic | None) -> str:
    if traffic is None:
        return "no traffic"
    said = [f"traffic {dict(traffic.weights)}"]
    if traffic.mirror_to is not None:
        said.append(f"{traffic.mirror_percent}% copied to {traffic.mirror_to}")
    said += [f"{match.kind} {match.name}: {match.value} to {match.version}" for match in traffic.matches]
    if traffic.assignment is not None:
        said.append(f"assigned by {traffic.assignment.unit.kind} {traffic.assignment.unit.name}")
    if traffic.segments is not None:
        by_value = {value: dict(weights) for value, weights in traffic.segments.weights.items()}
        said.append(f"by {traffic.segments.header}: {by_value}")
    return ", ".join(said)


def _require_name(kind: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise UsageError(f"{kind} {value!r} must be letters, digits, dots, dashes and underscores")
