"""Callers: what they ask, what they are answered, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from windlass.contract import Workload
from windlass.drill.orders import Order
from windlass.local.client import Client
from windlass.settings import Settings

LABEL_DELAY_S = 6 * 3600.0


@dataclass(frozen=True)
class Asked:
    """A request and what came back; status 0 is no answer at all."""

    order: Order
    request_id: str
    status: int
    version: str
    body: dict[str, Any]
    seconds: float


def ask(url: str, asked: Sequence[Order], connections: int) -> list[Asked]:
    """POST one request for each order to `url`, so many at a time."""
    base, _, path = url.partition("/v1/")

    async def send() -> list[Asked]:
        client = Client(base, connections=connections)

        async def one(order: Order) -> Asked:
            body = json.dumps({"instances": [order.fields]}).encode()
            answer = await client.post(f"/v1/{path}", body, {"x-windlass-at": repr(order.at)})
            got = json.loads(answer.body) if answer.status == 200 else {}
            name = answer.headers.get("x-request-id", "")
            version = answer.headers.get("x-windlass-version", "")
            return Asked(order, name, answer.status, version, got, answer.seconds)

        try:
            return list(await asyncio.gather(*map(one, asked)))
        finally:
            client.close()

    return asyncio.run(send())


def with_features(
    settings: Settings, workload: Workload, asked: Sequence[Order], send: Callable[[Order], list[Asked]]
) -> list[Asked]:
    """Send requests one after the other, and before each write the features that were known at its time."""
    from windlass.features.stream import OnlineStream

    sent: list[Asked] = []
    with contextlib.closing(OnlineStream(workload, settings)) as stream:
        for order in asked:
            # what happened before it is known, and it is not
            stream.advance(datetime.fromtimestamp(order.at, UTC) - timedelta(microseconds=1))
            sent += send(order)
    return sent


def labels(asked: Sequence[Asked], *, late: bool = False) -> str:
    """The outcomes of the answered requests as JSON lines: known hours after each, or (`late`) after the last."""
    last = max(a.order.at for a in asked)
    lines = [
        json.dumps(
            {
                "request_id": a.request_id,
                "label": int(a.order.returned),
                "at": (last if late else a.order.at) + LABEL_DELAY_S,
            }
        )
        for a in asked
        if a.status == 200
    ]
    return "\n".join(lines) + "\n"
