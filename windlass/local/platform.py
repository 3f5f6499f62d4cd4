"""The local platform: one Envoy, one collector, and a model server for each version that must be reachable.

Two kinds, by what becomes of them when whoever started them dies. A demo's processes end with it. Those of `windlass
up` are a data plane that lasts (see `plane.py`): the next `windlass up` takes it over as it stands.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.release.envoy.backend import Endpoints, EnvoyBackend, ModelRoute
from serving.release.envoy.files import EnvoyFiles
from serving.release.envoy.process import free_port
from windlass.errors import AlreadyRunningError, UsageError, WindlassError
from windlass.local import plane, processes, state
from windlass.local.lock import PlatformLock
from windlass.local.plane import DataPlane, Plan
from windlass.local.proxy import LastingProxy
from windlass.settings import Settings

Launcher = Callable[[str, str], list[str]]
"""(model, version) -> the first words of the command that serves it, before the runtime's own arguments."""
Say = Callable[[str], None]


def plain_launcher(model: str, version: str) -> list[str]:
    """Every version is served by the runtime as it is."""
    return [sys.executable, "-m", "serving.runtime"]


class Platform:
    """Processes of one home.

    Args:
        port: where Envoy listens; None picks a free one, or that of a plane that is taken over.
        replay_clock: servers take the time of a request from its `x-windlass-at` header.
        launcher: how a version's server is started, where nothing lasts.
        lasting: whether the processes outlive us. As a context manager a platform leaves none behind either way.

    Attributes:
        resumed: whether an earlier platform's plane is taken over: its routing stands, its dead are started again.
        adopted: whether its Envoy runs, so that requests are being answered now.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        port: int | None = None,
        replay_clock: bool = False,
        as_of: float | None = None,
        launcher: Launcher = plain_launcher,
        lasting: bool = False,
    ) -> None:
        self.settings = settings
        self._replay_clock = replay_clock
        self._as_of = as_of
        self._launcher = launcher
        self._plan: Plan | None = None
        self._lock = PlatformLock(state.lock_path(settings))
        self.servers: dict[tuple[str, str], processes.Child] = {}
        self.collector: processes.Child | None = None
        self.retrain: processes.Child | None = None
        found = DataPlane(settings)
        self._plane = found if lasting else None
        # one that was killed before its Envoy was configured served nobody
        self.resumed = lasting and found.exists() and found.configured()
        self.envoy: EnvoyBackend
        try:
            if not lasting and found.exists():
                raise AlreadyRunningError(
                    f"a data plane still serves on {settings.home}; `windlass down` ends it"
                )
            self.envoy = self._resume(found, port) if self.resumed else self._fresh(port)
        except BaseException:
            self._lock.release()
            raise
        self.adopted = self.resumed and self.envoy.running()

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _fresh(self, port: int | None) -> EnvoyBackend:
        listener = processes.require_port(port, "predictions") if port else free_port()
        directory = self.settings.run_dir / "envoy"
        endpoints = Endpoints(
            listener=listener,
            admin=free_port(),
            access_log=self.settings.logs_dir / "envoy-access.jsonl",
        )
        state.clear(self.settings)
        if self._plane is None:
            # what an earlier platform wanted is history: its servers are gone
            (directory / "desired.json").unlink(missing_ok=True)
            return EnvoyBackend(directory, endpoints)
        _forget_servers(EnvoyFiles(directory))
        return LastingProxy(directory, endpoints, self._plane.records, plane.ENVOY)

    def _resume(self, found: DataPlane, port: int | None) -> EnvoyBackend:
        before = EnvoyFiles(found.directory).endpoints()
        proxy = found.proxy(before)
        if proxy.alive():
            if port not in (None, before.listener):
                raise UsageError(
                    f"--port {port}: the data plane that runs on {self.settings.home} listens on port "
                    f"{before.listener}; leave --port out to take it over, or end it with `windlass down`"
                )
            return proxy
        listener, admin = port or before.listener, before.admin
        if port is None:
            listener = processes.require_port(listener, "predictions, as before")
        if not plane.free(admin):
            admin = free_port()
        return found.proxy(replace(before, listener=listener, admin=admin))

    # --- life

    def start(self, say: Say = lambda _: None) -> None:
        """Start the collector and Envoy, and what else a plane that is taken over lacks.

        Args:
            say: told of what a plane that is taken over lost and cannot get back.

        Raises:
            WindlassError: one of them did not get ready; none is left running that we started anew.
        """
        try:
            if self._plane is not None and not self.resumed:
                self._plane.begin(Plan.of(self.settings, self._as_of))
            self.collector = self._collect()
            self._take_in(say)
            if not (isinstance(self.envoy, LastingProxy) and self.envoy.adopt()):
                self.envoy.start()
            where = plane.address(self.collector)
            processes.wait_ready(self.collector, f"http://{where}/health")
            self.envoy.set_collector(where)
            self._retrain(say)
        except BaseException:
            self.leave() if self.resumed else self.stop()
            raise

    def serve(self, model: str, version: str) -> None:
        """Start the server of a version and make it known to Envoy; it gets no traffic by this. Idempotent."""
        if (child := self.servers.get((model, version))) is not None and child.alive():
            return
        if self._plane is not None:
            child = self._plane.serve(model, version)
        else:
            child = self._start_server(model, version)
            processes.wait_ready(child, f"http://{plane.address(child)}/v2/health/ready")
        self.servers[(model, version)] = child
        self.envoy.set_server(model, version, plane.address(child))

    def retire(self, model: str, version: str) -> None:
        """End the server of a version that gets no traffic any more."""
        self.envoy.remove_server(model, version)
        child = self.servers.pop((model, version), None)
        if child is not None:
            child.stop()
        if self._plane is not None:
            self._plane.records.end(plane.server_key(model, version))

    def revive(self, say: Say) -> None:
        """Start again what died; what cannot be started is told and tried again at the next call."""
        self._take_in(say)
        for (model, version), child in list(self.servers.items()):
            if not child.alive():
                say(f"{child.name} died (code {child.process.returncode}); starting it again")
                with _told(say):
                    self.serve(model, version)
        if self.collector is not None and not self.collector.alive():
            say("the collector died; starting it again")
            with _told(say):
                self.collector = self._collect()
                self.envoy.set_collector(plane.address(self.collector))
        self._retrain(say)
        if isinstance(self.envoy, LastingProxy) and not self.envoy.alive():
            say("Envoy died; starting it again")
            with _told(say):
                self.envoy.start()

    def describe(self, models: Mapping[str, str]) -> dict[str, Any]:
        """What other commands need to know; `models` maps each model to its champion."""
        predict = {m: f"{self.envoy.url}/v1/models/{m}:predict" for m in models}
        pids = {"windlass": os.getpid(), "envoy": self.envoy.pid}
        if self.collector is not None:
            pids["collector"] = self.collector.pid
        if self.retrain is not None:
            pids["retrain"] = self.retrain.pid
        pids |= {f"{m}-{v}": child.pid for (m, v), child in self.servers.items()}
        return {
            "predict_url": next(iter(predict.values()), None),
            "predict_urls": predict,
            "feedback_url": f"{self.envoy.url}/feedback",
            "report_url": f"{self.envoy.url}/report",
            "trigger_url": None if self.retrain is None else f"http://{plane.address(self.retrain)}",
            "metrics_urls": self._metrics(),
            "models": dict(models),
            "home": str(self.settings.home),
            "pids": pids,
        }

    def _metrics(self) -> dict[str, list[str]]:
        """Pages for a Prometheus to scrape, by the name of their job (docs/metrics.md)."""
        jobs = {
            "windlass-serving": [child for _, child in sorted(self.servers.items())],
            "windlass-collector": [self.collector] if self.collector is not None else [],
            "windlass-retrain": [self.retrain] if self.retrain is not None else [],
        }
        return {
            job: [f"http://{plane.address(c)}/metrics" for c in found] for job, found in jobs.items() if found
        }

    def dead(self) -> list[str]:
        """Names of processes that should run and do not."""
        children = [*self.servers.values(), *([self.collector] if self.collector is not None else [])]
        names = [child.name for child in children if not child.alive()]
        return names if self.envoy.running() else [*names, "Envoy"]

    def stop(self) -> None:
        """End everything: Envoy first, so that no request meets a server that is gone."""
        state.clear(self.settings)
        self.envoy.stop()
        for child in self.servers.values():
            child.stop()
        self.servers.clear()
        if self.collector is not None:
            self.collector.stop()
            self.collector = None
        if self._plane is not None:
            self._plane.end()
        self._lock.release()

    def leave(self) -> None:
        """Let go of a data plane that serves on; the next `windlass up` takes it over."""
        self._lock.release()

    # --- the parts

    def _collect(self) -> processes.Child:
        if self._plane is not None:
            return self._plane.collect()
        port = free_port()
        words = [sys.executable, "-m", "monitoring.collector", "--port", str(port)]
        log = self.settings.logs_dir / "collector.log"
        return processes.start("the collector", [*words, "--home", str(self.settings.home)], log, port=port)

    def _retrain(self, say: Say) -> None:
        """Have a retrain trigger where the platform lasts; a demo retrains in event time by itself."""
        if self._plane is None or (self.retrain is not None and self.retrain.alive()):
            return
        if self.retrain is not None:
            say("the retrain trigger died; starting it again")
        with _told(say):
            self.retrain = self._plane.retrain()

    def _start_server(self, model: str, version: str) -> processes.Child:
        if self._plan is None:
            self._plan = Plan.of(self.settings, self._as_of)
        port = free_port()
        command = self._plan.command(
            model, version, port, words=self._launcher(model, version), replay_clock=self._replay_clock
        )
        log = self.settings.logs_dir / f"server-{model}-{version}.log"
        return processes.start(f"the server of {model} version {version}", command, log, port=port)

    def _take_in(self, say: Say) -> None:
        """Know every server of the routing as ours: an earlier platform, or a rollback, may have started it.

        One that died and that nobody could want back is forgotten.
        """
        if self._plane is None:
            return
        for model in self.envoy.models():
            route = self.envoy.desired(model)
            wanted = {route.stable, route.previous, *(route.traffic.versions if route.traffic else ())}
            # those with traffic first
            for version in sorted(route.servers, key=lambda v: -route.weights.get(v, 0)):
                if (model, version) in self.servers:
                    continue
                with _told(say):
                    if version in wanted or self._plane.records.find(plane.server_key(model, version)):
                        self.serve(model, version)
                    else:
                        self.retire(model, version)


@contextlib.contextmanager
def _told(say: Say) -> Iterator[None]:
    try:
        yield
    except WindlassError as error:
        say(str(error))


def _forget_servers(files: EnvoyFiles) -> None:
    """Keep of an earlier plane which versions had the traffic, and nothing of where they ran."""
    with files.locked():
        before = files.desired()
        models = {
            name: ModelRoute(stable=route.stable, previous=route.previous)
            for name, route in before.models.items()
        }
        files.desire(replace(before, models=models, collector=None, revision=before.revision + 1))


def prediction_log(settings: Settings, model: str, version: str) -> Path:
    """Where the server of a version logs its predictions."""
    return settings.logs_dir / "predictions" / f"{model}-{version}.jsonl"
