"""The simulator's campaign: seeds under faults, and bugs planted into the engine's source."""

from __future__ import annotations

import time

from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, target
from serving.release.simulation import campaign
from serving.release.simulation.planted import BUGS

FULL, QUICK = 10_000, 100


def measure(options: Options, progress: Progress) -> Part:
    """`windlass sim --seeds 10000`."""
    seeds = options.repetitions(FULL, QUICK)
    begun = time.perf_counter()
    found = campaign.run(0, seeds, options.workers, progress)
    seconds = time.perf_counter() - begun
    bugs = BUGS[:6] if options.quick else BUGS
    hunts = campaign.catch(bugs, 0, campaign.CAP, options.workers, progress)
    document = campaign.report(found, 0, hunts, seconds)
    part = Part()
    for name, value, unit in (
        ("seeds", seeds, ""),
        ("violations", document["violations"], ""),
        ("faults injected", document["faults_injected"], ""),
        ("kinds of fault", document["fault_kinds"], ""),
        ("decisions", document["decisions"], ""),
        ("time of 1,000 seeds", 1000 * seconds / seeds, "s"),
        ("planted bugs", len(hunts), ""),
        ("planted bugs caught", document["caught"], ""),
    ):
        part.measurements.append(measurement(name, "windlass", value, unit))
    part.measurements[-1]["missed"] = document["missed"]
    part.measurements[1]["list"] = document["violation_list"]
    part.measurements[1]["promises_broken"] = document["promises_broken"]
    part.targets = [
        target("sim: invariant violations", document["violations"], "==", 0),
        target("sim: kinds of fault", document["fault_kinds"], ">=", 12),
        target("sim: good candidates promoted once faults cease", document["good_promoted"], ">=", 0.99),
        target("sim: harmful candidates rolled back", document["harmful_rolled_back"], "==", 1),
        target("sim: planted bugs", len(hunts), ">=", 40),
        target("sim: planted bugs caught", document["caught"], ">=", 38),
    ]
    needed = sorted(one.seeds for one in hunts if one.caught)
    share = [100 * (place + 1) / len(hunts) for place in range(len(needed))]
    part.plots["sim"] = [
        Chart(
            "Planted bugs caught", "seeds simulated", "percent", {"windlass": (needed, share)}, kind="step"
        ),
        Chart(
            "Faults injected",
            "",
            "times",
            {"windlass": (list(document["faults"]), list(document["faults"].values()))},
            kind="bar",
        ),
    ]
    return part
