"""A rollback that is told to another release of the model than the newest."""

from __future__ import annotations

from typing import Any

import pytest

from serving.release import spec
from tests.unit.operator.model_stage import KEY, Stage
from windlass.errors import WindlassError


def tried(*, deleted: bool = False) -> Stage:
    """A stage where version 13 was promoted, 14 was tried and rolled back, and 13 turns out to be bad."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.command("flights-13", "promote")
    stage.model.turn()
    stage.apply("flights-14", created="2026-03-01T11:10:00Z")
    stage.model.turn()
    stage.command("flights-14", "rollback")
    stage.model.turn()
    assert stage.router().weights == {"13": 100} and stage.phase("flights-14") == "RolledBack"
    if deleted:
        stage.delete("flights-14")
        stage.model.turn()
    return stage


def notes(stage: Stage, reason: str) -> list[str]:
    return [o["note"] for o in stage.state.objects.values() if o.get("reason") == reason]


@pytest.mark.parametrize("silent", [0, 2], ids=["the-router-speaks-at-once", "the-router-is-silent"])
@pytest.mark.parametrize("command", ["rollback", "rollback:12"])
@pytest.mark.parametrize("deleted", [False, True], ids=["the-newest-is-there", "the-newest-is-gone"])
def test_what_an_older_release_promoted_can_be_taken_back(command: str, deleted: bool, silent: int) -> None:
    """Verify traffic, alias and what is told, once."""
    stage = tried(deleted=deleted)
    stage.command("flights-13", command)
    told = len(stage.router().told)
    stage.router().silent = silent
    for _ in range(silent + 2):
        stage.model.turn()
    assert stage.router().weights == {"12": 100} and stage.registry.champion == "12"
    assert stage.router().told[told:] == [{"12": 100}] * (silent + 1)
    assert not notes(stage, "CommandRefused") + notes(stage, "CommandIgnored")
    assert stage.release("flights-13")["status"]["handledCommand"] == command
    assert not stage.release("flights-13")["metadata"].get("annotations")
    assert stage.phase("flights-13") == "Promoted"
    assert (
        len(notes(stage, "CommandCarriedOut")) == 1 and "flights-14" in notes(stage, "CommandCarriedOut")[0]
    )
    if not deleted:
        newest: dict[str, Any] = stage.release("flights-14")["status"]
        assert newest["weights"]["12"] == 100 and newest["phase"] == "RolledBack"
        assert stage.conditions("flights-14")["Available"] == ("True", "InForce")
    # and it is from there that the next one begins
    stage.apply("flights-15", created="2026-03-01T11:20:00Z")
    stage.model.turn()
    assert stage.router().weights == {"12": 90, "15": 10}


def test_a_process_that_crashed_after_it_decided_does_not_decide_again() -> None:
    """Verify that another process finds the decision in the newest release's journal."""
    stage = tried()
    stage.state.forbids = lambda asked: (
        "no" if asked.method == "PATCH" and asked.path.endswith("/flights-13/status") else None
    )
    stage.command("flights-13", "rollback:12")
    with pytest.raises(WindlassError, match="no"):
        stage.model.turn()
    assert stage.router().weights == {"12": 100}
    stage.state.forbids = lambda asked: None
    stage.restarted()
    stage.model.turn()
    (seen,) = (each for each in stage.objects.of(KEY) if each.name == "flights-14")
    newest = spec.parse(seen.document)
    decided = [r for r in stage.place.records(newest) if r["kind"] == "decision"]
    assert [record["action"] for record in decided] == ["start", "roll_back", "roll_back"]
    assert stage.release("flights-13")["status"]["handledCommand"] == "rollback:12"


def test_it_waits_for_servers_at_the_object_that_it_was_told_to() -> None:
    """Verify that the older release keeps its phase and says what is waited for."""
    stage = tried()
    stage.servers.starting.add("11")
    stage.command("flights-13", "rollback:11")
    assert stage.model.turn() is not None
    assert stage.conditions("flights-13")["Degraded"] == ("True", "CommandWaits")
    assert stage.phase("flights-13") == "Promoted"
    assert stage.release("flights-13")["status"]["candidates"] == ["13"]
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.router().weights == {"11": 100}


def test_a_release_that_has_not_begun_takes_one_to_a_version() -> None:
    """Verify that it is enough where no older one's object is left, and that it says what it waits for and begins."""
    stage = tried(deleted=True)
    stage.delete("flights-13")
    stage.servers.starting |= {"15", "11"}
    stage.apply("flights-15", created="2026-03-01T11:20:00Z")
    stage.model.turn()
    stage.command("flights-15", "rollback:11")
    stage.model.turn()
    assert stage.conditions("flights-15")["Degraded"] == ("True", "CommandWaits")
    assert stage.phase("flights-15") == "Pending" and [seen.name for seen in stage.objects.of(KEY)] == [
        "flights-15"
    ]
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.router().told[-2:] == [{"11": 100}, {"11": 90, "15": 10}]


@pytest.mark.parametrize(
    ("name", "command", "words"),
    [
        ("flights-13", "abort", "flights-14 (RolledBack); this one takes no abort"),
        ("flights-13", "promote", "this one takes no promote"),
        ("refused-16", "rollback:12", "this one takes no rollback"),
        ("waits-15", "rollback", "nothing that release waits-15 promoted has traffic; use rollback:VERSION"),
    ],
)
def test_what_an_older_release_cannot_take_is_refused_with_the_newest(
    name: str, command: str, words: str
) -> None:
    """Verify that the refusal names the newest release, and changes nothing."""
    stage = tried()
    stage.servers.starting.add("15")
    stage.apply("refused-16", backend="local")
    stage.apply("waits-15", created="2026-03-01T11:20:00Z")
    stage.model.turn()
    stage.command(name, command)
    stage.model.turn()
    (said,) = notes(stage, "CommandRefused")
    assert words in said and "flights-14" in said and stage.router().weights == {"13": 100}


def test_a_live_release_is_named_to_who_tells_an_older_one() -> None:
    """Verify that its traffic is not taken from under its checks, and that a rollback of what was undone is refused."""
    stage = tried()
    stage.apply("flights-15", created="2026-03-01T11:20:00Z")
    stage.model.turn()
    stage.command("flights-13", "rollback:12")
    stage.model.turn()
    (said,) = notes(stage, "CommandRefused")
    assert "is flights-15 (Progressing); tell that one" in said
    assert stage.router().weights == {"13": 90, "15": 10}
    stage.command("flights-15", "promote")
    stage.model.turn()
    stage.command("flights-13", "rollback")
    stage.model.turn()
    assert any("nothing that release flights-13 promoted" in each for each in notes(stage, "CommandRefused"))
    assert stage.router().weights == {"15": 100}
