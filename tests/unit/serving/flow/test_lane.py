"""The lane: what arrived together runs together, in time or not at all, and every request gets one answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.runtime.flow.call import Asked, Call, Outcome
from serving.runtime.flow.lane import OUTLIER, OVERHEAD_S, WEIGHT, Lane, Limits
from serving.runtime.refusal import DeadlineExceeded, Overloaded, Refusal, Unavailable

FOREVER = 3600.0
UNBOUNDED = Limits(queue_s=FOREVER)


@dataclass
class Model:
    """A `lane.Work` that gives each request its id back, and notes what it was asked.

    Attributes:
        costs_s: what it says that a row costs.
        takes_s: how long each run really takes.
        prepare_s: how long looking something up takes; None where it is immediate.
        gate: where set, a run waits until it is open.
        fails: for the requests of these ids it gives a problem.
    """

    threaded: bool = False
    batches: bool = True
    costs_s: float = 1e-6
    takes_s: float = 0.0
    prepare_s: float | None = None
    gate: threading.Event | None = None
    fails: Mapping[str, Refusal] = field(default_factory=dict)
    ran: list[list[str]] = field(default_factory=list)
    instead_of: list[tuple[str, Refusal]] = field(default_factory=list)

    @property
    def immediate(self) -> bool:
        return self.prepare_s is None

    def prepare(self, calls: Sequence[Call]) -> None:
        assert self.prepare_s is None

    def prepare_later(self, calls: Sequence[Call]) -> Awaitable[None]:
        return asyncio.sleep(self.prepare_s or 0.0)

    def expected_s(self, rows: int) -> float:
        return rows * self.costs_s

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        self.ran.append([c.request_id for c in calls])
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.takes_s:
            time.sleep(self.takes_s)
        return [self.outcome_of(c.request_id) for c in calls]

    def outcome_of(self, request_id: str) -> Outcome:
        return Outcome([request_id], "model", self.fails.get(request_id))

    def instead(self, calls: Sequence[Call], problem: Refusal) -> None:
        self.instead_of += [(c.request_id, problem) for c in calls]
        self.finished(calls, [Outcome([], "model", problem)] * len(calls))

    def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        for call, outcome in zip(calls, outcomes, strict=True):
            call.finish(outcome)


class Bench:
    """A lane, and what came of each request."""

    def __init__(self, model: Model, limits: Limits = UNBOUNDED) -> None:
        self.loop = asyncio.get_running_loop()
        self.model = model
        self.lane = Lane(model, limits, self.loop, "m")
        self.answers: dict[str, list[Outcome]] = {}

    def submit(self, request_id: str, patience_s: float = FOREVER, rows: int = 1) -> None:
        self.answers[request_id] = []
        deadline = self.loop.time() + patience_s
        self.lane.submit(Call(Asked(rows), request_id, 0.0, deadline, 0.0, self._reply))

    def _reply(self, call: Call) -> None:
        self.answers[call.request_id].append(call.outcome)

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            await asyncio.sleep(0.001)

    async def all_answered(self) -> None:
        await self.until(lambda: all(self.answers.values()))

    def problem(self, request_id: str) -> Refusal | None:
        (outcome,) = self.answers[request_id]
        return outcome.problem


async def turn() -> None:
    """Let what was scheduled run, twice: a turn, and what it scheduled."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# ---- together


def test_what_arrives_in_one_turn_runs_together() -> None:
    """Verify that requests of one turn are one run at its end, in their order, and those of the next another."""

    async def test() -> None:
        bench = Bench(Model())
        for name in "abc":
            bench.submit(name)
        assert bench.model.ran == []
        await turn()
        bench.submit("d")
        await turn()
        assert bench.model.ran == [["a", "b", "c"], ["d"]]
        assert [bench.answers[n][0].outputs for n in "abcd"] == [["a"], ["b"], ["c"], ["d"]]
        assert (bench.lane.counts.runs, bench.lane.counts.rows, bench.lane.pending) == (2, 4, 0)

    uvloop.run(test())


def test_a_model_that_does_not_batch_runs_one_by_one() -> None:
    """Verify that each request is a run of its own, in their order, where rows cannot be put together."""

    async def test() -> None:
        bench = Bench(Model(batches=False))
        for name, rows in (("a", 1), ("b", 1), ("c", 3)):
            bench.submit(name, rows=rows)
        await turn()
        assert bench.model.ran == [["a"], ["b"], ["c"]]
        assert bench.lane.counts.rows == 5

    uvloop.run(test())


def test_a_run_has_so_many_rows_and_no_more() -> None:
    """Verify that a run ends before it holds too many rows, and that a request larger than that runs alone."""

    async def test() -> None:
        bench = Bench(Model(), Limits(rows=10, queue_s=FOREVER))
        for name, rows in (("a", 4), ("b", 6), ("c", 1), ("d", 11), ("e", 10)):
            bench.submit(name, rows=rows)
        await turn()
        assert bench.model.ran == [["a", "b"], ["c"], ["d"], ["e"]]

    uvloop.run(test())


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Model(threaded=True), id="code-that-may-hang"),
        pytest.param(Model(costs_s=1.0), id="a-run-that-takes-long"),
    ],
)
def test_a_run_that_would_hold_up_the_event_loop_leaves_it(model: Model) -> None:
    """Verify that it runs in a thread while the loop goes on, and that what arrives meanwhile is the next run."""

    async def test() -> None:
        model.gate = threading.Event()
        bench = Bench(model)
        bench.submit("a")
        await bench.until(lambda: bool(model.ran))
        for name in "bc":
            bench.submit(name)
            await turn()
        assert model.ran == [["a"]]
        assert bench.lane.pending == 3
        model.gate.set()
        await bench.all_answered()
        assert model.ran == [["a"], ["b", "c"]]
        assert bench.lane.pending == 0
        bench.lane.close()

    uvloop.run(test())


# ---- what is let in


def test_only_so_many_requests_wait() -> None:
    """Verify that one more than the limit is refused, and let in again when one was answered."""

    async def test() -> None:
        bench = Bench(Model(costs_s=1e-9), Limits(waiting=3, queue_s=FOREVER))
        for name in "abc":
            bench.lane.admit()
            bench.submit(name)
        with pytest.raises(Overloaded, match="model m: 3 requests wait already"):
            bench.lane.admit()
        assert bench.lane.counts.shed == {"full": 1}
        await turn()
        bench.lane.admit()

    uvloop.run(test())


@pytest.mark.parametrize(
    ("queue_s", "seconds_left", "let_in"),
    [
        pytest.param(9.5, FOREVER, 10, id="the-lane's-limit"),
        pytest.param(FOREVER, 4.5, 5, id="the-request's-deadline"),
        pytest.param(0.5, FOREVER, 1, id="the-first-one-always"),
    ],
)
def test_what_could_not_be_answered_in_time_is_refused(
    queue_s: float, seconds_left: float, let_in: int
) -> None:
    """Verify that as many are let in as can be answered before the limit, and the refusal says when to come again."""

    async def test() -> None:
        bench = Bench(Model(costs_s=1.0 - OVERHEAD_S), Limits(queue_s=queue_s))
        for i in range(let_in):
            bench.lane.admit(seconds_left)
            bench.submit(str(i))
        with pytest.raises(Overloaded, match="would wait") as refused:
            bench.lane.admit(seconds_left)
        assert refused.value.retry_after_s == bench.lane.pending
        assert bench.lane.counts.shed == {"slow": 1}

    uvloop.run(test())


def test_one_stall_does_not_shut_the_lane() -> None:
    """Verify that one observation far beyond the average moves what a request is taken to cost by a bounded part."""

    async def test() -> None:
        bench = Bench(Model())
        before = bench.lane._cost_s
        bench.model.takes_s = 0.05
        bench.submit("stalled")
        await turn()
        assert bench.lane._cost_s == pytest.approx(before * (1 + WEIGHT * (OUTLIER - 1)))

    uvloop.run(test())


def test_what_a_request_costs_is_learned() -> None:
    """Verify that a model slower than it was at load is found out, and one that was slow only then as well."""

    async def test() -> None:
        bench = Bench(Model(takes_s=0.003))
        for i in range(60):
            bench.submit(str(i))
            await turn()
        assert bench.lane._cost_s > 0.002
        bench.model.takes_s = 0.0
        for i in range(60):
            bench.submit(f"again {i}")
            await turn()
        assert bench.lane._cost_s < 0.001

    uvloop.run(test())


# ---- deadlines


def test_a_request_whose_time_is_over_is_answered_and_not_run() -> None:
    """Verify that its deadline ends a request which waits behind a run, once, and gives back its place."""

    async def test() -> None:
        bench = Bench(Model(threaded=True, gate=threading.Event()))
        bench.submit("runs")
        await bench.until(lambda: bool(bench.model.ran))
        bench.submit("waits", patience_s=0.2)
        await turn()
        bench.submit("waits longer")
        await bench.until(lambda: bool(bench.answers["waits"]))
        assert isinstance(bench.problem("waits"), DeadlineExceeded)
        assert bench.lane.pending == 2
        assert bench.model.gate is not None
        bench.model.gate.set()
        await bench.all_answered()
        assert bench.model.ran == [["runs"], ["waits longer"]]
        assert bench.lane.counts.shed == {"deadline": 1}
        assert bench.lane.pending == 0
        bench.lane.close()

    uvloop.run(test())


def test_a_deadline_is_watched_while_the_run_of_its_own_turn_goes_on() -> None:
    """Verify that a request which is left behind when its turn's run leaves for a thread is answered in time too."""

    async def test() -> None:
        bench = Bench(Model(threaded=True, batches=False, gate=threading.Event()))
        bench.submit("runs")
        bench.submit("is left behind", patience_s=0.2)
        await bench.until(lambda: bool(bench.answers["is left behind"]))
        assert bench.answers["runs"] == []
        assert bench.model.gate is not None
        bench.model.gate.set()
        await bench.all_answered()
        assert bench.model.ran == [["runs"]]
        bench.lane.close()

    uvloop.run(test())


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    """Verify that a request is answered at its deadline while its run goes on, and what the run gives is not sent."""

    async def test() -> None:
        bench = Bench(Model(threaded=True, gate=threading.Event()))
        bench.submit("late", patience_s=0.2)
        bench.submit("in time")
        await turn()
        bench.submit("next")
        await bench.until(lambda: bool(bench.answers["late"]))
        assert bench.lane.pending == 3
        assert bench.model.gate is not None
        bench.model.gate.set()
        await bench.all_answered()
        await bench.lane.drained()
        assert isinstance(bench.problem("late"), DeadlineExceeded)
        assert bench.problem("in time") is None
        assert bench.model.ran == [["late", "in time"], ["next"]]
        assert bench.lane.counts.shed == {"deadline": 1}
        bench.lane.close()

    uvloop.run(test())


def test_a_deadline_ends_a_request_whose_features_do_not_come() -> None:
    """Verify that a request is answered at its deadline while something is looked up for it, and is not run after."""

    found = asyncio.Event()

    class Searching(Model):
        async def prepare_later(self, calls: Sequence[Call]) -> None:
            await found.wait()

    async def test() -> None:
        bench = Bench(Searching(prepare_s=0.0))
        bench.submit("late", patience_s=0.02)
        bench.submit("in time")
        await bench.until(lambda: bool(bench.answers["late"]))
        assert bench.answers["in time"] == []
        found.set()
        await bench.all_answered()
        assert bench.model.ran == [["in time"]]
        assert bench.lane.counts.shed == {"deadline": 1}
        assert bench.lane.pending == 0

    uvloop.run(test())


@pytest.mark.parametrize("patience_s", [-1.0, 0.0, 1e-6, 4e-4, 6e-4, 2e-3], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="inline"),
        pytest.param({"threaded": True}, id="threaded"),
        pytest.param({"threaded": True, "batches": False}, id="one-by-one"),
        pytest.param({"prepare_s": 0.005}, id="looked-up"),
    ],
)
def test_a_deadline_may_be_as_near_as_it_likes(options: dict[str, Any], patience_s: float) -> None:
    """Verify that requests with no time at all leave the lane as it was for those that have some."""

    async def test() -> None:
        bench = Bench(Model(**options))
        for i in range(4):
            bench.submit(f"hurried {i}", patience_s)
            bench.submit(f"patient {i}")
        await bench.all_answered()
        await bench.lane.drained()
        assert all(bench.problem(f"patient {i}") is None for i in range(4))
        if patience_s <= 0:
            assert {n for run in bench.model.ran for n in run} == {f"patient {i}" for i in range(4)}
        bench.submit("next")
        await bench.all_answered()
        assert bench.problem("next") is None
        bench.lane.close()

    uvloop.run(test())


# ---- a model that does not come back


def test_a_stuck_model_is_not_waited_for() -> None:
    """Verify that requests which arrive while a run does not come back are answered without the model, at once."""

    async def test() -> None:
        bench = Bench(
            Model(threaded=True, gate=threading.Event()),
            Limits(stuck_s=0.02, wedged_s=0.04, queue_s=FOREVER),
        )
        bench.submit("hangs")
        await bench.until(lambda: bench.lane.stuck_s > 0.02)
        bench.submit("meanwhile")
        await turn()
        assert isinstance(bench.problem("meanwhile"), Unavailable)
        assert "model m has not come back" in str(bench.problem("meanwhile"))
        assert bench.lane.pending == 1
        await bench.until(lambda: bench.lane.wedged)
        assert bench.model.gate is not None
        bench.model.gate.set()
        await bench.all_answered()
        assert not bench.lane.wedged
        assert bench.lane.stuck_s == 0
        bench.submit("after")
        await bench.all_answered()
        assert bench.problem("after") is None
        assert bench.model.ran == [["hangs"], ["after"]]
        assert bench.lane.pending == 0
        bench.lane.close()

    uvloop.run(test())


def test_a_lane_that_is_closed_waits_for_nothing() -> None:
    """Verify that closing returns while a run goes on, and that the run's end harms nothing."""

    async def test() -> None:
        bench = Bench(Model(threaded=True, gate=threading.Event()))
        bench.submit("runs")
        await bench.until(lambda: bool(bench.model.ran))
        bench.lane.close()
        assert bench.answers["runs"] == []
        assert bench.model.gate is not None
        bench.model.gate.set()
        await bench.all_answered()
        assert bench.lane.pending == 0

    uvloop.run(test())


# ---- whatever happens


@pytest.mark.parametrize(
    ("where", "prepare_s"),
    [
        pytest.param("prepare", None, id="at-once"),
        pytest.param("prepare", 0.001, id="later"),
        pytest.param("finished", None, id="at-the-end"),
    ],
)
def test_a_bug_beside_the_model_costs_its_requests_alone(
    where: str, prepare_s: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Verify that requests are answered when what prepares or ends a run raises, and that the lane goes on."""

    class Faulty(Model):
        def _fail(self, here: str, calls: Sequence[Call]) -> None:
            if here == where and calls[0].request_id == "first" and not self.instead_of:
                raise RuntimeError("a bug")

        def prepare(self, calls: Sequence[Call]) -> None:
            self._fail("prepare", calls)

        async def prepare_later(self, calls: Sequence[Call]) -> None:
            self._fail("prepare", calls)

        def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
            self._fail("finished", calls)
            super().finished(calls, outcomes)

    async def test() -> None:
        bench = Bench(Faulty(prepare_s=prepare_s))
        bench.submit("first")
        await bench.all_answered()
        assert bench.problem("first") is not None
        bench.submit("next")
        await bench.all_answered()
        assert bench.problem("next") is None
        assert bench.lane.pending == 0

    uvloop.run(test())
    assert "a bug" in caplog.text


@dataclass(frozen=True)
class Arrival:
    """A request: how long after the one before, with how much time and how many rows."""

    after_s: float
    patience_s: float
    rows: int
    fails: bool


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.004]),
        st.sampled_from([0.0, 0.0004, 0.001, 0.003, 0.01, FOREVER, FOREVER]),
        st.integers(1, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)
MODELS = st.fixed_dictionaries(
    {
        "threaded": st.booleans(),
        "batches": st.booleans(),
        "costs_s": st.sampled_from([1e-6, 1e-3, 1.0]),
        "takes_s": st.sampled_from([0.0, 0.0005, 0.004]),
        "prepare_s": st.sampled_from([None, 0.0, 0.002]),
    }
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    arrivals=ARRIVALS, options=MODELS, stuck_s=st.sampled_from([0.002, FOREVER]), rows=st.sampled_from([1, 8])
)
def test_every_request_gets_one_answer(
    arrivals: list[Arrival], options: dict[str, Any], stuck_s: float, rows: int
) -> None:
    """Verify for any schedule: one answer each, nothing run late or twice, order kept, and nothing left behind."""

    async def test() -> None:
        fails = {str(i): Unavailable(str(i)) for i, a in enumerate(arrivals) if a.fails}
        bench = Bench(Model(fails=fails, **options), Limits(rows=rows, stuck_s=stuck_s, queue_s=FOREVER))
        model, lane = bench.model, bench.lane
        for i, arrival in enumerate(arrivals):
            if arrival.after_s:
                await asyncio.sleep(arrival.after_s)
            bench.submit(str(i), arrival.patience_s, arrival.rows)
        await bench.all_answered()
        await lane.drained()
        await turn()
        assert all(len(answers) == 1 for answers in bench.answers.values())
        assert lane.pending == 0
        assert not lane._open and not lane._ready and not lane._arrived
        ran = [name for run in model.ran for name in run]
        assert len(ran) == len(set(ran))
        if model.prepare_s is None:
            assert ran == sorted(ran, key=int)
        assert not any(arrivals[int(name)].patience_s <= 0 for name in ran)
        for run in model.ran:
            assert len(run) == 1 or (model.batches and sum(arrivals[int(n)].rows for n in run) <= rows)
        instead = [name for name, _ in model.instead_of]
        assert len(instead) == len(set(instead))
        late = sum(isinstance(problem, DeadlineExceeded) for _, problem in model.instead_of)
        assert lane.counts.shed.get("deadline", 0) == late
        assert set(bench.answers) == {*ran, *instead}
        problems = dict(model.instead_of)
        for name, (outcome,) in bench.answers.items():
            assert outcome == (
                Outcome([], "model", problems[name]) if name in problems else model.outcome_of(name)
            )
        lane.close()

    uvloop.run(test())
