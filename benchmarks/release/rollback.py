"""Rollback under load: from the command to the last request that the bad version answers, and who noticed.

A real Envoy, two real model servers and 500 requests a second from a process of its own. Traffic goes back and forth
between two versions, by the function that the command calls and by the whole command, interpreter and all; a few times
the version to go back to is killed before. No engine runs: it is not needed.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, target
from windlass.errors import WindlassError
from windlass.settings import Settings

RATE = 500.0
#: Seconds between two rollbacks: the next one begins in calm.
APART_S = 1.0
LONGEST_S = 1.0
WITHIN_S = 60.0


@dataclass(frozen=True)
class Turn:
    """One rollback: when it was asked for, when the call was back, and from which version it led away.

    Attributes:
        cpu_s: CPU seconds of the commands that were run for it; 0 where it was a call.
    """

    how: str
    asked: float
    done: float
    bad: str
    started: bool
    cpu_s: float


@dataclass(frozen=True)
class Answer:
    """One request: when it was due and when it was answered, on the monotonic clock."""

    due: float
    at: float
    status: int
    version: str


def measure(options: Options, progress: Progress) -> Part:
    """See `benchmarks.release.parts`."""
    with tempfile.TemporaryDirectory(prefix="windlass-rollback-") as name:
        turns, answers = run(Path(name), options, progress)
    return judge(turns, answers)


def run(folder: Path, options: Options, progress: Progress) -> tuple[list[Turn], list[Answer]]:
    """Serve, load, and roll back again and again."""
    from benchmarks.serving import subject
    from benchmarks.serving.contenders.classifier import NAME
    from components import bundle, signing
    from serving.release.people.operations import rollback
    from windlass.clock import SystemClock
    from windlass.local.plane import DataPlane
    from windlass.local.platform import Platform

    settings = Settings(home=folder / "home", project=folder)
    progress.say("training the model")
    made = subject.make(_made(folder / "made"))
    for version in ("1", "2"):
        bundle.publish(settings.bundles_dir, NAME, version, made.bundle, signing.keys(settings))
    body = folder / "body.json"
    body.write_text(json.dumps({"instances": [{f"f{i}": 0.1 * i for i in range(subject.FEATURES)}]}))
    plane = DataPlane(settings)

    def called(to: str) -> bool:
        return bool(rollback(settings, NAME, to, SystemClock(), plane)["started"])

    def typed(to: str) -> bool:
        command = [sys.executable, "-m", "windlass", "release", "rollback", NAME, "--to", to, "--json"]
        environment = {**os.environ, "WINDLASS_HOME": str(settings.home), "WINDLASS_PROJECT": str(folder)}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if said.returncode:
            raise WindlassError(f"`windlass release rollback` failed: {said.stderr}")
        return bool(json.loads(said.stdout)["started"])

    def after_a_death(to: str) -> bool:
        child = plane.records.find(f"server-{NAME}@{to}")
        if child is not None:
            child.process.kill()
            child.process.wait()
        return called(to)

    plan: list[tuple[str, Callable[[str], bool]]] = [
        *[("function", called)] * options.repetitions(40, 4),
        *[("command", typed)] * options.repetitions(40, 4),
        *[("server dead", after_a_death)] * options.repetitions(6, 1),
    ]
    turns: list[Turn] = []
    platform = Platform(settings, lasting=True)
    try:
        platform.start()
        for version in ("1", "2"):
            platform.serve(NAME, version)
        platform.envoy.set_weights(NAME, {"1": 100})
        # the engine is gone, what serves goes on
        platform.leave()
        load = _load(platform.envoy.url, f"/v1/models/{NAME}:predict", body, folder)
        try:
            for number, (how, roll) in enumerate(plan):
                time.sleep(APART_S)
                bad, good = ("1", "2") if number % 2 == 0 else ("2", "1")
                spent, asked = _children_cpu_s(), time.monotonic()
                started = roll(good)
                done = time.monotonic()
                turns.append(Turn(how, asked, done, bad, started, _children_cpu_s() - spent))
                progress(number + 1, len(plan), how)
            time.sleep(APART_S)
        finally:
            load.send_signal(signal.SIGTERM)
            load.wait(WITHIN_S)
    finally:
        plane.end()
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    return turns, [Answer(*row) for row in rows]


def judge(turns: Sequence[Turn], answers: Sequence[Answer]) -> Part:
    """The figures of what was seen."""
    part = Part()
    lasted: dict[str, list[float]] = {}
    for number, turn in enumerate(turns):
        until = turns[number + 1].asked if number + 1 < len(turns) else math.inf
        lasted.setdefault(turn.how, []).append(last_of(turn, until, answers))
    for how, seconds in lasted.items():
        case = CASES[how]
        for name, value in (
            ("median", statistics.median(seconds)),
            ("p99", percentile(seconds, 0.99)),
            ("longest", max(seconds)),
        ):
            row = measurement(
                "rollback to the last answer of the bad version", name, value, "s", case, n=len(seconds)
            )
            part.measurements.append(row)
    failed = sum(answer.status != 200 for answer in answers)
    ends = [answer.due for answer in answers]
    rate = len(answers) / (max(ends) - min(ends)) if len(ends) > 1 else None
    spent = [turn.cpu_s for turn in turns if turn.how == "command"]
    part.measurements += [
        measurement("CPU of the whole command", "median", statistics.median(spent), "s", CASES["command"]),
        measurement("requests", "windlass", len(answers), "", "sent"),
        measurement("requests", "windlass", failed, "", "failed"),
        measurement("requests", "windlass", rate, "", "a second"),
    ]
    for how in ("function", "command"):
        worst = percentile(lasted[how], 0.99) if how in lasted else None
        part.targets.append(target(f"rollback, {CASES[how]}: p99 in s", worst, "<", LONGEST_S))
    part.targets.append(target("rollback: failed requests", failed if answers else None, "==", 0))
    part.targets.append(target("rollback: requests a second offered", rate, ">=", 0.95 * RATE))
    part.plots["rollback"] = [
        Chart(
            title="From the command to the bad version's last answer",
            x="share of the rollbacks",
            y="seconds",
            series={
                f"windlass, {CASES[how]}": (
                    [(i + 1) / len(seconds) for i in range(len(seconds))],
                    sorted(seconds),
                )
                for how, seconds in lasted.items()
            },
            kind="step",
            bound=LONGEST_S,
            log="y",
        )
    ]
    return part


CASES = {
    "function": "the function, server warm",
    "command": "the whole command, server warm",
    "server dead": "the function, server killed before",
}


def last_of(turn: Turn, until: float, answers: Sequence[Answer]) -> float:
    """Seconds from the command to the last answer of the bad version before the next command.

    A turn whose bad version answered nothing any more counts as the shortest time that can be told: until the first
    answer after it.
    """
    after = [answer for answer in answers if turn.asked <= answer.at < until]
    bad = [answer.at for answer in after if answer.version == turn.bad]
    return (max(bad) if bad else min(answer.at for answer in after)) - turn.asked


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _load(url: str, path: str, body: Path, folder: Path) -> subprocess.Popen[bytes]:
    words = ["-m", "benchmarks.release.rollback_load", url, path, str(body), str(RATE)]
    return subprocess.Popen([sys.executable, *words, str(folder / "answers.jsonl")])


def _made(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
