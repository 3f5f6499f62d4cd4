"""Who splits the traffic of a model, and what of it need not be asked at every look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from serving.release.backend import TrafficBackend, UnconfirmedError
from serving.release.cluster import inference_service
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.gateway import GatewayBackend
from serving.release.cluster.knative import KnativeBackend
from serving.release.cluster.kserve import KServeBackend
from serving.release.cluster.serving_options import ServingOptions
from serving.release.cluster.waiting import Patience
from serving.release.release import Gateway, Release
from serving.release.traffic import Traffic

#: How long what the wire showed is believed where a watch tells of every change, and where none does.
TOLD_S = 60.0
UNTOLD_S = 10.0


class Backends:
    """The backends of one namespace's models."""

    def __init__(self, api: KubernetesApi, namespace: str, gateway: Gateway, options: ServingOptions) -> None:
        self._api = api
        self._namespace = namespace
        self._gateway = gateway
        self._options = options

    def of(self, release: Release) -> Remembered:
        """The backend that a release asks for."""
        if release.backend == "kserve":
            # KServe starts the canary's pods before it sends them anything
            patience = Patience(within_s=float(self._options.of(release.model).start_seconds))
            backend = KServeBackend(self._api, self._namespace, self._predictor, patience=patience)
            return Remembered(backend, UNTOLD_S)
        if release.backend == "knative":
            return Remembered(KnativeBackend(self._api, self._namespace, self._predictor), UNTOLD_S)
        gateway = self.gateway_of(release)
        return Remembered(GatewayBackend(self._api, self._namespace, gateway), TOLD_S)

    def gateway_of(self, release: Release) -> Gateway:
        """The Gateway of a release with backend `gateway`."""
        return release.gateway or self._gateway

    def logs(self, model: str) -> str | None:
        """Who sends what a model's servers answer: "runtime" or "kserve"; None where nobody does."""
        payload = self._options.of(model).payload
        return None if payload is None else payload.sender

    def _predictor(self, model: str, version: str) -> dict[str, Any]:
        return inference_service.predictor(model, version, self._options, namespace=self._namespace)


class Remembered:
    """A backend that is not asked twice what is in force while nothing has changed.

    A release is looked at every few seconds, and a look asks what is on the wire; a watch on the routes tells when it
    must be asked anew.
    """

    def __init__(
        self, backend: TrafficBackend, for_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._for_s = for_s
        self._clock = clock
        #: How many changes were told when it was asked, when that was, and what it said.
        self._known: tuple[int, float, Traffic | None] | None = None
        self._changes = 0
        self._counting = threading.Lock()
        self._awaits = False

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.forget()
        self._awaits = True
        try:
            self._backend.set_traffic(model, traffic)
        except UnconfirmedError:
            raise
        except BaseException:
            self._awaits = False
            raise
        self._awaits = False

    def traffic(self, model: str) -> Traffic | None:
        now, known, changes = self._clock(), self._known, self._changes
        if known is not None and known[0] == changes and now - known[1] < self._for_s:
            return known[2]
        found = self._backend.traffic(model)
        # an answer may be older than a change that was told while it was on its way: it is kept under the count before
        self._known = (changes, now, found)
        return found

    @property
    def awaits(self) -> bool:
        """Whether the router's word on what it was told is waited for; so it is while it is told. May be asked by any
        thread."""
        return self._awaits

    @property
    def changes(self) -> int:
        """Rises with every change that was told."""
        return self._changes

    def forget(self) -> None:
        """Ask at the next look: something has changed, or may have. May be called by any thread."""
        with self._counting:
            self._changes += 1


class Chosen:
    """The backend of a model's newest release; releases of one model may ask for different ones."""

    def __init__(self) -> None:
        self._backend: Remembered | None = None

    def use(self, backend: Remembered) -> Remembered | None:
        """Use another one from here on; the one that was before, None where there was none."""
        former, self._backend = self._backend, backend
        return former

    @property
    def backend(self) -> Remembered:
        assert self._backend is not None  # noqa: S101 - chosen before anything is done
        return self._backend

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.backend.set_traffic(model, traffic)

    def traffic(self, model: str) -> Traffic | None:
        return self.backend.traffic(model)

    @property
    def awaits(self) -> bool:
        return self._backend is not None and self._backend.awaits

    def forget(self) -> None:
        if self._backend is not None:
            self._backend.forget()
