"""The breaker opens on failures only, rests longer each time, and lets one probe through at a time."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtime.flow import breaker
from serving.runtime.flow.breaker import Admission, Breaker, Policy, State

POLICY = Policy(
    failures=3, share=0.5, minimum=6, window_s=10.0, slow_s=0.02, backoff_s=1.0, longest_backoff_s=8.0
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("outcomes", "phase"),
    [
        pytest.param("++++++++++", "closed", id="successes"),
        pytest.param("--", "closed", id="fewer-in-a-row"),
        pytest.param("---", "open", id="so-many-in-a-row"),
        pytest.param("--+--+-", "open", id="a-share-of-enough"),
        pytest.param("-++-++-++-++", "closed", id="a-smaller-share"),
        pytest.param("++++++++++-+-", "closed", id="successes-before-the-first-failure-count-not"),
        pytest.param("s", "open", id="one-that-took-long"),
        pytest.param("--+--....+-", "closed", id="in-another-window"),
    ],
)
def test_opens_by_what_it_has_seen(outcomes: str, phase: str) -> None:
    """Verify each way to open; `.` are three seconds, `s` is a slow failure."""
    clock = Clock()
    guard = Breaker(POLICY, clock=clock)
    for outcome in outcomes:
        if outcome == ".":
            clock.now += 3
            continue
        admission = guard.admit()
        if admission == "refused":
            break
        if outcome == "+":
            guard.succeeded(admission)
        else:
            guard.failed(admission, 0.02 if outcome == "s" else 0.0)
    assert guard.state.phase == phase
    assert guard.opens == (phase == "open")


def test_rests_then_probes_then_closes() -> None:
    clock = Clock()
    guard = Breaker(POLICY, clock=clock, random=Random(0))
    guard.failed(guard.admit(), 1.0)
    assert guard.admit() == "refused"
    clock.now += POLICY.backoff_s
    assert [guard.admit() for _ in range(3)] == ["probe", "refused", "refused"]
    guard.succeeded("probe")
    assert guard.state == breaker.CLOSED
    assert (guard.opens, guard.probes, guard.refused) == (1, 1, 3)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_each_failed_probe_doubles_the_rest_up_to_the_longest(draw: float) -> None:
    state = breaker.failed(breaker.CLOSED, POLICY, "through", 0.0, 1.0, draw)
    rests = []
    for _ in range(6):
        rests.append(state.until)
        probing, admission = breaker.admit(state, state.until)
        assert admission == "probe"
        state = breaker.failed(probing, POLICY, admission, 0.0, 0.0, draw)
    assert rests == pytest.approx([full * (1 - draw / 2) for full in (1, 2, 4, 8, 8, 8)])


def test_rests_of_many_failures_do_not_overflow() -> None:
    state = State("half_open", openings=10_000)
    assert breaker.failed(state, POLICY, "probe", 0.0, 0.0, 0.0).until == POLICY.longest_backoff_s


@pytest.mark.parametrize("phase", ["open", "half_open"])
def test_an_outcome_from_before_the_opening_changes_nothing(phase: breaker.Phase) -> None:
    """Verify that only the probe closes or reopens: late answers are of a store that was."""
    state = State(phase, openings=1, until=5.0)
    assert breaker.succeeded(state, POLICY, "through", 6.0) is state
    assert breaker.failed(state, POLICY, "through", 6.0, 1.0, 0.0) is state


def test_nothing_is_written_while_nothing_fails() -> None:
    assert breaker.succeeded(breaker.CLOSED, POLICY, "through", 1e9) is breaker.CLOSED


STEPS = st.lists(
    st.one_of(
        st.just("ask"),
        st.tuples(st.sampled_from(["succeed", "fail", "fail slowly"]), st.integers(0, 20)),
        st.floats(0.0, 12.0),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_holds_whatever_happens_in_whatever_order(steps: list[object], seed: int) -> None:
    """Verify of any interleaving: one probe at a time, no opening on a success, and open leads to a probe."""
    clock = Clock()
    guard = Breaker(POLICY, clock=clock, random=Random(seed))
    under_way: list[Admission] = []
    for step in steps:
        before = guard.state.phase
        if step == "ask":
            admission = guard.admit()
            assert admission == "through" if before == "closed" else admission in ("probe", "refused")
            if admission != "refused":
                under_way.append(admission)
        elif isinstance(step, float):
            clock.now += step
        elif isinstance(step, tuple) and under_way:
            kind, which = step
            admission = under_way.pop(which % len(under_way))
            if kind == "succeed":
                guard.succeeded(admission)
                assert guard.state.phase in ("closed", before)
            else:
                guard.failed(admission, 1.0 if kind == "fail slowly" else 0.0)
        assert under_way.count("probe") == (guard.state.phase == "half_open")
        if guard.state.phase == "open":
            assert guard.state.until > clock.now or before == "open"
    if guard.state.phase == "open":
        clock.now += POLICY.longest_backoff_s
        assert guard.admit() == "probe"


def test_slow_is_a_failure_only() -> None:
    guard = Breaker(Policy(slow_s=math.inf), clock=Clock())
    for _ in range(Policy().failures - 1):
        guard.failed(guard.admit(), 1e6)
    assert guard.state.phase == "closed"
