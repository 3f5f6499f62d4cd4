"""Reading features: what every online store's reader promises, and what the readers share.

A reader answers with the values of all views of one row in one round trip. What is absent, NULL or expired
is NaN there, exactly as in the point-in-time join of training; what cannot be read raises, and the ladder
decides what then stands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from serving.runtime.bundle import Bundle
from serving.runtime.features import entity_key
from windlass.errors import UsageError

BUDGET_S = 0.020


class StoreError(Exception):
    """The online store did not answer, or not in Feast's layout."""


class StoreTimeoutError(StoreError):
    """The store did not answer within the budget."""


class StoreLostError(StoreError):
    """There is no connection to the store, or it ended before the answer."""


class StoreBusyError(StoreError):
    """So many reads are under way that this one was not begun."""


class RowError(StoreError):
    """The store answered, and what it holds for one row (or that row's key) cannot be read. No failure of the store."""


class FeatureReader(Protocol):
    """Reads the features of one row. A wrapper around a real reader needs this method and no other."""

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        """Return the features of every view of the bundle, in its order.

        Args:
            entities: a value for each of the bundle's entities.
            now: the time, in epoch seconds, at which rows must not have expired.

        Raises:
            RowError: this row cannot be read, others can.
            StoreError: the store failed; any other exception is taken for the same.
        """
        ...


RowsDone = Callable[["list[list[float] | RowError] | StoreError"], None]
"""Takes, for each row, what `FeatureReader.read` returns or the RowError it raises; or the failure of the store."""


@runtime_checkable
class BatchReader(Protocol):
    """Reads many rows in one round trip, without blocking the event loop."""

    def begin(
        self, rows: Sequence[Mapping[str, str]], nows: Sequence[float], budget_s: float, done: RowsDone
    ) -> None:
        """Begin to read; `done` is called exactly once, at the latest after `budget_s` seconds.

        A call that cannot begin calls `done` before it returns.
        """
        ...

    async def warm(self) -> None:
        """Connect, so that the first request need not wait for it.

        Raises:
            StoreError: the store does not answer.
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

    def close(self) -> None:
        """Give back the connection."""
        ...


def open_reader(address: str, bundle: Bundle, *, budget_s: float = BUDGET_S) -> ClosableReader:
    """Return the reader for `sqlite:PATH` or `redis://…`; a store that is not there yet stops nothing.

    Raises:
        UsageError: the address is of no store that is read here.
    """
    if address.startswith("sqlite:") and len(address) > len("sqlite:"):
        from serving.runtime.features.sqlite_reader import SqliteReader

        reader = SqliteReader(address.removeprefix("sqlite:"), bundle, budget_s=budget_s)
        reader.warm()
        return reader
    if address.startswith(("redis://", "rediss://", "unix://")):
        from serving.runtime.features.redis_reader import RedisReader

        return RedisReader(address, bundle, budget_s=budget_s)
    raise UsageError(
        f"online store {address!r} is not known; give sqlite:PATH or redis://HOST:PORT/DB (rediss://, unix://); "
        "Redis Cluster and Sentinel are not read here"
    )
