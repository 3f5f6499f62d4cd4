"""The local traffic backend: weights on the real Envoy, changed through watched files and read back.

The desired routing is one small file, every other file is derived from it. A change writes the desire, then the
file that Envoy watches, then waits until Envoy's admin shows the same weights and mirrors. Whoever dies in between
leaves a desire that the next call, or the next start, carries out. Several processes may change weights (the
platform, a person's `windlass release rollback`): a lock file orders them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from serving.release import envoy_config
from serving.release.envoy_admin import Admin, AdminError
from serving.release.envoy_config import Endpoints, ModelRoute, Routing
from serving.release.envoy_files import EnvoyFiles
from serving.release.envoy_process import EnvoyProcess, require_free
from windlass.errors import UsageError, WindlassError

__all__ = ["Endpoints", "EnvoyBackend", "ModelRoute", "WeightsRejectedError"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class WeightsRejectedError(WindlassError):
    """The proxy refused the new routes; the old ones are in force."""


class EnvoyBackend:
    """Weights of every model behind one Envoy.

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
            if route.weights.get(version) or version in route.mirrors.values():
                raise WindlassError(
                    f"version {version} of {model} still gets traffic (weights {dict(route.weights)}, "
                    f"mirrors {dict(route.mirrors)}); give its share to another version first"
                )
            servers = {v: address for v, address in route.servers.items() if v != version}
            return _with(routing, model, replace(route, servers=servers))

        self._change_clusters(change)

    def set_collector(self, address: str) -> None:
        """Send `/feedback` and `/report` to the server at `host:port`."""
        self._change_clusters(lambda routing: replace(routing, collector=address))

    # --- weights

    def set_weights(self, model: str, weights: Mapping[str, int], mirror_to: str | None = None) -> None:
        """Split the model's traffic by percent; return once Envoy's admin shows it.

        With `mirror_to` each request is scored by both sides: what another version serves is copied to
        `mirror_to`, and what `mirror_to` itself serves is copied to the other version with the largest share.
        The order of `weights` is the order of the ranges of `x-windlass-random` modulo 100. A server that is
        named must be known; callers see no failed request from the change itself.

        Raises:
            UsageError: weights that do not sum to 100, or an unknown version.
            WeightsRejectedError: Envoy refused the routes; the old ones stay in force and on disk.
            WindlassError: Envoy does not answer; the desire is kept and carried out at its next start.
        """
        split = {version: int(weight) for version, weight in weights.items() if weight}
        with self._files.locked():
            before = self._files.desired()
            route = before.models.get(model, ModelRoute())
            _check_weights(model, weights, mirror_to, route)
            mirrors = _mirrors(split, mirror_to)
            stable, previous = route.stable, route.previous
            full = next((v for v, weight in split.items() if weight == 100), None)
            if full is not None and full != stable:
                stable, previous = full, stable
            wanted = replace(route, weights=split, mirrors=mirrors, stable=stable, previous=previous)
            if wanted == route and self._in_force(model, wanted):
                return
            after = replace(_with(before, model, wanted), revision=before.revision + 1)
            rejections = self._rejections()
            self._files.desire(after)
            self._files.write_routes(after, self.endpoints)
            if self._live:
                self._confirm_routes(before, after, model, rejections)

    def weights(self, model: str) -> dict[str, int]:
        """The weights on the wire, as Envoy's admin shows them.

        Raises:
            WindlassError: Envoy does not answer.
        """
        try:
            config = self.admin.routes()
        except AdminError as error:
            raise WindlassError(
                f"weights of {model} cannot be read: {error}; is `windlass up` running?"
            ) from error
        return envoy_config.weights_on_the_wire(config, model)[0]

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
            if after == before:
                return
            after = replace(after, revision=before.revision + 1)
            self._files.desire(after)
            # clusters first, then routes: a route to a cluster that is not there yet would answer 503
            self._files.write_clusters(after)
            if self._live:
                self._await(lambda: self.admin.clusters() == _addresses(after), "clusters")
            self._files.write_routes(after, self.endpoints)
            if self._live:
                wanted = envoy_config.route_names(envoy_config.routes(after)["resources"][0])
                self._await(lambda: envoy_config.route_names(self.admin.routes()) == wanted, "routes")

    def _confirm_routes(self, before: Routing, after: Routing, model: str, rejections: int) -> None:
        wanted = after.models[model]
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
                raise WindlassError(
                    f"weights {dict(wanted.weights)} of {model} are written but not confirmed: {silent}; "
                    "they take effect when Envoy starts again (`windlass up`)"
                ) from silent
            if late or self._rejections() > rejections:
                break
            time.sleep(0.002)
        # what Envoy refused must not be what a restarted Envoy finds
        self._files.desire(before)
        self._files.write_routes(before, self.endpoints)
        raise WeightsRejectedError(
            f"weights {dict(wanted.weights)} of {model} are not in force: {self._process.log_tail(1)}; "
            f"the split stays {dict(before.models.get(model, ModelRoute()).weights)}"
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

    def _in_force(self, model: str, wanted: ModelRoute) -> bool:
        try:
            return not self._live or self._shows(model, wanted)
        except AdminError:
            return False

    def _shows(self, model: str, wanted: ModelRoute) -> bool:
        shown = envoy_config.weights_on_the_wire(self.admin.routes(), model)
        return shown == (dict(wanted.weights), dict(wanted.mirrors))

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


def _addresses(routing: Routing) -> dict[str, str]:
    found = {
        envoy_config.cluster_name(model, version): address
        for model, route in routing.models.items()
        for version, address in route.servers.items()
    }
    if routing.collector is not None:
        found[envoy_config.COLLECTOR_CLUSTER] = routing.collector
    return found


def _mirrors(weights: Mapping[str, int], mirror_to: str | None) -> dict[str, str]:
    if mirror_to is None:
        return {}
    mirrors = {version: mirror_to for version in weights if version != mirror_to}
    if mirror_to in weights and mirrors:
        mirrors[mirror_to] = max(mirrors, key=lambda version: weights[version])
    return mirrors


def _check_weights(model: str, weights: Mapping[str, int], mirror_to: str | None, route: ModelRoute) -> None:
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) != 100:
        raise UsageError(f"weights {dict(weights)} of {model} must be percents that sum to 100")
    named = [v for v, weight in weights.items() if weight] + ([mirror_to] if mirror_to is not None else [])
    for version in named:
        if version not in route.servers:
            known = ", ".join(sorted(route.servers)) or "none"
            raise UsageError(
                f"version {version} of {model} has no server (known: {known}); start it before it gets traffic"
            )


def _require_name(kind: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise UsageError(f"{kind} {value!r} must be letters, digits, dots, dashes and underscores")
