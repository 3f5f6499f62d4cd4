"""What the trigger does by itself, turn by turn: submit, follow, schedule, decide again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from retrain_service import MODEL, WAIT_S, Around, around

from monitoring.retrain import journal
from monitoring.retrain.clock import Reading
from monitoring.retrain.following import Ended, Outcome, judged
from monitoring.retrain.journal import Trigger
from monitoring.retrain.service.core import Service, Watched
from monitoring.retrain.service.metrics import Metrics
from monitoring.retrain.service.notice import Notice, RunEnded
from monitoring.retrain.signals import Signal
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError, WindlassError
from windlass.journal import read
from windlass.settings import Settings

NOW = datetime(2013, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Times:
    """Both clocks, turned by hand."""

    hours: float = 0.0
    off: timedelta = timedelta(0)

    def __call__(self) -> Reading:
        return Reading(NOW + self.hours * HOUR + self.off, "boot", self.hours * 3600)


class Scripted(Around):
    """Runs that have ended as a test says; what was submitted is counted."""

    def __init__(self, home: Path) -> None:
        super().__init__(around(home).runs)
        self.ended: Ended | None = None
        self.submitted: list[str] = []
        self.silent = False

    def submit(self, trigger: str, signal: Signal) -> str:
        self.submitted.append(trigger)
        return trigger

    def run(self, trigger: str) -> Ended | None:
        if self.silent:
            raise WindlassError("Kubeflow Pipelines does not answer")
        return self.ended


@dataclass
class Made:
    service: Service
    platform: Scripted
    times: Times
    trigger: Trigger
    said: list[str] = field(default_factory=list)

    def turn(self, hours: float | None = None) -> None:
        self.times.hours = self.times.hours if hours is None else hours
        self.service.turn()

    def drift(self, **changed: Any) -> dict[str, Any]:
        at = self.times().at
        notice = Notice(MODEL, "featureDrift", "3", None, at, None, "f", {"fingerprint": "f"})
        (told,) = self.service.take([Notice(**{**vars(notice), **changed})])
        return told


def made(home: Path, **policy: Any) -> Made:
    platform, times, said = Scripted(home), Times(), []
    stated = RetrainPolicy(**{"cooldown": timedelta(days=1), **policy})
    trigger = Trigger(MODEL, stated, journal.path(Settings(home=home, project=home)), platform.submit)
    service = Service({MODEL: Watched(trigger, platform)}, said.append, read=times, follow_every_s=10.0)
    return Made(service, platform, times, trigger, said)


CANDIDATE = {"version": "4", "passed": True, "champion": "3", "gates": [{"check": "auc", "passed": True}]}


def test_a_signal_is_followed_from_its_run_to_what_came_of_its_release(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.turn()
    assert m.drift()["accepted"] and m.platform.submitted == [], "nothing is submitted before the answer"
    m.turn()
    assert len(m.platform.submitted) == 1
    m.platform.ended = Ended(CANDIDATE, None, 90.0)
    m.turn(1)
    past = m.trigger.history()[0]
    assert (past.finished, past.helped, past.version) == (True, None, "4")
    assert m.platform.released == ["4"]
    m.turn(2)
    assert m.trigger.history()[0].helped is None and m.platform.released == ["4"], "its release goes on"
    m.platform.outcomes["4"] = Outcome(True, "release flights-4: Promoted")
    m.turn(3)
    assert m.trigger.history()[0].helped is True
    events = [r["event"] for r in read(m.trigger._path) if r["event"] != "clock"]
    assert events == ["accepted", "submitted", "finished", "resolved"]


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        pytest.param(Ended(None, "no rows", 3.0), "the run failed: no rows", id="a-run-that-failed"),
        pytest.param(
            Ended({**CANDIDATE, "passed": False, "gates": [{"check": "auc", "passed": False}]}, None, 3.0),
            "gates failed: auc; version 3 stays the champion",
            id="a-candidate-that-lost-at-the-gate",
        ),
        pytest.param(
            Ended({**CANDIDATE, "version": "3"}, None, 3.0),
            "the run made version 3 again, which is the champion",
            id="the-champion-again",
        ),
    ],
)
def test_a_retraining_that_loses_leaves_the_champion_and_says_why(
    tmp_path: Path, ended: Ended, reason: str
) -> None:
    m = made(tmp_path)
    m.drift()
    m.platform.ended = ended
    m.turn()
    m.turn(1)
    assert m.trigger.history()[0].helped is False and m.platform.released == []
    resolved = [r for r in read(m.trigger._path) if r["event"] == "resolved"]
    assert [r["reason"] for r in resolved] == [reason]
    assert m.trigger.state().seconds == 3.0


def test_a_release_that_cannot_be_handed_over_is_tried_again(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.drift()
    m.platform.ended = Ended(CANDIDATE, None, 3.0)
    take, refuse = m.platform.release, True

    def release(result: Any) -> str | None:
        if refuse:
            raise UsageError("release 'flights-9' is live")
        return take(result)

    m.platform.release = release  # type: ignore[method-assign]
    m.turn()
    m.turn(1)
    m.turn(2)
    assert not m.trigger.history()[0].finished
    assert sum("is live" in said for said in m.said) == 1, "said once"
    refuse = False
    m.turn(3)
    assert m.trigger.history()[0].finished and m.platform.released == ["4"]


def test_a_person_who_wants_no_release_gets_none(tmp_path: Path) -> None:
    m = made(tmp_path)
    signal = Signal("manual", "manual/1", NOW, {"release": False})
    m.trigger.offer(signal, NOW, live_release=False)
    m.platform.ended = Ended(CANDIDATE, None, 3.0)
    m.turn(1)
    assert m.trigger.history()[0].finished and m.platform.released == []


def test_the_first_champion_is_its_own_release() -> None:
    assert judged({**CANDIDATE, "champion": None}) == Outcome(True, "the first champion")


def test_a_backend_that_is_silent_is_asked_again_and_said_once(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.drift()
    m.turn()
    m.platform.silent = True
    for hours in (1, 2, 3):
        m.turn(hours)
    assert sum("does not answer" in said for said in m.said) == 1
    m.platform.silent, m.platform.ended = False, Ended(CANDIDATE, None, 1.0)
    m.turn(4)
    assert m.trigger.history()[0].finished


def test_runs_are_not_asked_for_more_often_than_wanted(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.drift()
    m.turn()
    m.platform.ended = Ended(CANDIDATE, None, 1.0)
    m.turn(5 / 3600)
    assert not m.trigger.history()[0].finished
    m.turn(11 / 3600)
    assert m.trigger.history()[0].finished


def test_what_is_held_begins_when_the_release_is_over(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.platform.live = True
    assert m.drift()["held"]
    m.turn(1)
    assert m.platform.submitted == []
    m.platform.live = False
    m.turn(2)
    assert len(m.platform.submitted) == 1


def test_training_data_that_is_refused_holds_everything_and_shows(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.platform.refused = True
    assert m.drift()["rule"] == "dataQuality"
    shown = {
        s.name: s.value for f in Metrics(m.service).collect() for s in f.samples if s.name.endswith("refused")
    }
    assert shown == {"windlass_retrain_data_refused": 1.0}
    m.platform.refused = False
    m.turn(1)
    assert len(m.platform.submitted) == 1


def test_broken_data_holds_what_was_told_before_it_in_the_same_request(tmp_path: Path) -> None:
    """Verify that one analysis that finds decay and broken data starts no run, whichever it tells first."""
    m = made(tmp_path)
    kinds = ("performanceDecay", "featureDrift", "dataQuality")
    told = m.service.take([Notice(MODEL, kind, "3", None, NOW, None, "", {}) for kind in kinds])
    assert [t["kind"] for t in told] == list(kinds)
    assert not any(t["accepted"] for t in told)
    m.turn(1)
    assert m.platform.submitted == []


def test_a_schedule_retrains_when_nothing_else_did_for_so_long(tmp_path: Path) -> None:
    m = made(tmp_path, schedule=timedelta(days=7))
    m.turn()
    m.turn(24 * 7 - 1)
    assert m.trigger.history() == ()
    m.turn(24 * 7)
    first = m.trigger.history()
    assert [t.cause for t in first] == ["schedule/start"]
    m.turn(24 * 7 + 1)
    assert len(m.trigger.history()) == 1 and len(m.platform.submitted) == 1
    m.trigger.resolved(first[0].id, m.times().at, helped=True, reason="promoted")
    m.turn(24 * 14 - 1)
    assert len(m.trigger.history()) == 1
    # a restart in between forgets nothing
    again = made(tmp_path, schedule=timedelta(days=7))
    again.turn(24 * 14)
    assert [t.cause for t in again.trigger.history()] == ["schedule/start", f"schedule/{first[0].id}"]


def test_a_schedule_that_is_held_is_not_said_at_every_turn(tmp_path: Path) -> None:
    m = made(tmp_path, schedule=timedelta(days=7))
    m.turn()
    m.platform.live = True
    for hours in range(24 * 7, 24 * 7 + 5):
        m.turn(hours)
    assert sum(1 for r in read(m.trigger._path) if r["event"] == "refused") == 1
    m.platform.live = False
    m.turn(24 * 8)
    assert [t.kind for t in m.trigger.history()] == ["schedule"]


def test_a_jump_is_seen_before_a_notice_is_decided(tmp_path: Path) -> None:
    m = made(tmp_path)
    m.drift()
    m.turn()
    m.trigger.resolved(m.trigger.history()[0].id, NOW, helped=True, reason="promoted")
    m.platform.champion_ = "4"
    m.times.hours, m.times.off = 1, timedelta(days=9)
    assert m.drift(champion="4")["rule"] == "cooldown"
    assert any("set forward by 9 days" in said for said in m.said)
    jumps = [s.value for f in Metrics(m.service).collect() for s in f.samples if "clock_jumps" in s.name]
    assert jumps == [1.0]


def test_one_workload_that_is_not_known_refuses_the_request_before_anything_is_written(
    tmp_path: Path,
) -> None:
    m = made(tmp_path)
    with pytest.raises(UsageError, match="'trains' is not watched here; known: flights"):
        m.drift(workload="trains")
    assert not m.trigger._path.exists()


def test_a_workload_whose_registry_is_silent_does_not_keep_another_s_signal_from_being_heard(
    tmp_path: Path,
) -> None:
    m, other = made(tmp_path / "a"), made(tmp_path / "b")

    class Silent(Scripted):
        def champion(self) -> str | None:
            raise RuntimeError("database is locked")

    m.service.watched = {"trains": Watched(m.trigger, Silent(tmp_path)), MODEL: other.service.watched[MODEL]}
    told = [Notice(name, "featureDrift", "3", None, NOW, None, "", {}) for name in ("trains", MODEL)]
    with pytest.raises(WindlassError, match="database is locked"):
        m.service.take(told)
    assert [t.cause for t in other.trigger.history()] == ["featureDrift/3"]


def test_a_log_that_finds_no_room_ends_no_turns(tmp_path: Path) -> None:
    m = made(tmp_path)

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    m.service = Service(m.service.watched, full, read=m.times)
    m.drift()
    m.platform.silent = True
    m.turn()
    assert len(m.platform.submitted) == 1
    m.turn(1)


def test_a_trigger_counts_by_how_far_it_is(tmp_path: Path) -> None:
    m = made(tmp_path)

    def states() -> dict[str, float]:
        family = next(f for f in Metrics(m.service).collect() if f.name == "windlass_retrain_triggers")
        return {s.labels["state"]: s.value for s in family.samples if s.value}

    m.drift()
    assert states() == {"accepted": 1.0}
    m.turn()
    assert set(states()) <= {"submitted", "running"}
    m.turn(1)
    assert states() == {"running": 1.0}
    m.platform.ended = Ended(CANDIDATE, None, 90.0)
    m.turn(2)
    assert states() == {"finished": 1.0}


def test_a_real_run_of_a_process_is_followed(tmp_path: Path) -> None:
    platform = around(tmp_path)
    path = journal.path(Settings(home=tmp_path, project=tmp_path))
    trigger = Trigger(MODEL, RetrainPolicy(), path, platform.submit)
    service = Service({MODEL: Watched(trigger, platform)}, lambda _: None, follow_every_s=0.0)
    service.take([Notice(MODEL, "featureDrift", "3", None, datetime.now(UTC), None, "", {})])
    deadline = time.monotonic() + WAIT_S
    while not all(t.finished for t in trigger.history()):
        assert time.monotonic() < deadline
        service.turn()
    assert platform.released == ["4"]


def test_an_exit_tasks_word_has_the_run_asked_for_at_once_and_closes_nothing(tmp_path: Path) -> None:
    """Verify that the run is looked up before its time, and that a word which is wrong ends no trigger."""
    m = made(tmp_path)
    m.turn()
    m.drift()
    m.turn()
    m.turn()
    m.service.run_ended(RunEnded(MODEL, m.platform.submitted[0], "FAILED", "says who"))
    m.turn()
    assert not m.trigger.history()[0].finished, "the run itself goes on"
    m.platform.ended = Ended(CANDIDATE, None, 90.0)
    m.turn()
    assert not m.trigger.history()[0].finished, "it was asked for a moment ago"
    m.service.run_ended(RunEnded(MODEL, m.platform.submitted[0], "SUCCEEDED", ""))
    m.turn()
    assert m.trigger.history()[0].version == "4"


def test_a_policy_that_changes_is_in_force_from_the_next_turn(tmp_path: Path) -> None:
    m = made(tmp_path, signals=("manual",))

    class Source:
        def refresh(self) -> None:
            m.trigger.policy = RetrainPolicy(cooldown=timedelta(days=1))

        def said(self) -> dict[str, Any]:
            return {"policies": {MODEL: {"name": "p", "generation": 2}}}

    watched = {MODEL: Watched(m.trigger, m.platform)}
    m.service = Service(watched, m.said.append, read=m.times, policies=Source())
    assert m.drift()["rule"] == "kind"
    m.turn()
    m.times.hours += 1
    assert m.drift()["accepted"]
    told = m.service.account()
    assert told["policies"][MODEL]["generation"] == 2
    assert told["workloads"][MODEL]["lastTrigger"] == m.trigger.history()[0].id
