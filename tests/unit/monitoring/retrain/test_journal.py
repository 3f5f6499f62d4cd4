"""The trigger at its edge: journaled before it acts, one run for a cause, whatever dies in between."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.retrain.journal import Trigger, history
from monitoring.retrain.signals import Signal, trigger_id
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError, WindlassError
from windlass.journal import read

NOW = datetime(2013, 6, 1, tzinfo=UTC)
POLICY = RetrainPolicy(cooldown=timedelta(days=10))
SIGNAL = Signal("featureDrift", "featureDrift/1", NOW, {"share": 0.4})


class Runner:
    """Where runs are submitted to; it knows the ids that it has seen, as the pipeline does."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.started: Counter[str] = Counter()

    def __call__(self, trigger: str, signal: Signal) -> str:
        self.calls.append(trigger)
        if not self.started[trigger]:
            self.started[trigger] += 1
        return f"run-{trigger}"


def trigger(tmp_path: Path, runner: Any, **options: Any) -> Trigger:
    return Trigger("flights", POLICY, tmp_path / "triggers.jsonl", runner, **options)


def test_an_accepted_signal_is_submitted_under_its_own_name_and_followed_to_its_end(tmp_path: Path) -> None:
    runner = Runner()
    made = trigger(tmp_path, runner)
    decision = made.offer(SIGNAL, NOW, live_release=False)
    assert decision.accepted and decision.trigger is not None
    assert runner.calls == [decision.trigger]
    assert not made.history()[0].finished
    made.finished(decision.trigger, NOW, version="2")
    made.resolved(decision.trigger, NOW, helped=True, reason="promoted")
    assert made.history()[0].helped is True
    records = list(read(tmp_path / "triggers.jsonl"))
    assert [r["event"] for r in records] == ["accepted", "submitted", "finished", "resolved"]
    assert records[0]["detail"] == {"share": 0.4}
    assert records[1]["run"] == f"run-{decision.trigger}"


def test_fifty_alerts_of_one_drift_make_one_run(tmp_path: Path) -> None:
    runner = Runner()
    for minute in range(50):
        late = NOW - timedelta(minutes=(minute * 37) % 50)
        trigger(tmp_path, runner).offer(
            Signal("featureDrift", "featureDrift/1", late),
            NOW + timedelta(minutes=minute),
            live_release=False,
        )
    assert len(runner.calls) == 1
    events = Counter(r["event"] for r in read(tmp_path / "triggers.jsonl"))
    assert events == {"accepted": 1, "refused": 49, "submitted": 1}


def test_a_second_signal_waits_for_the_run_of_the_first(tmp_path: Path) -> None:
    made = trigger(tmp_path, Runner())
    first = made.offer(SIGNAL, NOW, live_release=False)
    later = NOW + timedelta(days=20)
    decay = Signal("performanceDecay", "performanceDecay/1", later)
    assert made.offer(decay, later, live_release=False).rule == "concurrency"
    assert first.trigger is not None
    made.finished(first.trigger, later)
    assert made.offer(decay, later, live_release=False).accepted


def test_workloads_share_a_journal_and_nothing_else(tmp_path: Path) -> None:
    path, runner = tmp_path / "triggers.jsonl", Runner()
    Trigger("flights", POLICY, path, runner).offer(SIGNAL, NOW, live_release=False)
    assert Trigger("trains", POLICY, path, runner).offer(SIGNAL, NOW, live_release=False).accepted
    assert len(set(runner.calls)) == 2
    assert len(history(path, "flights")) == len(history(path, "trains")) == 1


def test_a_submission_that_failed_is_made_good_under_the_same_name(tmp_path: Path) -> None:
    def fails(name: str, signal: Signal) -> str:
        raise WindlassError("the pipeline backend does not answer")

    with pytest.raises(WindlassError):
        trigger(tmp_path, fails).offer(SIGNAL, NOW, live_release=False)
    runner = Runner()
    assert trigger(tmp_path, runner).offer(SIGNAL, NOW, live_release=False).rule == "duplicate"
    recovered = trigger(tmp_path, runner).recover(NOW)
    assert list(recovered) == runner.calls and len(runner.calls) == 1
    assert trigger(tmp_path, runner).recover(NOW) == ()
    assert len(runner.calls) == 1


CUTS = ("after accepted is journaled", "while submitting", "after it was submitted")


def _dies(folder: Path, cut: str, handed_over: Path) -> None:
    """Offer the signal in a process that is killed at a boundary."""

    def submit(name: str, signal: Signal) -> str:
        if cut == CUTS[0]:
            os._exit(9)
        with handed_over.open("a") as seen:
            seen.write(name + "\n")
        if cut == CUTS[1]:
            os._exit(9)
        return "run"

    made = Trigger("flights", POLICY, folder / "triggers.jsonl", submit)
    made.offer(SIGNAL, NOW, live_release=False)
    os._exit(9)


@pytest.mark.parametrize("cut", CUTS)
def test_killed_at_a_boundary_the_next_start_leaves_exactly_one_run(tmp_path: Path, cut: str) -> None:
    handed_over = tmp_path / "handed-over"
    process = multiprocessing.get_context("fork").Process(target=_dies, args=(tmp_path, cut, handed_over))
    process.start()
    process.join(30)
    assert process.exitcode == 9

    def submit(name: str, signal: Signal) -> str:
        assert signal.detail == SIGNAL.detail
        with handed_over.open("a") as seen:
            seen.write(name + "\n")
        return "run"

    Trigger("flights", POLICY, tmp_path / "triggers.jsonl", submit).recover(NOW)
    Trigger("flights", POLICY, tmp_path / "triggers.jsonl", submit).recover(NOW)
    names = handed_over.read_text().split()
    assert len(set(names)) == 1, "the receiver knows a name that it has seen"
    assert len(names) == (2 if cut == CUTS[1] else 1)
    assert [t.submitted for t in history(tmp_path / "triggers.jsonl", "flights")] == [True]


def test_a_torn_line_is_no_record_and_does_not_hide_the_next(tmp_path: Path) -> None:
    path = tmp_path / "triggers.jsonl"
    path.write_bytes(b'{"event":"accepted","workl')
    assert trigger(tmp_path, Runner()).offer(SIGNAL, NOW, live_release=False).accepted
    assert len(history(path, "flights")) == 1


def _offers(folder: Path, results: Any) -> None:
    made = Trigger("flights", POLICY, folder / "triggers.jsonl", lambda name, signal: name)
    results.put(made.offer(SIGNAL, NOW, live_release=False).accepted)


def test_processes_that_offer_the_same_cause_at_once_start_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_offers, args=(tmp_path, results)) for _ in range(6)]
    for process in processes:
        process.start()
    accepted = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(30)
    assert sorted(accepted) == [False] * 5 + [True]


def test_what_was_offered_is_submitted_when_it_returns_whoever_submits_it(tmp_path: Path) -> None:
    """Verify that who waits for a run does not look for it before another process has handed it over."""
    path = tmp_path / "triggers.jsonl"
    made = Trigger("flights", RetrainPolicy(), path, lambda name, _: name)
    name = trigger_id("flights", SIGNAL.cause)
    with (tmp_path / f".{name}.lock").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        offering = threading.Thread(target=made.offer, args=(SIGNAL, NOW), kwargs={"live_release": False})
        offering.start()
        while not made.history():
            time.sleep(0.001)
        offering.join(0.1)
        assert offering.is_alive()
    offering.join()
    assert made.history()[0].submitted


def test_one_run_that_cannot_be_submitted_does_not_hold_up_the_others(tmp_path: Path) -> None:
    def submit(name: str, signal: Signal) -> str:
        if signal.cause == SIGNAL.cause:
            raise WindlassError("no such data version")
        return name

    path = tmp_path / "triggers.jsonl"
    made = Trigger("flights", RetrainPolicy(concurrency=2, cooldown=timedelta(0)), path, submit)
    for signal in (SIGNAL, replace(SIGNAL, cause="predictionDrift/3", kind="predictionDrift")):
        assert made.offer(signal, NOW, live_release=False, hand_over=False).accepted
    with pytest.raises(WindlassError, match="no such data version"):
        made.recover(NOW)
    assert [t.submitted for t in made.history()] == [False, True]


def test_a_run_that_cannot_be_meant_has_ended_and_is_not_asked_for_at_every_turn(tmp_path: Path) -> None:
    asked: list[str] = []

    def submit(name: str, _: Signal) -> str:
        asked.append(name)
        raise UsageError("flights has no data version 'feed'")

    made = trigger(tmp_path, submit)
    made.offer(SIGNAL, NOW, live_release=False, hand_over=False)
    for _ in range(2):
        assert made.recover(NOW) == ()
    (past,) = made.history()
    assert (past.finished, past.helped, len(asked)) == (True, False, 1)
    assert list(read(tmp_path / "triggers.jsonl"))[-1]["reason"].endswith("no data version 'feed'")
