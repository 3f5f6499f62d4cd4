"""Reading Feast's redis online store: all rows of an event-loop turn in one write and one round trip.

Two rows with the same key ask once; a row that cannot be read costs no other row its answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from serving.runtime.bundle import Bundle
from serving.runtime.features import redis_address
from serving.runtime.features.reader import BUDGET_S, Layout, RowError, RowsDone, StoreError
from serving.runtime.features.redis_hash import EntityHash, Stored
from windlass.errors import UsageError

Asked = list[list[int | RowError]]
"""For each entity's hash and each row, the number of its command, or why there is none."""


class RedisReader:
    """Reads rows over one connection, opened by `warm` or the first read and again after a failure.

    Args:
        url: see `redis_address.FORMS`.
        budget_s: how long the answer to one `read` may take; `begin` is told with each call.

    Raises:
        UsageError: the package hiredis is not installed, or the address is not understood.
    """

    def __init__(self, url: str, bundle: Bundle, *, budget_s: float = BUDGET_S) -> None:
        try:
            from serving.runtime.features.redis_blocking import BlockingConnection
            from serving.runtime.features.redis_connection import RedisConnection
        except ModuleNotFoundError as error:
            raise UsageError(
                f"a redis online store needs the package {error.name}; install windlass[redis]"
            ) from None
        address = redis_address.parse(url)
        layout = Layout.of(bundle)
        entities = dict.fromkeys(v.entity for v in bundle.views)
        self._hashes = [EntityHash(bundle, layout, entity, address.name) for entity in entities]
        self._missing = [math.nan] * layout.width
        self._budget_s = budget_s
        self._connection = RedisConnection(address)
        self._blocking = BlockingConnection(address)

    def begin(
        self, rows: Sequence[Mapping[str, str]], nows: Sequence[float], budget_s: float, done: RowsDone
    ) -> None:
        """See `BatchReader.begin`."""
        payload, commands, asked = self._pack(rows)

        def decode(outcome: list[Any] | StoreError) -> None:
            if isinstance(outcome, StoreError):
                done(outcome)
                return
            try:
                answers = self._decode(outcome, asked, nows)
            except StoreError as error:
                done(error)
            else:
                done(answers)

        if commands:
            self._connection.ask(payload, commands, budget_s, decode)
        else:
            decode([])

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        """See `FeatureReader.read`; this one blocks, over a connection of its own."""
        payload, commands, asked = self._pack([entities])
        replies = self._blocking.ask(payload, commands, self._budget_s) if commands else []
        (answer,) = self._decode(replies, asked, [now])
        if isinstance(answer, RowError):
            raise answer
        return answer

    async def warm(self) -> None:
        """See `BatchReader.warm`."""
        if self._hashes:
            await self._connection.open()

    def close(self) -> None:
        """Give back the connections; the next read opens another."""
        self._connection.close()
        self._blocking.close()

    def _pack(self, rows: Sequence[Mapping[str, str]]) -> tuple[bytes, int, Asked]:
        commands: list[bytes] = []
        asked: Asked = []
        for stored in self._hashes:
            numbers: dict[str, int | RowError] = {}
            entity = stored.entity
            for row in rows:
                key = row[entity]
                if key not in numbers:
                    try:
                        commands.append(stored.command(key))
                        numbers[key] = len(commands) - 1
                    except ValueError as error:
                        numbers[key] = RowError(f"entity {entity!r}: {error}")
            asked.append([numbers[row[entity]] for row in rows])
        return b"".join(commands), len(commands), asked

    def _decode(
        self, replies: Sequence[Any], asked: Asked, nows: Sequence[float]
    ) -> list[list[float] | RowError]:
        known: dict[int | RowError, Stored | RowError] = {}
        of_hashes = []
        for stored, numbers in zip(self._hashes, asked, strict=True):
            for number in numbers:
                if number not in known:
                    known[number] = number if isinstance(number, RowError) else stored.decode(replies[number])
            of_hashes.append([known[number] for number in numbers])
        return [self._row(found, now) for now, *found in zip(nows, *of_hashes, strict=True)]

    def _row(self, found: Sequence[Stored | RowError], now: float) -> list[float] | RowError:
        values = self._missing.copy()
        for stored, content in zip(self._hashes, found, strict=True):
            if isinstance(content, RowError):
                return content
            if now <= content.first:
                for start, end, first, last in stored.runs:
                    values[start:end] = content.values[first:last]
                continue
            for (start, end, first, last), expires in zip(stored.places, content.expires, strict=True):
                if now <= expires:
                    values[start:end] = content.values[first:last]
        return values
