"""What a model costs, measured at load: it decides where it runs and whether requests run together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.runtime.engines.engine import Array, Engine

TOGETHER = 16
LEAST_GAIN = 1.15
ENOUGH_S = 0.020
REPEATS = 15
AT_LEAST = 3
"""Runs of a model that is not slow itself: the machine may stall in one of them."""
SLOW_S = 0.250


@dataclass(frozen=True)
class Costs:
    """Seconds of a run.

    Attributes:
        single_s: of one row.
        row_s: of one row among `TOGETHER`.
        batches: whether rows of several requests may and shall run together: it pays, and a row's answer does not
            depend on its neighbours.
    """

    single_s: float
    row_s: float
    batches: bool

    @property
    def gain(self) -> float:
        """How many times cheaper a row is among others."""
        return self.single_s / self.row_s if self.row_s else 1.0


def measure(
    engine: Engine, example: Sequence[Array], clock: Callable[[], float] = time.perf_counter
) -> Costs:
    """Run one row and `TOGETHER` rows a few times; slow models are run less often.

    Args:
        example: one row for each input of the engine.
    """
    many = [np.repeat(a, TOGETHER, axis=0) for a in example]
    single_s, alone = _median(engine, example, clock)
    together_s, answers = _median(engine, many, clock)
    row_s = together_s / TOGETHER
    independent = all(
        len(a) == 1 and len(b) == TOGETHER and all(_same(a[0], b[i]) for i in (0, TOGETHER - 1))
        for a, b in zip(alone, answers, strict=True)
    )
    return Costs(single_s, row_s, batches=independent and single_s >= LEAST_GAIN * row_s)


def _median(
    engine: Engine, arrays: Sequence[Array], clock: Callable[[], float]
) -> tuple[float, Sequence[Array]]:
    times: list[float] = []
    begun = clock()
    while len(times) < REPEATS and (
        not times or clock() - begun < (ENOUGH_S if len(times) >= AT_LEAST else SLOW_S)
    ):
        started = clock()
        answer = engine.run(arrays)
        times.append(clock() - started)
    return sorted(times)[len(times) // 2], answer


def _same(a: Array, b: Array) -> bool:
    if np.asarray(a).dtype.kind in "fc":
        return bool(np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True))
    return bool(np.all(np.asarray(a) == np.asarray(b)))
