"""Mutation tests: would the unit tests notice if the engine's rules or its statistics were other ones?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, target
from windlass.errors import WindlassError

#: Mutants of a full run: about twenty minutes on two cores; the sample is the same every time.
FULL, QUICK = 600, 40

KILLED = 0.9


def measure(options: Options, progress: Progress) -> Part:
    """Kill rates by part of the source; the survivors are in the JSON, each with file, line and change."""
    found = _run(options.repetitions(FULL, QUICK), options, progress)
    part = Part()
    total: Counter[str] = Counter(_family(one["module"]) for one in found["mutants"])
    alive: Counter[str] = Counter(_family(one["module"]) for one in found["survivors"])
    for family, count in total.items():
        killed = 100 * (1 - alive[family] / count)
        part.measurements.append(
            measurement(
                "mutants killed", "windlass", killed, "%", family, mutants=count, survivors=alive[family]
            )
        )
        name = f"mutation: share of mutants killed, {family}"
        part.targets.append(target(name, 1 - alive[family] / count, ">=", KILLED))
    listed = [one["text"] for one in found["survivors"]]
    part.measurements.append(
        measurement("mutants that survive", "windlass", len(listed), "", "", survivors=listed)
    )
    names = list(total)
    shares = [100 * (1 - alive[name] / total[name]) for name in names]
    chart = Chart(
        "Mutants killed", "", "percent", {"windlass": (names, shares)}, kind="bar", bound=100 * KILLED
    )
    part.plots["mutation"] = [chart]
    return part


def _run(count: int, options: Options, progress: Progress) -> dict[str, Any]:
    """In a process of its own: this one may have imported the engine."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.release.mutation",
        str(count),
        str(options.seed),
        str(options.workers),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        text = child.stdout.read()
    if child.returncode:
        raise WindlassError(f"mutation: the process that runs the mutants ended with {child.returncode}")
    progress.say(f"{count} mutants at most")
    found: dict[str, Any] = json.loads(text)
    return found


def _family(module: str) -> str:
    return (
        "statistics" if module.startswith("statistics/") else "next_step (engine, look, checks, strategies)"
    )


def main(count: int, seed: int, workers: int) -> None:
    """Print the mutants and those that survive as one JSON object."""
    from benchmarks.release import mutants

    chosen = mutants.sample(count, seed)
    alive = mutants.survivors(chosen, workers, Progress("mutation"))
    print(
        json.dumps(
            {
                "mutants": [{"module": one.module, "text": str(one)} for one in chosen],
                "survivors": [{"module": one.module, "text": str(one)} for one in alive],
            }
        )
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
