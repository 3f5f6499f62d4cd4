"""A router and a registry that do what they are told, except when they do not.

`Wire` is what really happens to requests and outlives every process; `Gateway` is one process's way to it, with the
failures that a router, or the API in front of one, has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from serving.release.backend import RejectedError, UnreachableError
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.leadership import Lease
from serving.release.traffic import Traffic
from windlass.errors import WindlassError

Mode = Literal["well", "conflict", "rejected", "unreachable", "partial", "unanswered", "disobeyed", "stale"]


@dataclass
class Wire:
    """What is in force.

    Attributes:
        mode: how the router fails at the moment.
        refuses: versions that it never takes: their configuration is wrong.
        registry_down: the alias cannot be moved.
        told, changed, moved: watched by the invariants: before a process changes the routes, after anything did,
            and after an alias was moved.
    """

    routes: dict[str, Traffic] = field(default_factory=dict)
    before: dict[str, Traffic] = field(default_factory=dict)
    champions: dict[str, str] = field(default_factory=dict)
    mode: Mode = "well"
    refuses: frozenset[str] = frozenset()
    registry_down: bool = False
    told: Callable[[str, Traffic], None] = lambda model, traffic: None
    changed: Callable[[str, Traffic], None] = lambda model, traffic: None
    moved: Callable[[str, str], None] = lambda model, version: None

    def put(self, model: str, traffic: Traffic) -> None:
        self.before[model] = self.routes[model]
        self.routes[model] = traffic
        self.changed(model, traffic)


class Gateway:
    """A `TrafficBackend`, and the registry beside it, for one process."""

    def __init__(self, wire: Wire, boundaries: Boundaries, lease: Lease) -> None:
        self._wire = wire
        self._boundaries = boundaries
        self._lease = lease

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self._boundaries.cross("set traffic", lambda: self._set(model, traffic))

    def traffic(self, model: str) -> Traffic | None:
        return self._boundaries.cross("read traffic", lambda: self._read(model))

    def set_champion(self, model: str, version: str) -> None:
        self._boundaries.cross("set champion", lambda: self._move(model, version))

    def _set(self, model: str, traffic: Traffic) -> None:
        wire = self._wire
        self._lease.require()
        wire.told(model, traffic)
        if wire.refuses.intersection(traffic.versions):
            raise RejectedError(
                f"route of {model}: version {min(wire.refuses)} has no cluster; fix its address"
            )
        if wire.mode == "conflict":
            raise WindlassError(f"route of {model}: somebody else changed it (409); read it and try again")
        if wire.mode == "rejected":
            raise RejectedError(f"route of {model}: the configuration was not taken; see the proxy's log")
        if wire.mode == "unreachable":
            raise UnreachableError(f"route of {model}: connection refused; start the proxy")
        if wire.mode == "disobeyed":
            raise RejectedError(
                f"route of {model}: taken, but the wire shows {dict(wire.routes[model].weights)}"
            )
        if wire.mode == "partial":
            wire.put(model, _half(wire.routes[model], traffic))
            raise UnreachableError(f"route of {model}: the connection broke while it was written; try again")
        if traffic != wire.routes[model]:
            wire.put(model, traffic)
        if wire.mode == "unanswered":
            raise UnreachableError(f"route of {model}: no answer in 10 s; try again")

    def _read(self, model: str) -> Traffic | None:
        if self._wire.mode == "unreachable":
            raise UnreachableError(f"route of {model}: connection refused; start the proxy")
        if self._wire.mode == "stale":
            return self._wire.before.get(model, self._wire.routes[model])
        return self._wire.routes[model]

    def _move(self, model: str, version: str) -> None:
        self._lease.require()
        if self._wire.registry_down:
            raise WindlassError(f"alias of {model}: the registry does not answer; start it")
        self._wire.champions[model] = version
        self._wire.moved(model, version)


def _half(before: Traffic, after: Traffic) -> Traffic:
    """Some proxies have the new weights and some the old ones."""
    weights: Mapping[str, int] = {
        version: (before.weights.get(version, 0) + after.weights.get(version, 0)) // 2
        for version in dict.fromkeys((*after.weights, *before.weights))
    }
    first = next(iter(weights))
    missing = 100 - sum(weights.values())
    mixed = {v: w + (missing if v == first else 0) for v, w in weights.items()}
    return replace(after, weights={v: w for v, w in mixed.items() if w}, assignment=before.assignment)
