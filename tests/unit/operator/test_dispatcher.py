"""Turns: one at a time for a key, the longest due first, again when they fail."""

from __future__ import annotations

import pytest

from windlass.operator.dispatcher import FIRST_RETRY_S, LAST_RETRY_S, Dispatcher

A, B, C = ("release", "team", "a"), ("release", "team", "b"), ("release", "team", "c")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def dispatcher(time: Time) -> Dispatcher:
    return Dispatcher(time, spread=lambda: 0.5)


def test_the_longest_due_comes_first_and_no_more_than_are_wanted(dispatcher: Dispatcher, time: Time) -> None:
    """Verify order, limit, and how late each is."""
    dispatcher.wake(B)
    time.now += 2
    dispatcher.wake(A)
    dispatcher.wake(C)
    dispatcher.wake(B)  # is due already
    assert [(due.key, due.late_s) for due in dispatcher.take(2)] == [(B, 2.0), (A, 0.0)]
    assert [due.key for due in dispatcher.take(9)] == [C]
    assert dispatcher.take(9) == [] and dispatcher.running == 3


def test_what_was_due_while_nobody_took_turns_is_not_late(dispatcher: Dispatcher, time: Time) -> None:
    """Verify that the days of a standby are in no measure of its turns, and that the future stays where it is."""
    dispatcher.wake(A)
    dispatcher.take(1)
    dispatcher.done(A, 300_000.0)
    dispatcher.wake(B)
    time.now += 200_000
    dispatcher.begin()
    time.now += 1
    assert [(due.key, due.late_s) for due in dispatcher.take(9)] == [(B, 1.0)]
    time.now += 100_001
    assert [due.key for due in dispatcher.take(9)] == [A]


def test_who_is_woken_while_it_runs_is_late_from_then_on(dispatcher: Dispatcher, time: Time) -> None:
    """Verify that waiting for one's own turn to end counts."""
    dispatcher.wake(A)
    dispatcher.take(1)
    time.now += 1
    dispatcher.wake(A)
    time.now += 2
    dispatcher.wake(A)
    dispatcher.done(A, 5.0)
    assert [due.late_s for due in dispatcher.take(1)] == [2.0]


def test_a_key_is_at_one_place_at_a_time(dispatcher: Dispatcher) -> None:
    """Verify that what is woken while it runs gets another turn right after it, and only one."""
    dispatcher.wake(A)
    assert len(dispatcher.take(9)) == 1
    dispatcher.wake(A)
    dispatcher.wake(A)
    assert dispatcher.take(9) == []
    dispatcher.done(A, None)
    assert [due.key for due in dispatcher.take(9)] == [A]
    dispatcher.done(A, None)
    assert dispatcher.take(9) == [] and dispatcher.waiting == 0


def test_the_next_turn_is_when_it_was_asked_for(dispatcher: Dispatcher, time: Time) -> None:
    """Verify the pause between two turns, and that waking does not wait for it."""
    dispatcher.wake(A)
    dispatcher.take(1)
    dispatcher.done(A, 5.0)
    assert dispatcher.take(1) == [] and dispatcher.wait_s(60.0) == pytest.approx(5.0)
    time.now += 4.9
    assert dispatcher.take(1) == []
    time.now += 0.2
    assert len(dispatcher.take(1)) == 1
    dispatcher.done(A, 5.0)
    dispatcher.wake(A)
    assert len(dispatcher.take(1)) == 1


def test_what_fails_is_tried_again_more_and_more_seldom(dispatcher: Dispatcher, time: Time) -> None:
    """Verify growing pauses with an end, and that a success begins anew."""
    pauses = []
    for _ in range(8):
        dispatcher.wake(A)
        time.now += 1000
        dispatcher.take(1)
        pauses.append(dispatcher.failed(A))
        assert dispatcher.take(1) == []
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, LAST_RETRY_S, LAST_RETRY_S, LAST_RETRY_S]
    time.now += 1000
    dispatcher.take(1)
    dispatcher.done(A, None)
    dispatcher.wake(A)
    dispatcher.take(1)
    assert dispatcher.failed(A) == 1.0


def test_news_during_a_turn_that_fails_waits_for_a_moment_only(dispatcher: Dispatcher, time: Time) -> None:
    """Verify that a person's command does not wait for the pause that many failures brought, and that without further
    news the pauses go on growing."""
    for _ in range(6):
        dispatcher.wake(A)
        dispatcher.take(1)
        dispatcher.failed(A)
        time.now += 1000
    dispatcher.take(1)
    dispatcher.wake(A)
    assert dispatcher.failed(A) == FIRST_RETRY_S
    assert dispatcher.take(1) == []
    time.now += FIRST_RETRY_S
    assert [due.key for due in dispatcher.take(1)] == [A]
    assert dispatcher.failed(A) == LAST_RETRY_S


def test_nothing_due_means_waiting(dispatcher: Dispatcher) -> None:
    """Verify that an empty dispatcher waits as long as it may."""
    assert dispatcher.wait_s(3.0) == 3.0
