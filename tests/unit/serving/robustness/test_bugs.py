"""A bug in what a lane calls: it costs the requests that it befell, and no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
import uvloop

from serving.runtime.flow.call import Asked, Call, Outcome
from serving.runtime.flow.lane import Lane, Limits
from serving.runtime.refusal import Refusal

PATIENCE_S = 20.0


class Doubling:
    """Work that answers its rows doubled, and has a bug in one of its methods for the value 13."""

    batches = True

    def __init__(self, place: str, *, immediate: bool, threaded: bool) -> None:
        self.immediate = immediate
        self.threaded = threaded
        self._place = place

    def _pass(self, place: str, calls: Sequence[Call]) -> None:
        if place == self._place and any(c.asked.arrays == [13] for c in calls):
            raise ZeroDivisionError(place)

    def prepare(self, calls: Sequence[Call]) -> None:
        self._pass("prepare", calls)

    async def prepare_later(self, calls: Sequence[Call]) -> None:
        await asyncio.sleep(0)
        self._pass("prepare", calls)

    def expected_s(self, rows: int) -> float:
        return 1e-6 * rows

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        return [Outcome([2 * (c.asked.arrays or [0])[0]], "model", None) for c in calls]

    def instead(self, calls: Sequence[Call], problem: Refusal) -> None:
        self._pass("instead", calls)
        self.finished(calls, [Outcome([], "model", problem)] * len(calls))

    def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        self._pass("finished", calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            call.finish(outcome)


async def answers(lane: Lane, value: Any, patience_s: float = PATIENCE_S) -> Outcome:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    call = Call(
        Asked(1, arrays=[value]),
        "id",
        0.0,
        loop.time() + patience_s,
        time.perf_counter(),
        lambda _: answered.set_result(None),
    )
    lane.admit()
    lane.submit(call)
    await asyncio.wait_for(answered, PATIENCE_S)
    return call.outcome


@pytest.mark.parametrize(
    ("place", "immediate", "threaded", "patience_s", "status"),
    [
        pytest.param("prepare", True, False, PATIENCE_S, 500, id="features-at-once"),
        pytest.param("prepare", False, False, PATIENCE_S, 500, id="features-later"),
        pytest.param("finished", True, False, PATIENCE_S, 500, id="answer-on-the-loop"),
        pytest.param("finished", True, True, PATIENCE_S, 500, id="answer-from-a-thread"),
        pytest.param("instead", True, False, 0.0, 500, id="answer-without-the-model"),
        pytest.param("nowhere", True, False, 0.0, 504, id="no-bug-and-late"),
    ],
)
def test_a_bug_costs_its_requests_and_not_the_lane(
    place: str, immediate: bool, threaded: bool, patience_s: float, status: int
) -> None:
    """Verify that the request is told, that others are answered after it, and that none stays counted as waiting."""

    async def run() -> list[Any]:
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        lane = Lane(Doubling(place, immediate=immediate, threaded=threaded), Limits(), loop, "doubling")
        for _ in range(3):
            bad = await answers(lane, 13, patience_s)
            assert bad.problem is not None
            assert bad.problem.status == status
            assert (await answers(lane, 4)).outputs == [8]
        await lane.drained()
        assert lane.pending == 0
        lane.close()
        return reported

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reported = runner.run(run())
    assert [str(bug) for bug in reported] == ([] if status == 504 else [place] * 3)
