"""Twice the saturating load: what a server still gets done, and what becomes of the rest.

The load is open: it comes by a schedule, whether answers come or not. With f the CPU cost of a refusal over that of an
answer, a server that spends all its time on both can answer (1-2f)/(1-f) of its peak at twice the load: of g answers
and 2-g refusals a second, in units of the peak, g + f(2-g) = 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving import running
from benchmarks.serving.generator import Generator
from benchmarks.serving.lineup import OURS, chosen
from benchmarks.serving.results import Results
from benchmarks.serving.running import Running
from benchmarks.serving.subject import Subject

# the peak is the best of them: many callers whom the server sheds ask again at once, and spend what answers would have
SATURATING = (16, 64, 128, 256)
CONNECTIONS = 2048
FORMAT = "v2"
UNITS = {
    "peak": "1/s",
    "offered of the peak": "1",
    "goodput of the peak": "1",
    "goodput that refusals allow": "1",
    "cost of a refusal of an answer's": "1",
    "share of 503": "1",
    "other answers": "requests",
    "answer p99": "ms",
    "503 p99": "ms",
    "503 p99 from sending": "ms",
    "503 p99 of answer p99": "1",
    "memory before": "MB",
    "memory after": "MB",
    "memory growth": "1",
}


def measure(
    models: dict[str, Subject],
    folder: Path,
    generator: Generator,
    repeats: int,
    seconds: float,
    results: Results,
) -> None:
    """Overload our runtime with each of `models` and take down what it did."""
    (server,) = chosen([OURS])
    for name, subject in models.items():
        started = running.start(server, subject, folder / name, generator)
        try:
            found = [once(started, generator, seconds, name) for _ in range(repeats)]
        finally:
            started.stop()
        take_down(results, name, found)


def once(started: Running, generator: Generator, seconds: float, name: str) -> dict[str, float]:
    """The peak, then twice as much."""
    rate = answer_s = 0.0
    for concurrency in SATURATING:
        before_cpu = started.cpu_s()
        peak = generator.closed(started, FORMAT, 1, concurrency, sys.maxsize, seconds / 2)
        answered = peak["statuses"].get("200", 0)
        if answered / peak["seconds"] > rate:
            rate = answered / peak["seconds"]
            answer_s = (started.cpu_s() - before_cpu) / answered
    memory, before_cpu = started.memory_mb(), started.cpu_s()
    under = generator.open(started, FORMAT, 1, 2 * rate, seconds, CONNECTIONS)
    spent = started.cpu_s() - before_cpu
    found = judge(rate, answer_s, spent, under) | {
        "memory before": memory,
        "memory after": started.memory_mb(),
        "memory growth": started.memory_mb() / memory,
    }
    sys.stderr.write(
        f"  {name} at twice {rate:.0f}/s: goodput {found['goodput of the peak']:.2f} of the peak\n"
    )
    return found


def judge(rate: float, answer_s: float, spent_s: float, under: dict[str, Any]) -> dict[str, float]:
    """Make figures of one overload.

    Args:
        rate: the peak, answers a second.
        answer_s: CPU seconds of an answer at the peak.
        spent_s: CPU seconds during the overload.
        under: what the open loop saw.
    """
    answers, refusals = under["answers"].get("200", 0), under["answers"].get("503", 0)
    total = sum(under["answers"].values())
    found = {
        "peak": rate,
        "offered of the peak": under["sent"] / under["seconds"] / rate,
        "goodput of the peak": under["statuses"].get("200", 0) / under["seconds"] / rate,
        "share of 503": refusals / total,
        "other answers": float(total - answers - refusals),
        "answer p99": under["latency_ms"]["200"]["p99"],
    }
    if refusals:
        refusal_s = max(0.0, spent_s - answers * answer_s) / refusals
        f = refusal_s / answer_s
        found |= {
            "cost of a refusal of an answer's": f,
            "goodput that refusals allow": max(0.0, (1 - 2 * f) / (1 - f)) if f < 1 else 0.0,
            "503 p99": under["latency_ms"]["503"]["p99"],
            "503 p99 from sending": under["latency_from_sending_ms"]["503"]["p99"],
            "503 p99 of answer p99": under["latency_ms"]["503"]["p99"] / under["latency_ms"]["200"]["p99"],
        }
    return found


def take_down(results: Results, name: str, found: Sequence[dict[str, float]]) -> None:
    """Note each figure that at least one repeat has."""
    for what, unit in UNITS.items():
        if values := [figures[what] for figures in found if what in figures]:
            results.note(what, name, values, unit)
