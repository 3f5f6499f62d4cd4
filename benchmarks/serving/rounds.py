"""The contenders in turns: A, B, C, … and again, each under the same loads."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.serving import environments, running
from benchmarks.serving.generator import Generator
from benchmarks.serving.lineup import Server
from benchmarks.serving.results import Load, Results, Sample
from benchmarks.serving.running import Running
from benchmarks.serving.subject import Subject
from windlass.errors import WindlassError

WARM_REQUESTS = 300
WARM_S = 1.0
MOST_S = 4.0
PATIENCE_S = 10.0


class Rounds:
    """Starts the contenders, measures them round by round, stops them.

    Args:
        plan: the loads of each protocol.
        requests: of one sample; a slow contender gets fewer, as many as it answers in `MOST_S` seconds.
    """

    def __init__(
        self,
        subject: Subject,
        folder: Path,
        generator: Generator,
        plan: dict[str, list[Load]],
        requests: int,
        results: Results,
    ) -> None:
        self._subject = subject
        self._folder = folder
        self._generator = generator
        self._plan = plan
        self._requests = requests
        self._standing: list[Running] = []
        self._ready: defaultdict[str, list[float]] = defaultdict(list)
        self._memory: defaultdict[str, list[float]] = defaultdict(list)
        self.results = results

    def run(self, servers: Sequence[Server], rounds: int) -> None:
        """Measure `servers`; one that cannot take part is noted and never ends the run."""
        asked = [server for server in servers if any(format in self._plan for format in server.formats)]
        restless = [server for server in asked if server.restless]
        try:
            for server in asked:
                if not server.restless and (started := self._start(server)):
                    self._standing.append(started)
            for number in range(rounds):
                sys.stderr.write(f"round {number + 1} of {rounds}\n")
                for load in dict.fromkeys(load for loads in self._plan.values() for load in loads):
                    for standing in list(self._standing):
                        self._measure(standing, [load], number)
                for server in restless:
                    if server.name not in self.results.not_run and (started := self._start(server)):
                        loads = [load for format in server.formats for load in self._plan.get(format, [])]
                        self._measure(started, loads, number)
                        started.stop()
        finally:
            for standing in self._standing:
                standing.stop()
        for name, values in self._ready.items():
            self.results.note("time to ready", name, values, "s")
        for name, values in self._memory.items():
            self.results.note("memory", name, values, "MB")

    def _start(self, server: Server) -> Running | None:
        sys.stderr.write(f"  starting {server.name}\n")
        try:
            if server.environment:
                environments.make(server.environment)
            started = running.start(server, self._subject, self._folder, self._generator)
        except WindlassError as error:
            self._give_up(server.name, error)
            return None
        self._drop_silent(started)
        started.pause()
        self._ready[server.name].append(started.ready_s)
        return started

    def _drop_silent(self, started: Running) -> None:
        """Go on without the protocols that the server does not answer in."""
        for format, contender in list(started.server.formats.items()):
            try:
                self._generator.ready(started, format, PATIENCE_S)
                self._generator.check(started, format, self._subject)
            except WindlassError as error:
                self._give_up(contender, error)
                rest = {f: c for f, c in started.server.formats.items() if f != format}
                started.server = replace(started.server, formats=rest)

    def _measure(self, asked: Running, loads: Sequence[Load], number: int) -> None:
        server = asked.server
        try:
            asked.resume()
            for format, contender in server.formats.items():
                for load in loads:
                    if load in self._plan.get(format, []):
                        self.results.add(contender, load, number, self._sample(asked, format, load))
            self._memory[server.name].append(asked.memory_mb())
            asked.pause()
        except WindlassError as error:
            self._give_up(server.name, error)
            asked.stop()
            if asked in self._standing:
                self._standing.remove(asked)

    def _sample(self, asked: Running, format: str, load: Load) -> Sample:
        shape = (asked, format, load.rows, load.concurrency)
        self._generator.closed(*shape, WARM_REQUESTS, WARM_S)
        before = asked.cpu_s()
        found = self._generator.closed(*shape, self._requests, MOST_S)
        spent = asked.cpu_s() - before
        answers = sum(found["statuses"].values())
        if not found["statuses"].get("200"):
            raise WindlassError(f"{asked.server.name} answered no request under {load}: {found['statuses']}")
        sample = Sample(
            rate=answers / found["seconds"],
            p50_ms=found["latency_ms"]["p50"],
            p99_ms=found["latency_ms"]["p99"],
            cpu_s=spent / answers * 1000,
            failed=answers - found["statuses"]["200"],
        )
        sys.stderr.write(
            f"  {asked.server.formats[format]:32} {load!s:24} {sample.rate:8.0f}/s  p99 {sample.p99_ms:7.2f} ms  "
            f"CPU {sample.cpu_s:6.3f} s per 1,000\n"
        )
        return sample

    def _give_up(self, name: str, error: WindlassError) -> None:
        sys.stderr.write(f"  {name} is not run: {error}\n")
        self.results.not_run[name] = str(error)
