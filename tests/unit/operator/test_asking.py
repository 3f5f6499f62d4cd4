"""A person's command from outside of the cluster, beside the real turns of the operator: never more said than is so."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from serving.release.cluster.kinds import EVENT, RELEASE
from tests.unit.operator.model_stage import Stage
from windlass.errors import UsageError, WindlassError
from windlass.operator import asking


class Person:
    """Asks; while she waits the operator has its turns, of which some fail."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def says(
        self, wanted: str, name: str | None = None, meanwhile: Callable[[], None] | None = None
    ) -> asking.Answer:
        stage = self.stage

        def turn(seconds: float) -> None:
            if meanwhile is not None:
                meanwhile()
                return
            body = stage.state.objects[RELEASE.path("team", release["metadata"]["name"])]
            stage.objects.learn(body)
            with contextlib.suppress(WindlassError):  # a turn that fails is tried again at the next look
                stage.model.turn()

        ticks = itertools.count()
        release = stage.release(name) if name else asking.newest(stage.api, "team", "flights")
        return asking.command(
            stage.api,
            "team",
            release,
            wanted,
            "ana",
            within_s=20,
            sleep=turn,
            passed=lambda: float(next(ticks)),
        )


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.apply("flights-13")
    made.model.turn()
    return made


def test_what_is_carried_out_is_in_force_when_it_is_answered(stage: Stage) -> None:
    answer = Person(stage).says("abort")
    assert answer.ignored is None and answer.heard
    assert (asking.phase(answer.release), stage.router().weights) == ("Aborted", {"12": 100})
    assert stage.release("flights-13")["status"]["handledCommand"] == "abort"


def test_a_router_that_refuses_is_no_success(stage: Stage) -> None:
    """Verify that a decision that is not in force is told as such, with the router's reason, and stays wanted."""
    stage.router().refuses = "no backend of that name"
    with pytest.raises(
        WindlassError, match=r"not carried out after 20 s \(Aborted; .*no backend of that name"
    ) as told:
        Person(stage).says("abort")
    assert not isinstance(told.value, UsageError)
    assert stage.release("flights-13")["metadata"]["annotations"]["windlass.dev/command"] == "abort"
    stage.router().refuses = None
    assert asking.phase(Person(stage).says("abort").release) == "Aborted"
    assert stage.router().weights == {"12": 100}


def test_what_makes_no_sense_is_refused_with_the_operators_reason(stage: Stage) -> None:
    with pytest.raises(UsageError, match=r"fly is refused: .* is no command"):
        Person(stage).says("fly")
    with pytest.raises(UsageError, match="promote:99 is refused: "):
        Person(stage).says("promote:99")
    assert stage.phase("flights-13") == "Progressing"
    Person(stage).says("pause")
    again = Person(stage).says("pause")
    assert again.ignored and asking.phase(again.release) == "Paused"
    # an old answer is not taken for a new one's
    assert Person(stage).says("resume").ignored is None


def test_a_command_that_another_one_took_the_place_of_is_not_told_as_done(stage: Stage) -> None:
    with pytest.raises(UsageError, match="promote was put on it in place of pause"):
        Person(stage).says("pause", meanwhile=lambda: stage.command("flights-13", "promote"))


def test_a_release_that_goes_meanwhile_is_said(stage: Stage) -> None:
    path = RELEASE.path("team", "flights-13")
    with pytest.raises(UsageError, match="is gone, and pause with it"):
        Person(stage).says("pause", meanwhile=lambda: stage.state.remove(path))


def test_who_may_not_read_events_is_not_told_that_it_was_carried_out(stage: Stage) -> None:
    """Verify that a command that may have been refused is not reported as a success."""
    listing = ("GET", EVENT.path("team"))
    stage.state.forbids = lambda asked: "events" if (asked.method, asked.path) == listing else None
    assert not Person(stage).says("promote:99").heard


def test_a_command_is_for_the_newest_that_has_begun() -> None:
    stage = Stage()
    with pytest.raises(UsageError, match="no release of model 'flights' has begun in namespace team;"):
        asking.newest(stage.api, "team", "flights")
    stage.apply("flights-13")
    with pytest.raises(UsageError, match="flights-13 is not seen yet"):
        asking.newest(stage.api, "team", "flights")
    stage.model.turn()
    stage.apply("flights-14", created="2026-03-01T11:30:00Z", onConflict="queue")
    stage.model.turn()
    assert stage.phase("flights-14") == "Queued"
    found = asking.newest(stage.api, "team", "flights")
    assert found["metadata"]["name"] == "flights-13"
    known = asking.releases(stage.api, "team")
    assert [o["metadata"]["name"] for o in asking.shown(known)] == ["flights-13", "flights-14"]


def body(name: str, phase: str, uid: str, model: str = "flights") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid}, "spec": {"model": model}, "status": {"phase": phase}}


def test_of_what_is_over_the_newest_of_each_model_is_shown() -> None:
    known = [
        body("a", "Promoted", "1"),
        body("b", "RolledBack", "2", "taxis"),
        body("c", "Refused", "3"),
        body("d", "Pending", "4"),
        body("e", "", "5", "taxis"),
    ]
    assert [o["metadata"]["name"] for o in asking.shown(known)] == ["b", "c", "d", "e"]
