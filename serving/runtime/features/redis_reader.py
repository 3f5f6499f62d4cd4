"""Reading Feast's redis online store: one pipelined HMGET for each entity, all in one round trip.

Feast keeps a hash for each entity key and project; its fields are the murmur3 hash of `<view>:<feature>` and
`_ts:<view>` with the row's event time. The only importer of redis, of which a bare connection is used: its
pipeline costs more than the round trip.
"""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import BUDGET_S, Layout, StoreError, oldest_valid
from serving.runtime.features.value import DOUBLE_SIZE, DOUBLE_TAG, number, seconds, unpack_double
from windlass.errors import UsageError

CONNECT_TIMEOUT_S = 0.25


@dataclass(frozen=True)
class _Hash:
    """What is asked of one entity's hash: for each view its time, then its features, in order."""

    entity: str
    serialize: Callable[[str], bytes]
    fields: tuple[bytes, ...]
    views: tuple[int, ...]


class RedisReader:
    """Reads rows over one connection, opened by `warm` or the first read and again after a failure.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://…` or `unix://…`.
        budget_s: how long the answer to one read may take.

    Raises:
        UsageError: the package redis is not installed, or the address is not understood.
    """

    def __init__(self, url: str, bundle: Bundle, *, budget_s: float = BUDGET_S) -> None:
        try:
            import redis
        except ImportError:
            raise UsageError(
                "a redis online store needs the package redis; install windlass[redis]"
            ) from None
        try:
            # no retry of the client's own: the budget is ours, and the ladder stands below
            pool = redis.ConnectionPool.from_url(
                url,
                socket_timeout=budget_s,
                socket_connect_timeout=max(budget_s, CONNECT_TIMEOUT_S),
                retry=None,
                health_check_interval=0,
            )
            self._make_connection = pool.make_connection
        except ValueError as error:
            raise UsageError(f"online store {url!r}: {error}") from error
        self._failures: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._name = _without_password(url)
        self._budget_s = budget_s
        self._bundle = bundle
        self._layout = Layout.of(bundle)
        self._suffix = bundle.feast_project.encode()
        self._hashes = [self._hash(e) for e in dict.fromkeys(v.entity for v in bundle.views)]
        self._connection: Any = None

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        """See `FeatureReader.read`."""
        values = [math.nan] * self._layout.width
        if not values:
            return values
        answers = self._ask([h.serialize(entities[h.entity]) + self._suffix for h in self._hashes])
        oldest = oldest_valid(self._bundle, now)
        for asked, answer in zip(self._hashes, answers, strict=True):
            self._take(asked, answer, oldest, values)
        return values

    def warm(self) -> None:
        """See `ClosableReader.warm`."""
        with contextlib.suppress(StoreError):
            if self._hashes:
                self._ask([self._suffix] * len(self._hashes))

    def close(self) -> None:
        """Give back the connection; the next read opens another."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _ask(self, keys: list[bytes]) -> list[list[bytes | None]]:
        try:
            if self._connection is None:
                self._connection = self._make_connection()
                self._connection.connect()
            connection = self._connection
            deadline = time.monotonic() + self._budget_s
            commands = [("HMGET", key, *h.fields) for h, key in zip(self._hashes, keys, strict=True)]
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = []
            for asked in self._hashes:
                answer = connection.read_response(disable_decoding=True)
                if not isinstance(answer, list) or len(answer) != len(asked.fields):
                    raise StoreError(
                        f"online store {self._name}: HMGET gave {str(answer)[:60]!r}, expected a list"
                    )
                answers.append(answer)
                if time.monotonic() > deadline:
                    budget = f"{self._budget_s * 1000:.0f} ms"
                    raise StoreError(f"online store {self._name}: no complete answer within {budget}")
            return answers
        except StoreError:
            # what still comes over this connection would answer the wrong question
            self.close()
            raise
        except self._failures as error:
            self.close()
            raise StoreError(f"online store {self._name}: {error}") from error

    def _take(
        self, asked: _Hash, answer: list[bytes | None], oldest: list[float], values: list[float]
    ) -> None:
        at = 0
        for view in asked.views:
            start, end = self._layout.spans[view]
            stamp = answer[at]
            raws = answer[at + 1 : at + 1 + end - start]
            at += 1 + end - start
            try:
                if stamp is None or seconds(stamp) < oldest[view]:
                    continue
                for position, raw in enumerate(raws, start):
                    if raw is None:
                        continue
                    if len(raw) == DOUBLE_SIZE and raw[0] == DOUBLE_TAG:
                        values[position] = unpack_double(raw, 1)[0]
                    else:
                        values[position] = number(raw, self._layout.categories.get(position))
            except ValueError as error:
                name = self._bundle.views[view].name
                raise StoreError(f"online store {self._name}: view {name!r}: {error}") from error

    def _hash(self, entity: str) -> _Hash:
        fields: list[bytes] = []
        views = [i for i, v in enumerate(self._bundle.views) if v.entity == entity]
        for i in views:
            view = self._bundle.views[i]
            fields.append(f"_ts:{view.name}".encode())
            fields.extend(field_name(view.name, feature) for feature in view.features)
        return _Hash(entity, self._layout.serializers[entity], tuple(fields), tuple(views))


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


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
