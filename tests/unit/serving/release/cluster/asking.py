"""Who asks a backend until it knows, as turn after turn does."""

from __future__ import annotations

from serving.release.backend import TrafficBackend, UnconfirmedError
from serving.release.traffic import Traffic

#: Seconds between two askings.
EVERY_S = 0.5


class Asking:
    """A `TrafficBackend` that is told again for as long as it does not know.

    Attributes:
        backend: the one that does not wait.
    """

    def __init__(self, backend: TrafficBackend, slept: list[float]) -> None:
        self.backend = backend
        self._slept = slept

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        while True:
            try:
                self.backend.set_traffic(model, traffic)
            except UnconfirmedError:
                self._slept.append(EVERY_S)
            else:
                return

    def traffic(self, model: str) -> Traffic | None:
        return self.backend.traffic(model)
