"""Real parts for the tests of the feature path: bundles, a redis of their own, and servers that play one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis_server
import uvloop

from serving.runtime import bundle
from serving.runtime.features import entity_key
from serving.runtime.features.redis_hash import field_name

NOW = 1_360_000_000.0
DAY = 86_400
VIEWS = [
    {
        "name": "carrier_delays",
        "entity": "carrier",
        "ttl_seconds": DAY,
        "features": ["delay_1h", "late_share"],
    },
    {"name": "origin_load", "entity": "origin", "ttl_seconds": DAY, "features": ["departures"]},
]
DEFAULTS = {"delay_1h": 4.5, "late_share": 0.25, "departures": 12.0}

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def write_bundle(folder: Path, **changes: Any) -> bundle.Bundle:
    """Load a bundle of `VIEWS` whose model is never run; any key of its document may be replaced."""
    folder.mkdir(exist_ok=True)
    files: Mapping[str, bytes] = {"model.onnx": b"none", **changes.pop("files", {})}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    views = changes.get("views", VIEWS)
    document: dict[str, Any] = {
        "format_version": 1,
        "model": "flights",
        "version": "1",
        "model_file": "model.onnx",
        "model_format": "onnx",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "feature_service": "flights_v1",
        "feast_project": "windlass",
        "entities": list(dict.fromkeys(v["entity"] for v in views)),
        "inputs": [
            {"name": f, "view": v["name"], "default": DEFAULTS.get(f)} for v in views for f in v["features"]
        ],
        "output": "probability",
        "views": views,
        **changes,
    }
    (folder / "serving.json").write_text(json.dumps(document))
    return bundle.load(folder)


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., bundle.Bundle]:
    return lambda **changes: write_bundle(tmp_path / "bundle", **changes)


@pytest.fixture
def described(make_bundle: Callable[..., bundle.Bundle]) -> bundle.Bundle:
    return make_bundle()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server.running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on the standard library's event loop and on the server's."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def start(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return start


def double(value: float) -> bytes:
    """Feast's stored form of a double."""
    return b"\x29" + struct.pack("<d", value)


def stamp(at: float) -> bytes:
    """Feast's stored form of an event time, in whole seconds."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return bytes(Timestamp(seconds=int(at)).SerializeToString())


def store(url: str, view: str, entity: str, key: str, values: Mapping[str, bytes], at: float = NOW) -> None:
    """Write a row as Feast does (another test holds the reader to what Feast itself writes)."""
    import redis

    fields = {field_name(view, name): raw for name, raw in values.items()}
    with redis.Redis.from_url(url) as client:
        raw_key = entity_key.serialize([(entity, "string", key)]) + b"windlass"
        client.hset(raw_key, mapping={f"_ts:{view}".encode(): stamp(at), **fields})


def reply(values: Sequence[bytes | None]) -> bytes:
    """An HMGET's reply on the wire."""
    parts = [b"*%d\r\n" % len(values)]
    parts += [b"$-1\r\n" if v is None else b"$%d\r\n%s\r\n" % (len(v), v) for v in values]
    return b"".join(parts)


async def command(reader: asyncio.StreamReader) -> list[bytes]:
    """Read one command off the wire."""
    count = int((await reader.readline())[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


@contextlib.asynccontextmanager
async def playing(conversation: Conversation) -> AsyncIterator[str]:
    """A server that plays redis: `conversation` is held on each connection."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with contextlib.suppress(
                asyncio.IncompleteReadError, OSError, ValueError, asyncio.CancelledError
            ):
                await conversation(reader, writer)
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
