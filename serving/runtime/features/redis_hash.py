"""Feast's layout in redis: a hash for each entity key and project.

Its fields are the murmur3 hash of `<view>:<feature>` with a value each, and `_ts:<view>` with the event time of
that view's row. One HMGET reads all views of an entity; here it is packed, and its reply decoded.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import Layout, RowError, StoreError
from serving.runtime.features.value import DOUBLE_SIZE, DOUBLE_TAG, number, seconds

MOST_TIMES = 4096
_MISSING = bytes([DOUBLE_TAG]) + struct.pack("<d", math.nan)


class Stored(NamedTuple):
    """What one hash holds.

    Attributes:
        values: the features of the entity's views, one view after the other.
        expires: for each view, the time (epoch seconds) after which its values count no more.
        first: the earliest of `expires`.
    """

    values: list[float]
    expires: tuple[float, ...]
    first: float


class EntityHash:
    """The hash of one entity: how its HMGET is written and read.

    Args:
        entity: a join key that a view of `bundle` is about.
        store: the store's name, for messages.
    """

    def __init__(self, bundle: Bundle, layout: Layout, entity: str, store: str) -> None:
        self.entity = entity
        self._store = store
        self._serialize = layout.serializers[entity]
        self._suffix = bundle.feast_project.encode()
        views = [(i, v) for i, v in enumerate(bundle.views) if v.entity == entity]
        self._views = [v for _, v in views]
        self._ttls = [v.ttl_seconds or math.inf for v in self._views]
        self._size = sum(len(v.features) for v in self._views)
        # times first: then the values lie side by side
        fields = [f"_ts:{v.name}".encode() for v in self._views]
        fields += [field_name(v.name, f) for v in self._views for f in v.features]
        self._reply_size = len(fields)
        self._head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(fields))
        self._tail = b"\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(name), name) for name in fields)
        self._unpack = struct.Struct("<" + "xd" * self._size).unpack
        self._tags = bytes([DOUBLE_TAG]) * self._size
        self._bytes = DOUBLE_SIZE * self._size
        # for each view its place among the row's values, and its place among this hash's
        self.places: list[tuple[int, int, int, int]] = []
        self._categories: list[Any] = []
        at = 0
        for i, _ in views:
            start, end = layout.spans[i]
            self.places.append((start, end, at, at + end - start))
            self._categories += [layout.categories.get(position) for position in range(start, end)]
            at += end - start
        # the same, neighbours in one piece
        self.runs: list[tuple[int, int, int, int]] = []
        for start, end, first, last in self.places:
            if self.runs and self.runs[-1][1] == start:
                start, _, first, _ = self.runs.pop()
            self.runs.append((start, end, first, last))
        self._known: dict[tuple[bytes | None, ...], tuple[tuple[float, ...], float]] = {}

    def command(self, key: str) -> bytes:
        """The packed HMGET for one key.

        Raises:
            ValueError: the key cannot be one (an integer that does not fit, text that is not Unicode).
        """
        raw = self._serialize(key) + self._suffix
        return b"%b%d\r\n%b%b" % (self._head, len(raw), raw, self._tail)

    def decode(self, reply: Any) -> Stored | RowError:
        """Read a reply; a RowError where this one hash holds what cannot be an input.

        Raises:
            StoreError: the store refused, or the reply is none to an HMGET of ours.
        """
        if reply.__class__ is not list or len(reply) != self._reply_size:
            return self._refused(reply)
        count = len(self._views)
        try:
            stamps = tuple(reply[:count])
            known = self._known.get(stamps)
            expires, first = known if known is not None else self._expiry(stamps)
            raws = reply[count:]
            try:
                joined = b"".join(raws)
            except TypeError:
                joined = b""
            if len(joined) != self._bytes:
                raws = [raw or _MISSING for raw in raws]
                joined = b"".join(raws)
            # a value that begins with a double's tag ends after nine bytes: where every ninth byte is that tag,
            # all are doubles
            if len(joined) == self._bytes and joined[::DOUBLE_SIZE] == self._tags:
                values = list(self._unpack(joined))
            else:
                values = self._one_by_one(raws)
        except (ValueError, TypeError) as error:  # TypeError: an element that is no string of bytes
            return RowError(f"online store {self._store}: {error}")
        return Stored(values, expires, first)

    def _one_by_one(self, raws: list[bytes]) -> list[float]:
        values = []
        names = ((v.name, f) for v in self._views for f in v.features)
        for raw, categories, (view, feature) in zip(raws, self._categories, names, strict=True):
            try:
                values.append(number(raw, categories))
            except (ValueError, TypeError) as error:
                raise ValueError(f"view {view!r}: feature {feature!r} {error}") from error
        return values

    def _expiry(self, stamps: tuple[bytes | None, ...]) -> tuple[tuple[float, ...], float]:
        try:
            expires = tuple(
                -math.inf if stamp is None else seconds(stamp) + ttl
                for stamp, ttl in zip(stamps, self._ttls, strict=True)
            )
        except ValueError as error:
            raise ValueError(f"an event time of entity {self.entity!r}: {error}") from error
        # rows are written in batches: thousands share their times
        if len(self._known) >= MOST_TIMES:
            self._known.clear()
        self._known[stamps] = expires, min(expires)
        return self._known[stamps]

    def _refused(self, reply: Any) -> RowError:
        text = (
            f"online store {self._store}: HMGET gave {str(reply)[:60]!r}, expected {self._reply_size} values"
        )
        if isinstance(reply, Exception):
            if str(reply).startswith("WRONGTYPE"):
                return RowError(text)
            if str(reply).startswith("MOVED"):
                text += "; this is a Redis Cluster, which is not read here: give a server that holds all keys"
        raise StoreError(text)


def field_name(view: str, feature: str) -> bytes:
    """Feast's name of a feature's field in the hash: four bytes of murmur3, little-endian."""
    return struct.pack("<I", murmur3_32(f"{view}:{feature}".encode()))


def murmur3_32(data: bytes) -> int:
    """MurmurHash3 of 32 bits with seed 0; called at load only."""
    mask = 0xFFFFFFFF

    def mix(k: int) -> int:
        k = k * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        return k * 0x1B873593 & mask

    h = 0
    whole = len(data) & ~3
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        h ^= mix(k)
        h = (h << 13 | h >> 19) & mask
        h = (h * 5 + 0xE6546B64) & mask
    if len(data) > whole:
        h ^= mix(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16
