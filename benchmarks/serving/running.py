"""A server as it runs: started, asked until it answers, its CPU time and memory read, stopped with all it started."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.environments import python_of
from benchmarks.serving.generator import Generator
from benchmarks.serving.lineup import Server
from benchmarks.serving.subject import Subject
from serving.release.envoy.process import free_port
from windlass.errors import WindlassError
from windlass.local import processes

READY_S = 180.0
CONTENDERS = "benchmarks.serving.contenders"


@dataclass
class Running:
    """One server and the ports it was given; `ready_s` is from the start of the process to its first prediction."""

    server: Server
    child: processes.Child
    port: int
    grpc_port: int
    ready_s: float = 0.0

    def port_of(self, format: str) -> int:
        return self.grpc_port if format == "grpc" else self.port

    def tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.child.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise WindlassError(
                f"{self.server.name} ended while it was measured; the end of its log:\n{self.child.tail()}"
            ) from None

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far, to the nanosecond where `times` has hundredths of a second."""
        spent = 0.0
        for process in self.tree():
            with contextlib.suppress(OSError):  # it ended a moment ago
                # the clock of another process, as clock_getcpuclockid(3) numbers it
                spent += time.clock_gettime((~process.pid << 3) | 2)
        return spent

    def memory_mb(self) -> float:
        """Proportional set size of all its processes: shared pages are counted once."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return float(total / 2**20)

    def pause(self) -> None:
        """Let it stand still, so that it takes nothing from the one that is measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and whatever it started."""
        with contextlib.suppress(WindlassError):
            self.resume()
            family = self.tree()
            self.child.stop(20.0)
            # some servers leave their workers behind
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def start(server: Server, subject: Subject, folder: Path, generator: Generator) -> Running:
    """Start a server and wait for its first prediction in its first format, which must be the right one.

    Raises:
        WindlassError: it ended, answered nothing in time, or answered something else.
    """
    scratch = folder / server.name
    scratch.mkdir(parents=True, exist_ok=True)
    port, grpc_port = free_port(), free_port()
    python = python_of(server.environment)
    shared = ["--model", str(subject.onnx.absolute()), "--scratch", str(scratch)]
    command = [str(python), "-m"]
    if server.environment is None:
        command += [
            "serving.runtime",
            "--bundle",
            str(subject.bundle),
            "--log",
            str(scratch / "payload.jsonl"),
        ]
    else:
        command += [f"{CONTENDERS}.{server.module}", *shared]
    command += ["--port", str(port), "--grpc-port", str(grpc_port), *server.options]
    # a program that another one starts by its name is found in the environment, as where it is activated
    environment = {"OMP_NUM_THREADS": "1", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    if server.prepare:
        preparing = [str(python), "-m", f"{CONTENDERS}.{server.prepare}", *shared, "--port", str(port)]
        prepared = processes.start(f"{server.name}-prepare", preparing, scratch / "log", environment)
        if prepared.process.wait():
            raise WindlassError(f"{server.name} cannot be prepared; the end of the log:\n{prepared.tail()}")
    begun = time.monotonic()
    running = Running(
        server, processes.start(server.name, command, scratch / "log", environment), port, grpc_port
    )
    try:
        first = next(iter(server.formats))
        running.ready_s = generator.ready(running, first, READY_S) - begun
        generator.check(running, first, subject)
    except BaseException:
        running.stop()
        raise
    return running


def pin() -> int:
    """Give this process and all that it starts one core, and return the generator's: another one, if there is."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    sys.stderr.write(f"servers on core {cores[0]}, generator on core {cores[-1]}\n")
    return cores[-1]
