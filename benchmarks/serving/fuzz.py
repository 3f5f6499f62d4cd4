"""`python -m benchmarks.serving.fuzz`: mutated requests, each of which is refused as it should be, or answered.

A mutation is a function of a seeded random source and says itself what must come of it, so that every violation can be
had again: the same seed gives the same requests. Connections that stand beside must not notice anything, and memory and
open files return to their level.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from benchmarks.serving import (
    fuzz_documents,
    fuzz_entities,
    fuzz_grpc,
    fuzz_repository,
    fuzz_subject,
    fuzz_tensors,
    fuzz_wire,
)
from benchmarks.serving.fuzz_client import Bystanders, Connection, exchange
from benchmarks.serving.fuzz_subject import Target

MEMORY_MB = 32.0
"""How far resident memory may be from where it was after the warm-up: caches of headers, and what malloc keeps."""
WARM_UP = 0.05
ASK_EVERY = 10
MOST_SHOWN = 25
COSTLY = frozenset(("too large", "gRPC too large"))
"""Megabytes each, and gRPC's own client takes a tenth of a second to learn of its refusal."""
SHARE_OF_COSTLY = 0.1
SETTLE_S = 20.0

HTTP = {
    name: mutation
    for family in (fuzz_documents, fuzz_entities, fuzz_wire, fuzz_repository, fuzz_tensors)
    for name, mutation in family.MUTATIONS.items()
}


@dataclass
class Report:
    """What was sent and what came of it.

    Attributes:
        requests: mutated ones; a pipeline counts as one, and what bystanders ask not at all.
        counts: responses by mutation and status.
        memory_mb: resident, after the warm-up and at the end.
        files: open files of the server, before the first request and at the end.
    """

    seed: int
    requests: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    memory_mb: tuple[float, float] = (0.0, 0.0)
    files: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    def add(self, name: str, at: str, statuses: Sequence[object], problems: Sequence[str]) -> None:
        """Note what came of one case."""
        self.counts.setdefault(name, Counter()).update(str(s) for s in statuses or ("-",))
        self.violations += [f"{name} ({at}): {problem}" for problem in problems]


def run(target: Target, requests: int, seed: int) -> Report:
    """Fuzz a server that stands; `requests` are sent after the warm-up."""
    server = psutil.Process(target.child.pid)
    files = server.num_fds()
    warming = Report(seed)
    _round(target, max(200, int(requests * WARM_UP)), f"{seed}/warm", warming)
    memory_mb = server.memory_info().rss / 2**20
    report = Report(seed, violations=warming.violations)
    begun = time.monotonic()
    _round(target, requests, str(seed), report)
    report.seconds = time.monotonic() - begun
    report.memory_mb = (memory_mb, server.memory_info().rss / 2**20)
    report.files = (files, _settled(server, files))
    if report.memory_mb[1] - memory_mb > MEMORY_MB:
        report.violations.append(f"memory grew from {memory_mb:.0f} to {report.memory_mb[1]:.0f} MB")
    if report.files[1] > files:
        report.violations.append(f"open files grew from {files} to {report.files[1]}")
    return report


def _round(target: Target, requests: int, seed: str, report: Report) -> None:
    connection = Connection(target.port)
    beside = Bystanders(target.port, Random(f"{seed}/beside"), idle=200, unfinished=32, slow=8)
    grpc = fuzz_grpc.Client(target.grpc_port)
    names = [*HTTP, *fuzz_grpc.MUTATIONS]
    done = 0
    while done < requests:
        at = f"{seed}/{done}"
        random = Random(at)
        name = random.choice(names)
        if name in COSTLY and random.random() > SHARE_OF_COSTLY:
            name = random.choice(names)
        if name in HTTP:
            report.add(name, at, *exchange(connection, HTTP[name](random)))
        else:
            report.add(name, at, *grpc.exchange(fuzz_grpc.MUTATIONS[name](random)))
        if done % ASK_EVERY == 0:
            report.add("bystanders", at, (200,), beside.ask() + grpc.ask())
        done += 1
    report.requests = done
    report.add("bystanders", "at the end", (200,), beside.leave())
    connection.close()
    grpc.close()


def _settled(server: psutil.Process, files: int) -> int:
    """Open files, once those of the connections that ended are closed: some linger, so that a refusal is read."""
    deadline = time.monotonic() + SETTLE_S
    while (count := int(server.num_fds())) > files and time.monotonic() < deadline:
        time.sleep(0.02)
    return count


def text_of(report: Report) -> str:
    """The report for a reader."""
    lines = [f"{'mutation':<22} responses by status"]
    for name, counts in sorted(report.counts.items()):
        lines.append(f"{name:<22} " + ", ".join(f"{status}: {n}" for status, n in sorted(counts.items())))
    before, after = report.memory_mb
    lines += [
        "",
        f"{report.requests} requests, seed {report.seed}, {report.seconds:.0f} s; resident memory {before:.1f} MB "
        f"before and {after:.1f} MB after (may grow by {MEMORY_MB:.0f}); open files {report.files[0]} and "
        f"{report.files[1]}",
        f"{len(report.violations)} violations",
        *report.violations[:MOST_SHOWN],
    ]
    return "\n".join(lines)


def document_of(report: Report) -> dict[str, object]:
    """The report for a program."""
    return {
        "requests": report.requests,
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "responses": {name: dict(counts) for name, counts in sorted(report.counts.items())},
        "memory_mb": {"before": report.memory_mb[0], "after": report.memory_mb[1], "may_grow": MEMORY_MB},
        "files": {"before": report.files[0], "after": report.files[1]},
        "violations": report.violations,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code is 1 where anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, metavar="N", help="default 100000")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same one gives the same requests"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    told = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="windlass-fuzz-") as name:
        target = fuzz_subject.start_all(Path(name))
        try:
            report = run(target, told.requests, told.seed)
        finally:
            target.child.stop()
        if "Traceback" in target.child.log.read_text():
            report.violations.append(f"the server's log holds a traceback:\n{target.child.tail(30)}")
    print(json.dumps(document_of(report), indent=2) if told.json else text_of(report))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
