"""What a payload log costs the server, per record of 30 features.

First what a request pays, CPU of the event loop's thread alone: the JSON of a record is the baseline, and below it
nothing can go that writes all of its numbers. Then what the whole process pays until the records are where they
belong: JSON lines are the baseline of CloudEvents (one a POST, and in batches; the receiver is another process) and
of parquet. Contenders take turns in rounds; only ratios of one run mean anything:

    python benchmarks/serving/payload.py [--records N] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from serving.runtime.payload.queue import OPTIONS, RecordQueue
from serving.runtime.payload.sink import open_sink

FEATURES = 30
TURN = 16  # records of one turn of the event loop


@dataclass(frozen=True)
class Contender:
    """One way to log.

    Attributes:
        run: logs a number of records; returns the CPU seconds that it took.
        cost: CPU microseconds a record, one for each round.
    """

    name: str
    baseline: str
    run: Callable[[int], float]
    cost: list[float] = field(default_factory=list)


def records(vectors: Any) -> list[dict[str, Any]]:
    return [
        {
            "request_id": f"0f8fad5b-d9cb-469f-a165-{i:012}",
            "model": "flights",
            "version": "1",
            "at": 1_360_000_000.25 + i / 1000,
            "entities": {"carrier": "AA", "origin": "JFK"},
            "request": {"distance": 1400.0, "hour": 12},
            "features": vector,
            "score": 0.123456789,
            "latency_ms": 0.1234,
            "source": "online",
            "mirrored": False,
        }
        for i, vector in enumerate(vectors)
    ]


def on_the_loop(log: Callable[[], Any], made: int) -> Callable[[int], float]:
    """CPU of this thread, of calls that log `made` records each."""

    def run(count: int) -> float:
        begun = time.thread_time()
        for _ in range(count // made):
            log()
        return time.thread_time() - begun

    return run


def to_the_end(address: str, some: list[dict[str, Any]]) -> Callable[[int], float]:
    """CPU of the whole process until the last record was written."""

    def run(count: int) -> float:
        begun = time.process_time()
        sink = open_sink(address, model="flights", version="1")
        for _ in range(count // TURN):
            while sink.counts.queued_bytes > 8 * 1024 * 1024:
                time.sleep(0.001)
            sink.append_many(some)
        while sink.counts.queued_bytes and not address.startswith("parquet:"):
            time.sleep(0.001)
        sink.close()
        spent = time.process_time() - begun
        if sink.counts.written != count // TURN * TURN:
            raise SystemExit(f"{address}: {sink.counts}")
        return spent

    return run


class Accept(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.wfile.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")


def receive(port: Connection) -> None:
    server = HTTPServer(("127.0.0.1", 0), Accept)
    port.send(server.server_port)
    server.serve_forever()


def measure(folder: Path, port: int, count: int, rounds: int) -> list[Contender]:
    doubles = np.random.default_rng(0).normal(size=(TURN, FEATURES))
    lists, singles = records(doubles.tolist()), records(doubles.astype(np.float32))
    sinks: list[RecordQueue] = []

    def log() -> RecordQueue:
        sink = open_sink(str(folder / f"{len(sinks)}.jsonl"), model="flights", version="1")
        sinks.append(sink)
        return sink

    one, turn, rows = log(), log(), log()
    encoding, lines = "JSON of the record", "JSON lines"
    receiver = f"http://127.0.0.1:{port}/"
    contenders = [
        Contender(encoding, encoding, on_the_loop(lambda: orjson.dumps(lists[0], None, OPTIONS), 1)),
        Contender("append", encoding, on_the_loop(lambda: one.append(lists[0]), 1)),
        Contender(f"append_many of {TURN}", encoding, on_the_loop(lambda: turn.append_many(lists), TURN)),
        Contender(
            f"append_many of {TURN}, float32", encoding, on_the_loop(lambda: rows.append_many(singles), TURN)
        ),
        Contender(lines, lines, to_the_end(str(folder / "end.jsonl"), lists)),
        Contender("parquet", lines, to_the_end(f"parquet:{folder / 'parquet'}", lists)),
        Contender("CloudEvents, 200 a POST", lines, to_the_end(f"{receiver}#batch=200", lists)),
        Contender("CloudEvents, one a POST", lines, to_the_end(receiver, lists)),
    ]
    for contender in contenders:
        contender.run(TURN * 10)
    for _ in range(rounds):
        for contender in contenders:
            contender.cost.append(contender.run(count) * 1e6 / count)
    for sink in sinks:
        sink.close()
    return contenders


def report(contenders: list[Contender]) -> dict[str, Any]:
    costs = {c.name: c.cost for c in contenders}
    measurements = []
    for c in contenders:
        # a ratio within each round: what slows the machine down slows both sides of it
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(c.cost, costs[c.baseline], strict=True)
        )
        for name, value, unit in (
            ("cpu per record", statistics.median(c.cost), "us"),
            (f"ratio to {c.baseline}", ratio, "1"),
        ):
            measurements.append({"name": name, "contender": c.name, "value": round(value, 3), "unit": unit})
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }
    return {"bench": "payload-log", "machine": machine, "measurements": measurements}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=3200, help="records of a contender in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = report(measure(Path(folder), ours.recv(), arguments.records, arguments.rounds))
    finally:
        receiver.terminate()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{'':34}{'CPU us per record':>18}{'ratio':>8}")
    values = [m["value"] for m in result["measurements"]]
    names = list(dict.fromkeys(m["contender"] for m in result["measurements"]))
    for name, cost, ratio in zip(names, values[::2], values[1::2], strict=True):
        print(f"{name:34}{cost:18.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
