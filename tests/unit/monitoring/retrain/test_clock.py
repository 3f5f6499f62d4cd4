"""A wall clock that was set is noticed, whatever process looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring.retrain import clock
from monitoring.retrain.clock import Reading
from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import Signal
from windlass.contract import RetrainPolicy
from windlass.journal import read

NOW = datetime(2013, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIFT = Signal("featureDrift", "featureDrift/3", NOW)


def reading(hours: float, *, off: timedelta = timedelta(0), boot: str = "a") -> Reading:
    return Reading(NOW + hours * HOUR + off, boot, 1000.0 + hours * 3600)


@pytest.mark.parametrize(
    ("later", "ahead"),
    [
        pytest.param(reading(5), timedelta(0), id="time-passes"),
        pytest.param(reading(5, off=timedelta(days=2)), timedelta(days=2), id="set-forward"),
        pytest.param(reading(5, off=-3 * HOUR), -3 * HOUR, id="set-back"),
        pytest.param(reading(5, off=timedelta(seconds=20)), timedelta(0), id="a-step-of-ntp"),
        pytest.param(reading(1000, off=HOUR / 2), timedelta(0), id="six-weeks-of-slewing"),
        pytest.param(reading(5, off=9 * HOUR, boot="b"), timedelta(0), id="nobody-knows-after-a-boot"),
    ],
)
def test_the_difference_of_two_clocks(later: Reading, ahead: timedelta) -> None:
    assert clock.jump(reading(0), later) == ahead


def test_both_clocks_of_this_machine_go_on() -> None:
    first, second = clock.read(), clock.read()
    assert first.boot == second.boot and second.steady >= first.steady
    assert clock.jump(first, second) == timedelta(0)


def trigger(path: Path) -> Trigger:
    policy = RetrainPolicy(cooldown=24 * HOUR, per_day=5)
    return Trigger("flights", policy, path / "triggers.jsonl", lambda name, _: name)


def test_a_jump_forward_gives_no_time_to_a_cool_down(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.watch(reading(0))
    accepted = made.offer(DRIFT, NOW, live_release=False).trigger
    assert accepted is not None
    made.resolved(accepted, NOW, helped=True, reason="promoted")
    forward = timedelta(days=3)
    # another process, so that it is the journal that knows
    other = trigger(tmp_path)
    assert other.watch(reading(1, off=forward)) == forward
    decay = Signal("performanceDecay", "performanceDecay/4", NOW + forward)
    assert other.offer(decay, NOW + HOUR + forward, live_release=False).rule == "cooldown"
    assert other.reconsider(NOW + 23 * HOUR + forward, live_release=False) == ()
    assert [d.accepted for d in other.reconsider(NOW + 24 * HOUR + forward, live_release=False)] == [True]


def test_a_jump_that_is_taken_back_is_none(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.watch(reading(0))
    assert made.offer(DRIFT, NOW, live_release=False).accepted
    made.watch(reading(1, off=timedelta(days=300)))
    made.watch(reading(2))
    assert made.history()[0].lead == timedelta(0)
    assert made.state().jumps == 2
    # and what was written meanwhile is not of the future
    assert made.state().newest == NOW + 2 * HOUR


def test_a_clock_that_was_behind_the_journal_catches_up_without_a_wait(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    assert made.offer(DRIFT, NOW, live_release=False).accepted
    wrong = timedelta(days=-10_000)
    made.watch(reading(48, off=wrong))
    assert made.offer(DRIFT, NOW + 48 * HOUR + wrong, live_release=False).rule == "duplicate"
    decay = Signal("performanceDecay", "performanceDecay/4", NOW)
    assert made.offer(decay, NOW + 48 * HOUR + wrong, live_release=False).rule == "clock"
    made.watch(reading(49))
    # the time between is not known, the time since is: at the most a whole cool-down is waited for
    assert made.history()[0].lead <= 49 * HOUR


def test_only_a_jump_and_a_new_boot_are_written_down(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    for hours in range(5):
        made.watch(reading(hours))
    made.watch(reading(6, boot="b"))
    made.watch(reading(7, boot="b", off=HOUR))
    kept = [(r["boot"], r["ahead"]) for r in read(tmp_path / "triggers.jsonl")]
    assert kept == [("a", 0.0), ("b", 0.0), ("b", 3600.0)]
