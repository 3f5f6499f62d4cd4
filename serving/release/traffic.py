"""How a model's requests are to be shared among its versions: what a decision says and what every backend obeys.

A value, compared with what is read back from the wire. Experiments assign units (users), not requests: a unit is
hashed with the experiment's salt into one of 10,000 buckets and a bucket belongs to one version, so that a user stays
where they are while the bucket does. The hash and the moves of buckets are in `buckets.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

BUCKETS = 10_000

#: A request with this header goes to the version it names, where `Traffic.matches` says so.
PREVIEW_HEADER = "x-windlass-preview"

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of buckets, ascending and apart."""


@dataclass(frozen=True)
class Unit:
    """What is assigned: the value of a header or of a cookie."""

    kind: Literal["header", "cookie"]
    name: str


@dataclass(frozen=True)
class Match:
    """Requests whose header or cookie `name` has exactly `value` go to `version`, outside all evidence."""

    kind: Literal["header", "cookie"]
    name: str
    value: str
    version: str


@dataclass(frozen=True)
class Assignment:
    """Sticky assignment of units.

    Attributes:
        buckets: version -> its buckets; together they are all 10,000, each once.
        otherwise: version that answers requests without the unit; they belong to no arm.
    """

    unit: Unit
    salt: str
    buckets: Mapping[str, Ranges]
    otherwise: str


@dataclass(frozen=True)
class Segments:
    """Weights by the value of a header: value -> version -> percent; other values get `Traffic.weights`."""

    header: str
    weights: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Traffic:
    """All that a router is told of one model.

    Attributes:
        weights: version -> percent, summing to 100; a version without a share is left out.
        mirror_to: version that also gets a copy of what another one answers (and whose own requests are copied to
            the version with the largest share, so that both score every request).
        mirror_percent: share of the requests that are copied.
        assignment: who gets what is decided by unit; `weights` then states the same shares.
    """

    weights: Mapping[str, int]
    mirror_to: str | None = None
    mirror_percent: int = 100
    matches: tuple[Match, ...] = ()
    assignment: Assignment | None = None
    segments: Segments | None = field(default=None)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must have a server."""
        named = [
            *self.weights,
            *([self.mirror_to] if self.mirror_to else []),
            *(m.version for m in self.matches),
        ]
        if self.assignment is not None:
            named += [*self.assignment.buckets, self.assignment.otherwise]
        if self.segments is not None:
            named += [version for weights in self.segments.weights.values() for version in weights]
        return tuple(dict.fromkeys(named))


def all_to(version: str) -> Traffic:
    """Everything to one version and nothing beside: the state before and after every release."""
    return Traffic({version: 100})


def undivided(traffic: Traffic) -> bool:
    """Whether one version has everything, as after a rollback and after a promotion."""
    served = [version for version, weight in traffic.weights.items() if weight]
    return len(served) == 1 and traffic == all_to(served[0])


def to_json(traffic: Traffic) -> dict[str, Any]:
    """Plain values that `from_json` reads back as the same traffic."""
    return asdict(traffic)


def from_json(plain: Mapping[str, Any]) -> Traffic:
    """The inverse of `to_json`."""
    assignment, segments = plain["assignment"], plain["segments"]
    return Traffic(
        weights=dict(plain["weights"]),
        mirror_to=plain["mirror_to"],
        mirror_percent=plain["mirror_percent"],
        matches=tuple(Match(**match) for match in plain["matches"]),
        assignment=None
        if assignment is None
        else Assignment(
            unit=Unit(**assignment["unit"]),
            salt=assignment["salt"],
            buckets={
                version: tuple((low, high) for low, high in ranges)
                for version, ranges in assignment["buckets"].items()
            },
            otherwise=assignment["otherwise"],
        ),
        segments=None if segments is None else Segments(**segments),
    )
