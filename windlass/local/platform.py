"""The local platform: one Envoy, one collector, and a model server for each version that must be reachable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components import signing
from serving.release.envoy_process import free_port
from windlass.errors import WindlassError
from windlass.local import processes, state
from windlass.local.lock import PlatformLock
from windlass.settings import Settings

Launcher = Callable[[str, str], list[str]]
"""(model, version) -> the first words of the command that serves it, before the runtime's own arguments."""


def plain_launcher(model: str, version: str) -> list[str]:
    """Every version is served by the runtime as it is."""
    return [sys.executable, "-m", "serving.runtime"]


class Platform:
    """Processes of one home; a context manager that leaves none behind.

    Args:
        port: where Envoy listens; None picks a free one.
        replay_clock: servers take the time of a request from its `x-windlass-at` header.
        launcher: how a version's server is started.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        port: int | None = None,
        replay_clock: bool = False,
        as_of: float | None = None,
        launcher: Launcher = plain_launcher,
    ) -> None:
        from serving.release.envoy import Endpoints, EnvoyBackend

        self.settings = settings
        self._replay_clock = replay_clock
        self._as_of = as_of
        self._launcher = launcher
        self._lock = PlatformLock(state.lock_path(settings))
        try:
            listener = processes.require_port(port, "predictions") if port else free_port()
        except WindlassError:
            self._lock.release()
            raise
        self.servers: dict[tuple[str, str], processes.Child] = {}
        self.collector: processes.Child | None = None
        # what an earlier platform wanted is history: its servers are gone
        (settings.run_dir / "envoy" / "desired.json").unlink(missing_ok=True)
        state.clear(settings)
        self.envoy = EnvoyBackend(
            settings.run_dir / "envoy",
            Endpoints(
                listener=listener,
                admin=free_port(),
                access_log=settings.logs_dir / "envoy-access.jsonl",
            ),
        )

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the collector and Envoy.

        Raises:
            WindlassError: one of them did not get ready; none is left running.
        """
        try:
            port = free_port()
            self.collector = processes.start(
                "the collector",
                [
                    sys.executable,
                    "-m",
                    "monitoring.collector",
                    "--port",
                    str(port),
                    "--home",
                    str(self.settings.home),
                ],
                self.settings.logs_dir / "collector.log",
            )
            self.envoy.start()
            processes.wait_ready(self.collector, f"http://127.0.0.1:{port}/health")
            self.envoy.set_collector(f"127.0.0.1:{port}")
        except BaseException:
            self.stop()
            raise

    def serve(self, model: str, version: str) -> None:
        """Start the server of a version and make it known to Envoy; it gets no traffic by this. Idempotent."""
        if (child := self.servers.get((model, version))) is not None and child.alive():
            return
        port = free_port()
        log = self.settings.logs_dir / "predictions" / f"{model}-{version}.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *self._launcher(model, version),
            *("--bundle", str(self.settings.bundles_dir / model / version)),
            *("--port", str(port)),
            *("--log", str(log)),
            *("--online", self._online()),
            *("--verify-key", str(signing.keys(self.settings).public), "--require-signature"),
        ]
        if self._replay_clock:
            command.append("--replay-clock")
        if self._as_of is not None:
            command += ["--as-of", repr(self._as_of)]
        child = processes.start(
            f"the server of {model} version {version}",
            command,
            self.settings.logs_dir / f"server-{model}-{version}.log",
        )
        self.servers[(model, version)] = child
        processes.wait_ready(child, f"http://127.0.0.1:{port}/v2/health/ready")
        self.envoy.set_server(model, version, f"127.0.0.1:{port}")

    def retire(self, model: str, version: str) -> None:
        """End the server of a version that gets no traffic any more."""
        self.envoy.remove_server(model, version)
        child = self.servers.pop((model, version), None)
        if child is not None:
            child.stop()

    def describe(self, models: Mapping[str, str]) -> dict[str, Any]:
        """What other commands need to know; `models` maps each model to its champion."""
        predict = {m: f"{self.envoy.url}/v1/models/{m}:predict" for m in models}
        pids = {"windlass": _own_pid(), "envoy": self.envoy.pid}
        if self.collector is not None:
            pids["collector"] = self.collector.pid
        pids |= {f"{m}-{v}": child.pid for (m, v), child in self.servers.items()}
        return {
            "predict_url": next(iter(predict.values()), None),
            "predict_urls": predict,
            "feedback_url": f"{self.envoy.url}/feedback",
            "report_url": f"{self.envoy.url}/report",
            "models": dict(models),
            "home": str(self.settings.home),
            "pids": pids,
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
        self._lock.release()

    def _online(self) -> str:
        if self.settings.online_store == "redis":
            return str(self.settings.redis_url)
        return f"sqlite:{self.settings.online_db}"


def _own_pid() -> int:
    import os

    return os.getpid()


def prediction_log(settings: Settings, model: str, version: str) -> Path:
    """Where the server of a version logs its predictions."""
    return settings.logs_dir / "predictions" / f"{model}-{version}.jsonl"
