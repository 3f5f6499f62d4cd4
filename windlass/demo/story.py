"""The story that the demo tells, as data: dates, rates, policies and the two sabotaged releases.

Everything random is drawn from the seed here or in `sampling`, so that a second run tells the same story.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from windlass.contract import Workload

FAULT_KINDS = ("permuted_columns", "stale_values", "wrong_unit", "zeroed_view", "shifted_entity")
LATENCY_FAULT_MS = 150


@dataclass(frozen=True)
class Sabotage:
    """A good version rebuilt with a hidden fault in its serving process.

    Attributes:
        at: event time from which it is released, as soon as no other release is live.
        kind: which sort of fault.
        fault: the fault itself, known to the saboteur's process alone.
    """

    at: datetime
    kind: Literal["features", "latency"]
    fault: str


@dataclass(frozen=True)
class Story:
    """One replay.

    Attributes:
        sampled_every: one flight in this many is asked for, in runs; features roll over all of them.
        pipeline_runs: at most this many, the first model included.
        cooldown: event time between two accepted triggers; the first model counts as one.
        pipeline_delay: event time from a trigger to its candidate's release.
        drift_window: event time over which drift is measured.
        trials: search trials of a pipeline run.
        steps: (weight, requests of the candidate) of each canary step.
        pairs: requests scored by both versions and labelled, below which no release is decided.
    """

    seed: int
    sampled_every: int
    pipeline_runs: int
    cooldown: timedelta
    sabotages: tuple[Sabotage, ...]
    trials: int
    steps: tuple[tuple[int, int], ...]
    pairs: int
    trained_from: datetime = datetime(2013, 1, 1, tzinfo=UTC)
    first_until: datetime = datetime(2013, 2, 1, tzinfo=UTC)
    start: datetime = datetime(2013, 2, 1, 6, tzinfo=UTC)
    end: datetime = datetime(2014, 1, 1, tzinfo=UTC)
    pipeline_delay: timedelta = timedelta(days=1)
    drift_window: timedelta = timedelta(days=14)
    drift_every: timedelta = timedelta(days=7)
    control_window: timedelta = timedelta(days=31)
    keep_warm: timedelta = timedelta(days=2)


def make(*, seed: int, fast: bool) -> Story:
    """The full story, or the same one on fewer rows."""
    draw = random.Random(seed)  # noqa: S311 - a story, not a secret
    faults = list(FAULT_KINDS)
    draw.shuffle(faults)
    full = Story(
        seed=seed,
        sampled_every=5,
        pipeline_runs=5,
        cooldown=timedelta(days=44),
        sabotages=(
            Sabotage(datetime(2013, 4, 12, tzinfo=UTC), "features", faults[0]),
            Sabotage(datetime(2013, 6, 1, tzinfo=UTC), "latency", f"delay:{LATENCY_FAULT_MS}"),
        ),
        trials=4,
        steps=((10, 60), (50, 200)),
        pairs=400,
    )
    if not fast:
        return full
    return replace(
        full,
        sampled_every=36,
        # one retraining, in June: a run of the pipeline takes as long as three months of this replay
        pipeline_runs=2,
        cooldown=timedelta(days=130),
        sabotages=(replace(full.sabotages[0], at=datetime(2013, 5, 20, tzinfo=UTC)), full.sabotages[1]),
        trials=3,
        # a seventh of the requests a day: the same weights would keep a release waiting for months
        steps=((25, 30), (50, 60)),
        pairs=150,
    )


def adapted(workload: Workload, told: Story) -> Workload:
    """The workload with the story's pace: its cool-down, and a canary whose steps fit the sampled traffic."""
    release = copy.deepcopy(dict(workload.release))
    release["strategy"]["steps"] = [{"weight": w, "minSamples": n} for w, n in told.steps]
    release["inconclusiveAfter"] = "90d"
    for check in release["checks"]:
        if check["kind"] == "decision":
            check |= {"method": "asymptotic", "minSamples": told.pairs}
    return replace(workload, release=release, retrain=replace(workload.retrain, cooldown=told.cooldown))
