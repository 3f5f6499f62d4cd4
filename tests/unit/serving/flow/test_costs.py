"""Whether requests run together: only where it pays, and where no row changes another's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.runtime.engines.engine import Array, TensorSpec
from serving.runtime.flow.costs import AT_LEAST, LEAST_GAIN, REPEATS, TOGETHER, Costs, measure

ROW = [np.arange(3, dtype=np.float32).reshape(1, 3)]


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed:
    """An engine whose runs take as long as they are said to."""

    format = "onnx"
    inputs = (TensorSpec("features", "FP32", (-1, 3)),)
    outputs = (TensorSpec("score", "FP32", (-1,)),)

    def __init__(
        self,
        clock: Clock,
        *,
        run_s: float = 1e-5,
        row_s: float = 1e-6,
        answer: Callable[[Array], Array] = lambda rows: rows.sum(axis=1),
    ) -> None:
        self._clock, self._run_s, self._row_s, self._answer = clock, run_s, row_s, answer
        self.runs: list[int] = []

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        self.runs.append(len(arrays[0]))
        self._clock.now += self._run_s + len(arrays[0]) * self._row_s
        return [self._answer(arrays[0])]


@pytest.mark.parametrize(
    ("run_s", "row_s", "batches"),
    [
        pytest.param(1e-5, 1e-6, True, id="mostly-the-run"),
        pytest.param(0.0, 1e-5, False, id="each-row-costs-the-same"),
        pytest.param(1e-6, 1e-5, False, id="too-little-to-win"),
        pytest.param(2e-6, 1e-5, True, id="just-enough"),
    ],
)
def test_rows_run_together_where_it_pays(run_s: float, row_s: float, batches: bool) -> None:
    """Verify that the gain among others decides, and that what a row costs is what was measured."""
    clock = Clock()
    costs = measure(Timed(clock, run_s=run_s, row_s=row_s), ROW, clock)
    assert costs.single_s == pytest.approx(run_s + row_s)
    assert costs.row_s == pytest.approx(run_s / TOGETHER + row_s)
    assert costs.gain == pytest.approx(costs.single_s / costs.row_s)
    assert costs.batches == batches == (costs.gain >= LEAST_GAIN)


def _blank(rows: Array) -> Array:
    return np.full(len(rows), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("answer", "batches"),
    [
        pytest.param(lambda r: r.sum(axis=1), True, id="each-row-by-itself"),
        pytest.param(lambda r: r.sum(axis=1) * (1 + 1e-6 * len(r)), True, id="but-for-rounding"),
        pytest.param(_blank, True, id="no-number"),
        pytest.param(lambda r: np.array([b"a"] * len(r), dtype=object), True, id="texts"),
        pytest.param(lambda r: r.sum(axis=1) / len(r), False, id="a-share-of-all"),
        pytest.param(lambda r: np.arange(len(r), dtype=np.float32), False, id="by-position"),
        pytest.param(lambda r: np.array([f"{len(r)}"] * len(r), dtype=object), False, id="texts-that-differ"),
        pytest.param(lambda r: r.sum(axis=1)[:1], False, id="one-answer-for-all"),
    ],
)
def test_a_row_that_depends_on_its_neighbours_runs_alone(
    answer: Callable[[Array], Array], batches: bool
) -> None:
    """Verify that a model gets the rows of several requests only if each is answered as it would be alone."""
    clock = Clock()
    assert measure(Timed(clock, answer=answer), ROW, clock).batches == batches


def test_a_slow_model_is_not_run_often() -> None:
    """Verify that a fast model is run often enough for a median, and one that takes a second once and once."""
    clock = Clock()
    fast, slow = Timed(clock), Timed(clock, run_s=1.0)
    measure(fast, ROW, clock)
    assert fast.runs == [1] * REPEATS + [TOGETHER] * REPEATS
    measure(slow, ROW, clock)
    assert slow.runs == [1, TOGETHER]


@pytest.mark.parametrize("rows", [pytest.param(1, id="alone"), pytest.param(TOGETHER, id="together")])
def test_one_stall_of_the_machine_does_not_make_a_model_slow(rows: int) -> None:
    """Verify that the first of the runs may hold a stall, and that the costs are what they are without it."""
    clock = Clock()

    class Stalling(Timed):
        def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
            if len(arrays[0]) == rows and rows not in self.runs:
                clock.now += 0.1
            return super().run(arrays)

    stalling = Stalling(clock)
    calm = measure(Timed(clock), ROW, clock)
    costs = measure(stalling, ROW, clock)
    assert costs.single_s == pytest.approx(calm.single_s)
    assert costs.row_s == pytest.approx(calm.row_s)
    assert costs.batches
    assert stalling.runs.count(rows) == AT_LEAST


def test_a_clock_that_stands_still_is_no_division_by_zero() -> None:
    """Verify that a model too fast to be measured has no gain."""
    assert Costs(0.0, 0.0, True).gain == 1.0
