"""One model's turns on an API server without a socket; its router, its servers and its registry are in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes_server import KubernetesServer
from kubernetes_wire import Wire

from serving.release.backend import RejectedError, UnconfirmedError
from serving.release.cluster import naming, serving_options
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.readiness import Readiness
from serving.release.cluster.servers import Servers
from serving.release.cluster.store import ClusterStore
from serving.release.people.exporter import Exporter, Families
from serving.release.release import Gateway, Release
from serving.release.traffic import Traffic
from windlass.clock import ManualClock
from windlass.errors import UsageError, WindlassError
from windlass.operator.backends import Backends, Remembered
from windlass.operator.champions import Alias, Champions
from windlass.operator.fenced_api import FencedApi
from windlass.operator.marks import COMMAND, FINALIZER
from windlass.operator.metrics import Metrics
from windlass.operator.model import ModelReleases
from windlass.operator.place import Journals, Place
from windlass.operator.releases import Objects
from windlass.operator.settings import Settings
from windlass.operator.telling import Teller

KEY = ("team", "flights")
OPTIONS = serving_options.parse({"storage": "s3://models/{model}/{version}"})
SETTINGS = Settings(("team",), "team", "one", prometheus_url="http://prometheus:9090")
GUARD = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 5,
         "alpha": 0.01}  # fmt: skip


def nothing(seconds: float) -> None:
    pass


class Router:
    """Splits traffic in memory; refuses it where `refuses` says why, all of it or all but `refuses_all_but`; does it
    without saying so for so many calls as `silent` says."""

    def __init__(self) -> None:
        self.now: Traffic | None = None
        self.refuses: str | None = None
        self.refuses_all_but: str | None = None
        self.silent = 0
        self.told: list[dict[str, int]] = []

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.told.append(dict(traffic.weights))
        if self.refuses is not None and set(traffic.weights) != {self.refuses_all_but}:
            raise RejectedError(self.refuses)
        self.now = traffic
        if self.silent:
            self.silent -= 1
            raise UnconfirmedError("nobody has said yes")

    def traffic(self, model: str) -> Traffic | None:
        return self.now

    @property
    def weights(self) -> dict[str, int]:
        return {} if self.now is None else {v: weight for v, weight in self.now.weights.items() if weight}


class Routers(Backends):
    """A router for each Gateway that a release names."""

    def __init__(self, api: FencedApi) -> None:
        super().__init__(api, "team", Gateway(), OPTIONS)
        self.by_gateway: dict[str, Router] = {}

    def of(self, release: Release) -> Remembered:
        return Remembered(self.by_gateway.setdefault(self.gateway_of(release).name, Router()), 60.0)


class Running(Servers):
    """Servers that answer at once, but those that are named in `starting`, in `down`, where none is left, and in
    `idle`, where none is wanted; `outdated` are those that today's options would have otherwise."""

    def __init__(self, api: FencedApi) -> None:
        super().__init__(api, "team", OPTIONS)
        self.made: set[str] = set()
        self.starting: set[str] = set()
        self.down: set[str] = set()
        self.idle: set[str] = set()
        self.outdated: set[str] = set()
        self._made_for: dict[str, str | None] = {}

    def ensure(self, model: str, version: str, *, made_for: str | None = None) -> Readiness:
        naming.inference_service(model, version)  # raises where it can have none
        if version not in self.made:
            self._made_for[version] = made_for
        self.made.add(version)
        self.outdated.discard(version)
        if version in self.idle:
            return Readiness(False, "its Deployment is scaled to 0")
        return Readiness(None, "no pods yet") if version in self.starting | self.down else Readiness(True, "")

    def answering(self, model: str, version: str) -> bool | None:
        return None if version in self.idle else version not in self.down

    def standing(self, model: str, version: str) -> Readiness:
        if version in self.made - self.starting - self.down - self.idle:
            return Readiness(True)
        return self.ensure(model, version)

    def keep(self, model: str, version: str) -> Readiness:
        if version in self.outdated - self.down - self.idle:
            return Readiness(None, "no pods yet") if version in self.starting else Readiness(True)
        return self.ensure(model, version)

    def retire(self, model: str, version: str) -> None:
        naming.inference_service(model, version)
        self.made.discard(version)

    def retire_made(self, model: str, version: str, of: Callable[[str], bool]) -> None:
        made_for = self._made_for.get(version)
        if made_for is not None and of(made_for):
            self.retire(model, version)

    def known(self, model: str) -> tuple[str, ...]:
        return tuple(sorted(self.made))


class Registry(Alias):
    """Holds the alias in memory."""

    def __init__(self) -> None:
        super().__init__("http://mlflow")
        self.champion: str | None = "12"
        self.unknown: set[str] = set()
        self.away = False

    def get(self, model: str) -> str | None:
        if self.away:
            raise WindlassError("MLflow does not answer")
        return self.champion

    def require(self, model: str, version: str) -> None:
        if version in self.unknown:
            raise UsageError(f"MLflow knows no version {version}")

    def set(self, model: str, version: str) -> None:
        if version in self.unknown:
            raise UsageError(f"MLflow knows no version {version}")
        self.champion = version


class Stage:
    """The turns of model `flights`, whose champion is 12, and what they are told."""

    def __init__(self) -> None:
        self.state = KubernetesServer()
        self.api = FencedApi(Wire(self.state), sleep=nothing)
        self.objects, self.metrics = Objects(), Metrics()
        self.clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.routers, self.servers, self.registry = Routers(self.api), Running(self.api), Registry()
        self.place = Place(
            namespace="team",
            settings=SETTINGS,
            api=self.api,
            clock=self.clock,
            journals=Journals(lambda: ClusterStore(self.api, "team", "one", sleep=nothing)),
            servers=self.servers,
            backends=self.routers,
            champions=Champions(self.api, "team", self.registry),
            teller=Teller(self.api, "one", self.clock, self.objects.learn, self.objects.drop),
            exporter=Exporter(Families(self.metrics.registry, namespaces=True), "team"),
            metrics=self.metrics,
            prometheus=None,
        )
        self.model = self.restarted()

    def restarted(self) -> ModelReleases:
        """The turns of another process."""
        self.place.forget()
        self.model = ModelReleases(self.place, "flights", lambda: self.objects.of(KEY))
        return self.model

    def router(self, gateway: str = "") -> Router:
        return self.routers.by_gateway.setdefault(gateway or Gateway().name, Router())

    # --- what a person does

    def apply(self, name: str, created: str = "2026-03-01T11:00:00Z", **stated: Any) -> None:
        """Apply a canary of a first step of 10 %; its candidate is what its name ends with."""
        content = {
            "model": "flights",
            "candidate": name.rpartition("-")[2],
            "backend": "gateway",
            "strategy": {"type": "canary", "steps": [{"weight": 10}]},
            "checks": [GUARD],
            **stated,
        }
        self._put(name, {"metadata": {"creationTimestamp": created}, "spec": content})

    def command(self, name: str, text: str) -> None:
        found = self.release(name)
        self._put(name, {**found, "metadata": {**found["metadata"], "annotations": {COMMAND: text}}})

    def delete(self, name: str) -> None:
        """Delete it; it goes at once where our finalizer is not on it."""
        found = self.release(name)
        if FINALIZER in found["metadata"].get("finalizers", ()):
            self._put(name, {**found, "metadata": {**found["metadata"], "deletionTimestamp": "now"}})
            return
        self.state.remove(RELEASE.path("team", name))
        self.objects.drop(next(seen for seen in self.objects.of(KEY) if seen.name == name))

    # --- what is seen

    def release(self, name: str) -> dict[str, Any]:
        return self.state.objects[RELEASE.path("team", name)]

    def phase(self, name: str) -> str:
        return str(self.release(name).get("status", {}).get("phase", ""))

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c["reason"]) for c in self.release(name)["status"]["conditions"]}

    def events(self) -> list[str]:
        return [o["reason"] for path, o in self.state.objects.items() if "/events/" in path]

    def _put(self, name: str, content: dict[str, Any]) -> None:
        self.objects.learn(self.state.put(RELEASE.path("team", name), content))
