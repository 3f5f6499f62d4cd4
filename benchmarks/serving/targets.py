"""What the serving benchmark holds our runtime to: one table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.report import judged
from benchmarks.serving.lineup import FEAST, REDIS, SQLITE
from benchmarks.serving.results import Load, Results

ONE, BATCH = Load(1, 16), Load(32, 16)
PEERS_GRPC = ("KServe gRPC", "MLServer gRPC")


@dataclass(frozen=True)
class Target:
    """A bound on a value; `value` is None where the part was not run."""

    name: str
    op: str
    bound: float
    value: Callable[[Results], float | None]

    def judge(self, results: Results) -> dict[str, Any]:
        """In the form of the report; `holds` is null where nothing was measured."""
        return judged(self.name, self.value(results), self.op, self.bound)


def versus(
    theirs: str, what: str = "cpu_s", load: Load = ONE, ours: str = "Windlass V2"
) -> Callable[[Results], float | None]:
    """Our value over theirs, within each round."""
    return lambda results: results.ratio(what, (ours, load), (theirs, load))


def median(contender: str, what: str) -> Callable[[Results], float | None]:
    """A value of one contender."""

    def value(results: Results) -> float | None:
        found = results.values(contender, ONE, what)
        return statistics.median(found) if found else None

    return value


def figure(name: str) -> Callable[[Results], float | None]:
    """A value that a part has noted."""
    return lambda results: results.figures.get(name)


def best_peer_grpc(results: Results) -> float | None:
    """Our CPU over that of the cheapest Python peer."""
    found = [versus(peer, ours="Windlass gRPC")(results) for peer in PEERS_GRPC]
    return max((ratio for ratio in found if ratio is not None), default=None)


TARGETS = (
    Target("CPU of one row, ours / KServe V2", "<=", 1 / 6, versus("KServe V2")),
    Target("CPU of one row, ours / MLServer V2", "<=", 1 / 6, versus("MLServer V2")),
    Target("CPU of one row, ours / minimal ASGI app", "<=", 1.0, versus("minimal ASGI app")),
    Target("CPU of one row, ours / minimal ASGI app (aim)", "<=", 0.5, versus("minimal ASGI app")),
    Target("p99 of one row, ours / KServe V2", "<", 1 / 3, versus("KServe V2", "p99_ms")),
    Target("CPU of 32 rows, ours / KServe V1", "<=", 0.5, versus("KServe V1", load=BATCH)),
    Target("CPU over gRPC, ours / bare grpc.aio", "<=", 1.15, versus("bare grpc.aio", ours="Windlass gRPC")),
    Target("CPU over gRPC, ours / cheapest Python peer", "<", 1.0, best_peer_grpc),
    Target("time to ready, s", "<", 3.0, figure("windlass: time to ready")),
    Target("with redis: requests/s, ours / KServe transformer", ">=", 8.0, versus(FEAST, "rate", ours=REDIS)),
    Target("with redis: p99, ms", "<", 5.0, median(REDIS, "p99_ms")),
    Target("with sqlite: CPU s per 1,000 requests", "<=", 0.5, median(SQLITE, "cpu_s")),
    Target("store stopped: requests not answered with 200", "<=", 0, figure("store stopped: failed")),
    Target("store hanging: requests not answered with 200", "<=", 0, figure("store hanging: failed")),
    Target("store garbage: requests not answered with 200", "<=", 0, figure("store garbage: failed")),
    Target("2x load, 1 ms model: goodput / peak", ">=", 0.9, figure("slow model: goodput of the peak")),
    Target("2x load, 1 ms model: p99 of a 503 / of an answer", "<", 1.0, figure("slow model: 503 p99 of answer p99")),
    Target("2x load, 1 ms model: memory after / before", "<=", 1.25, figure("slow model: memory growth")),
    Target("2x load, small model: memory after / before", "<=", 1.25, figure("small model: memory growth")),
)  # fmt: skip
