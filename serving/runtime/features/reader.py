"""Reading features: what every online store's reader promises, and what the readers share.

A reader answers with the values of all views of one row in one round trip. What is absent, NULL or expired
is NaN there, exactly as in the point-in-time join of training; what cannot be read raises, and the ladder
decides what then stands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.runtime.bundle import Bundle
from serving.runtime.features import entity_key
from windlass.errors import UsageError

BUDGET_S = 0.020


class StoreError(Exception):
    """The online store did not answer, not in time, or not in Feast's layout."""


class FeatureReader(Protocol):
    """Reads the features of one row. A wrapper around a real reader needs this method and no other."""

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        """Return the features of every view of the bundle, in its order.

        Args:
            entities: a value for each of the bundle's entities.
            now: the time, in epoch seconds, at which rows must not have expired.

        Raises:
            StoreError: the store failed; any other exception is taken for the same.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """Where each feature of a bundle goes in the flat list that a reader returns.

    Attributes:
        width: number of features of all views.
        spans: first and last position (exclusive) of each view.
        positions: for each view, feature name to position.
        categories: for a position that holds a string, category to the number the model takes.
        serializers: for each entity, its value to Feast's row key.
    """

    width: int
    spans: tuple[tuple[int, int], ...]
    positions: tuple[Mapping[str, int], ...]
    categories: Mapping[int, Mapping[str, float]]
    serializers: Mapping[str, Callable[[str], bytes]]

    @classmethod
    def of(cls, bundle: Bundle) -> Layout:
        spans: list[tuple[int, int]] = []
        at: list[dict[str, int]] = []
        start = 0
        for view in bundle.views:
            spans.append((start, start + len(view.features)))
            at.append({feature: start + i for i, feature in enumerate(view.features)})
            start += len(view.features)
        index = {view.name: i for i, view in enumerate(bundle.views)}
        categories = {
            at[index[i.view]][i.name]: positions(i.categories)
            for i in bundle.inputs
            if i.view is not None and i.categories is not None
        }
        serializers = {e: entity_key.serializer(e, bundle.entity_types[e]) for e in bundle.entities}
        return cls(start, tuple(spans), tuple(at), categories, serializers)


def positions(categories: tuple[str, ...]) -> dict[str, float]:
    """What the model takes for each category."""
    return {category: float(position) for position, category in enumerate(categories)}


def oldest_valid(bundle: Bundle, now: float) -> list[float]:
    """For each view, the event time below which a row has expired at `now`."""
    return [now - v.ttl_seconds if v.ttl_seconds > 0 else -math.inf for v in bundle.views]


class ClosableReader(FeatureReader, Protocol):
    """What `open_reader` returns."""

    def warm(self) -> None:
        """Open the store, so that the first request need not wait for it; one that does not answer is left alone."""
        ...

    def close(self) -> None:
        """Give back the connection."""
        ...


def open_reader(address: str, bundle: Bundle, *, budget_s: float = BUDGET_S) -> ClosableReader:
    """Return the reader for `sqlite:PATH` or `redis://…`, its store opened where it answers.

    Raises:
        UsageError: the address is of no store that is read here.
    """
    if address.startswith("sqlite:") and len(address) > len("sqlite:"):
        from serving.runtime.features.sqlite_reader import SqliteReader

        reader: ClosableReader = SqliteReader(address.removeprefix("sqlite:"), bundle, budget_s=budget_s)
    elif address.startswith(("redis://", "rediss://", "unix://")):
        from serving.runtime.features.redis_reader import RedisReader

        reader = RedisReader(address, bundle, budget_s=budget_s)
    else:
        raise UsageError(f"online store {address!r} is not known; give sqlite:PATH or redis://HOST:PORT/DB")
    reader.warm()
    return reader
