"""What is on the wire is not asked at every look, and never believed after a change."""

from __future__ import annotations

import contextlib

import pytest

from serving.release.backend import RejectedError, UnconfirmedError
from serving.release.traffic import Traffic
from windlass.operator.backends import Remembered

OLD, NEW = Traffic({"12": 100}), Traffic({"12": 90, "13": 10})


class Wire:
    """A router that counts how often it is asked; `meanwhile` is called while it answers."""

    def __init__(self) -> None:
        self.now, self.asked, self.meanwhile = OLD, 0, lambda: None
        self.fails: Exception | None = None

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.now = traffic
        self.meanwhile()
        if self.fails is not None:
            raise self.fails

    def traffic(self, model: str) -> Traffic | None:
        self.asked += 1
        found = self.now
        self.meanwhile()
        return found


def test_it_is_asked_once_until_its_time_is_over() -> None:
    """Verify that a look costs no question for a while, and does after it."""
    wire, now = Wire(), [0.0]
    found = Remembered(wire, 60.0, clock=lambda: now[0])
    assert [found.traffic("flights") for _ in range(5)] == [OLD] * 5 and wire.asked == 1
    now[0] = 61.0
    assert found.traffic("flights") == OLD and wire.asked == 2


def test_a_change_is_seen_at_once() -> None:
    """Verify that our own act and somebody's edit are both asked for."""
    wire = Wire()
    found = Remembered(wire, 60.0)
    found.traffic("flights")
    found.set_traffic("flights", NEW)
    assert found.traffic("flights") == NEW
    wire.now, changes = OLD, found.changes
    found.forget()
    assert found.traffic("flights") == OLD and found.changes > changes


def test_an_answer_that_is_older_than_a_change_is_not_kept() -> None:
    """Verify that an edit which is told while the old answer is on its way is not missed."""
    wire = Wire()
    found = Remembered(wire, 60.0)

    def edited() -> None:
        wire.now, wire.meanwhile = NEW, lambda: None
        found.forget()

    wire.meanwhile = edited
    assert found.traffic("flights") == OLD
    assert found.traffic("flights") == NEW


def test_a_change_that_is_told_while_an_answer_is_kept_is_not_missed() -> None:
    """Verify the last moment: the answer has been found new enough, and is about to be remembered."""
    wire = Wire()
    told: list[str] = []

    class Raced(Remembered):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "_known" and value is not None and not told:
                told.append(name)
                wire.now = NEW
                self.forget()
            super().__setattr__(name, value)

    found = Raced(wire, 60.0)
    assert found.traffic("flights") == OLD and told
    assert found.traffic("flights") == NEW


@pytest.mark.parametrize(
    ("fails", "awaits"),
    [(None, False), (UnconfirmedError("not yet"), True), (RejectedError("no"), False)],
    ids=["confirmed", "unconfirmed", "refused"],
)
def test_a_word_is_waited_for_from_the_telling_on(fails: Exception | None, awaits: bool) -> None:
    """Verify that a word which comes while the router is told is one that is waited for."""
    wire, meanwhile = Wire(), []
    found = Remembered(wire, 60.0)
    wire.meanwhile, wire.fails = lambda: meanwhile.append(found.awaits), fails
    with contextlib.suppress(UnconfirmedError, RejectedError):
        found.set_traffic("flights", NEW)
    assert meanwhile == [True] and found.awaits is awaits
