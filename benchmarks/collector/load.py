"""Predictions to send: shaped like those of the flights model, named by their number."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from serving.runtime.payload import cloudevents

MODEL, WIDTH = "synthetic", 30
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "UA", "US", "WN")
ORIGINS = ("EWR", "JFK", "LGA")
BOTH = (cloudevents.REQUEST, cloudevents.RESPONSE)
ORIGIN = cloudevents.Origin(source=f"/bench/models/{MODEL}/versions/1", inference_service=MODEL)
Message = tuple[str, dict[str, str], bytes]


class Records:
    """The same record for the same number, however often it is asked for."""

    def __init__(self, seed: int, started: float) -> None:
        draw = random.Random(seed)
        self._started = started
        self._vectors = [[draw.gauss(0, 20) for _ in range(WIDTH)] for _ in range(997)]

    def __call__(self, number: int) -> dict[str, Any]:
        vector = self._vectors[number % 997]
        return {
            "request_id": f"e{number}",
            "model": MODEL,
            "version": "1",
            # an hour before the start, so that two million of them lie on two days at most
            "at": self._started - 3600 + number / 1000,
            "mirrored": False,
            "answered_by": "model",
            "latency_ms": 1.25,
            "source": "online",
            "entities": {"carrier": CARRIERS[number % 9], "origin": ORIGINS[number % 3]},
            "request": {"distance": vector[0], "sched_minute": number % 1440},
            "features": vector,
            "score": number % 1000 / 1000,
        }


def lines(records: Records, numbers: range) -> Message:
    """Predictions as JSON lines: an event each."""
    body = b"".join(orjson.dumps(records(n)) + b"\n" for n in numbers)
    return "/predictions", {"content-type": "application/x-ndjson"}, body


def batched(records: Records, numbers: range) -> Message:
    """Predictions as a batch of CloudEvents: two events each."""
    events = [event for n in numbers for event in cloudevents.events(records(n), ORIGIN, BOTH)]
    headers, body = cloudevents.batched(events)
    return "/events", dict(headers), body


def binary(records: Records, number: int) -> Iterator[Message]:
    """A prediction as two POSTs in binary mode, as KServe's payload logger sends them."""
    for event in cloudevents.events(records(number), ORIGIN, BOTH):
        headers, body = cloudevents.binary(event)
        yield "/", dict(headers), body


def encoded(message: Message) -> bytes:
    """The bytes of a POST."""
    path, headers, body = message
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nhost: bench\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Client:
    """One kept connection; it is opened again after each failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, message: Message) -> int:
        """The status of the answer.

        Raises:
            OSError: there was none; whether it was taken is not known.
        """
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(encoded(message))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            return int(head[9:12])
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise OSError(str(error)) from error

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def until_taken(
    client: Client, message: Message, *, give_up: Callable[[], bool] = lambda: False
) -> float | None:
    """Send a message until it is acknowledged, as a sender that delivers at least once; the seconds of the last try."""
    while not give_up():
        started = time.perf_counter()
        try:
            if await client.post(message) == 200:
                return time.perf_counter() - started
        except OSError:
            pass
        await asyncio.sleep(0.05)
    return None
