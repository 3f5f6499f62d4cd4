"""What is held back is decided again, what has ended is let go, and nothing is lost in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import Signal
from windlass.contract import RetrainPolicy
from windlass.errors import WindlassError
from windlass.journal import read

NOW = datetime(2013, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIFT = Signal("featureDrift", "featureDrift/3", NOW, {"fingerprint": "f"}, champion="3")
BROKEN = Signal("dataQuality", "dataQuality/3", NOW, {"fingerprint": "q"}, champion="3")


def trigger(path: Path, **policy: Any) -> Trigger:
    stated = RetrainPolicy(**{"cooldown": timedelta(days=1), **policy})
    return Trigger("flights", stated, path / "triggers.jsonl", lambda name, _: name)


def events(path: Path) -> list[str]:
    return [r["event"] for r in read(path / "triggers.jsonl")]


def test_a_signal_held_by_a_release_begins_when_the_release_is_over(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    assert made.offer(DRIFT, NOW, live_release=True).held
    assert made.reconsider(NOW + HOUR, live_release=True) == ()
    assert events(tmp_path) == ["refused"], "what is still held is not written again"
    # by whichever process looks
    decided = trigger(tmp_path).reconsider(NOW + 2 * HOUR, live_release=False)
    assert [(d.accepted, d.rule) for d in decided] == [(True, "accepted")]
    assert len(made.recover(NOW + 2 * HOUR)) == 1
    assert made.reconsider(NOW + 3 * HOUR, live_release=False) == ()


def test_of_several_that_are_held_one_begins_and_the_others_wait_for_it(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    later = Signal("predictionDrift", "predictionDrift/3", NOW + HOUR)
    for signal in (later, DRIFT):
        made.offer(signal, NOW + HOUR, live_release=True)
    decided = made.reconsider(NOW + 2 * HOUR, live_release=False)
    assert len(decided) == 1 and made.history()[0].cause == "featureDrift/3", "the oldest"
    assert list(made.state().held) == ["predictionDrift/3"]


def test_an_alert_that_ended_takes_what_it_held_with_it(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.offer(DRIFT, NOW, live_release=True)
    made.clear("featureDrift", "3", NOW, NOW + HOUR, NOW + HOUR, "other")
    assert made.state().held, "another alert of the same incident"
    made.clear("featureDrift", "3", NOW, NOW + HOUR, NOW + HOUR, "f")
    assert not made.state().held
    assert made.offer(DRIFT, NOW + 2 * HOUR, live_release=False).rule == "stale", "delivered after its end"
    again = replace(DRIFT, at=NOW + 2 * HOUR)
    assert made.offer(again, NOW + 2 * HOUR, live_release=False).accepted, "it burns again"


def test_an_end_never_begins_anything(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.clear("featureDrift", "3", NOW, NOW + HOUR, NOW + HOUR, "f")
    assert made.history() == () and events(tmp_path) == ["cleared"]


def test_data_that_fails_holds_everything_until_it_is_in_order(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    decision = made.offer(BROKEN, NOW, live_release=False)
    assert (decision.rule, decision.held, decision.escalate) == ("dataQuality", False, True)
    assert made.offer(DRIFT, NOW, live_release=False).rule == "dataQuality"
    assert made.reconsider(NOW + HOUR, live_release=False) == ()
    made.clear("dataQuality", "3", NOW, NOW + HOUR, NOW + HOUR, "q")
    assert [d.accepted for d in made.reconsider(NOW + HOUR, live_release=False)] == [True]


def test_a_person_may_say_that_the_data_is_in_order(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.offer(BROKEN, NOW, live_release=False)
    made.repaired(NOW + HOUR)
    assert made.offer(DRIFT, NOW + HOUR, live_release=False).accepted


def test_a_signal_about_a_champion_that_was_replaced_is_let_go(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.offer(DRIFT, NOW, live_release=True, champion="3")
    decided = made.reconsider(NOW + HOUR, live_release=False, champion="4")
    assert [(d.accepted, d.rule) for d in decided] == [(False, "stale")]
    assert not made.state().held


def test_what_was_held_by_a_clock_that_was_ahead_is_let_go_once(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    ahead = NOW + timedelta(days=9)
    made.offer(replace(DRIFT, at=ahead), ahead, live_release=True, champion="3")
    # the machine was started anew meanwhile: nothing tells that the clock was wrong
    later = ahead - timedelta(seconds=30)
    for _ in range(3):
        made.reconsider(later, live_release=False, champion="4")
    assert events(tmp_path) == ["refused", "refused"] and not made.state().held


def test_an_old_alert_does_not_take_the_place_of_a_newer_one(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    newer = replace(DRIFT, at=NOW + HOUR)
    made.offer(newer, NOW + HOUR, live_release=True)
    made.offer(DRIFT, NOW + 2 * HOUR, live_release=True)
    assert made.state().held["featureDrift/3"].at == NOW + HOUR


def test_partitions_add_up_until_they_are_enough(tmp_path: Path) -> None:
    made = trigger(tmp_path, new_rows=100.0)

    def partition(number: int, rows: int | None) -> Signal:
        detail = {} if rows is None else {"new_rows": rows}
        return Signal("newData", f"newData/{number}", NOW + number * HOUR, detail)

    assert made.offer(partition(1, 60), NOW + HOUR, live_release=False).rule == "volume"
    assert made.offer(partition(1, 60), NOW + HOUR, live_release=False).rule == "volume", "the same one"
    assert made.offer(partition(2, 40), NOW + 2 * HOUR, live_release=False).accepted
    made.resolved(made.history()[0].id, NOW + 2 * HOUR, helped=True, reason="promoted")
    assert made.offer(partition(3, 99), NOW + 50 * HOUR, live_release=False).rule == "volume", "from nothing"


def test_of_partitions_that_wait_the_newest_is_trained_on(tmp_path: Path) -> None:
    """Verify that daily partitions and a long cool-down do not make every run one of the oldest that waits."""
    made = trigger(tmp_path, cooldown=timedelta(days=30))

    def partition(day: int) -> Signal:
        return Signal("newData", f"newData/{day}", NOW + timedelta(days=day), {"new_rows": 10})

    made.offer(partition(0), NOW, live_release=False)
    made.resolved(made.history()[0].id, NOW + HOUR, helped=True, reason="promoted")
    for day in (*range(1, 29), 29, 5):
        made.offer(partition(day), NOW + timedelta(days=max(day, 29)), live_release=False)
    assert list(made.state().held) == ["newData/29"]
    made.reconsider(NOW + timedelta(days=30), live_release=False)
    assert [t.cause for t in made.history()] == ["newData/0", "newData/29"]
    assert not made.state().held


def test_rows_that_a_run_was_made_of_are_not_new_when_they_are_told_of_again(tmp_path: Path) -> None:
    made = trigger(tmp_path, new_rows=100.0, cooldown=timedelta(0))
    first = Signal("newData", "newData/1", NOW, {"new_rows": 120})
    assert made.offer(first, NOW, live_release=False).accepted
    assert made.offer(first, NOW, live_release=False).rule == "duplicate"
    made.resolved(made.history()[0].id, NOW + HOUR, helped=True, reason="promoted")
    few = Signal("newData", "newData/2", NOW + 2 * HOUR, {"new_rows": 5})
    assert made.offer(few, NOW + 2 * HOUR, live_release=False).rule == "volume"


def test_a_share_is_of_the_rows_that_there_were(tmp_path: Path) -> None:
    made = trigger(tmp_path, new_rows=0.1)
    few = Signal("newData", "newData/a", NOW, {"new_rows": 90, "rows": 1090})
    enough = Signal("newData", "newData/b", NOW, {"new_rows": 10, "rows": 1100})
    assert made.offer(few, NOW, live_release=False).rule == "volume"
    assert made.offer(enough, NOW, live_release=False).accepted


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.offer(DRIFT, NOW, live_release=True)
    path = tmp_path / "triggers.jsonl"
    path.write_text(path.read_text() + "no record\n")
    with pytest.raises(WindlassError, match="line 2 is no record"):
        made.history()


def test_a_journal_of_an_earlier_version_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "triggers.jsonl"
    path.write_text(
        '{"event":"accepted","workload":"flights","id":"t","at":"2013-05-31T00:00:00+00:00","kind":"featureDrift",'
        '"cause":"featureDrift/2","signal_at":"2013-05-31T00:00:00+00:00","detail":{},"rule":"accepted",'
        '"reason":"r","escalate":false}\n'
        '{"event":"resolved","workload":"flights","id":"t","at":"2013-05-31T09:00:00+00:00","helped":true,"reason":"p"}\n'
    )
    made = trigger(tmp_path)
    assert made.history()[0].helped is True
    assert made.offer(DRIFT, NOW, live_release=False).accepted


def test_a_journal_that_was_put_back_from_a_copy_is_read_anew(tmp_path: Path) -> None:
    made = trigger(tmp_path)
    made.offer(DRIFT, NOW, live_release=True)
    path = tmp_path / "triggers.jsonl"
    before = path.read_bytes()
    made.offer(replace(DRIFT, cause="featureDrift/3#1"), NOW, live_release=True)
    assert len(made.state().held) == 2
    path.unlink()
    path.write_bytes(before)
    assert len(made.state().held) == 1
