"""A model whose journals cannot be read: what is said, and what a person can still have done."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from serving.release.traffic import Traffic
from tests.unit.operator.model_stage import Stage
from windlass.errors import WindlassError
from windlass.operator.marks import FINALIZER


def spoiled(stage: Stage) -> dict[str, Any]:
    """Have a newer operator's field in every state that the journals hold; the journals as they were."""
    before = {}
    for path, found in stage.state.objects.items():
        if "releasejournals" not in path or not found["spec"]["records"][0].startswith("{"):
            continue  # what is over is packed, and nobody reads it here
        before[path] = copy.deepcopy(found)
        records = [json.loads(record) for record in found["spec"]["records"]]
        for record in records:
            record.get("state", {})["ofTomorrow"] = 1
        found["spec"]["records"] = [json.dumps(record) for record in records]
    return before


def test_a_journal_that_cannot_be_read_is_told_and_a_person_can_end_its_release() -> None:
    """Verify that the status says that nobody judges, that an abort moves the traffic all the same, and that it is
    decided once the journal is read again."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    before = spoiled(stage)
    stage.restarted()
    with pytest.raises(WindlassError, match="cannot be read"):
        stage.model.turn()
    assert stage.conditions("flights-13")["Degraded"] == ("True", "JournalUnreadable")
    assert stage.conditions("flights-13")["Available"] == ("Unknown", "JournalUnreadable")
    assert "JournalUnreadable" in stage.events()
    assert stage.router().weights == {"12": 90, "13": 10}
    stage.command("flights-13", "abort")
    for _ in range(2):
        with pytest.raises(WindlassError, match="cannot be read"):
            stage.model.turn()
    assert stage.router().weights == {"12": 100}
    stage.state.objects.update(before)
    stage.restarted().turn()
    assert stage.phase("flights-13") == "Aborted" and stage.router().weights == {"12": 100}
    assert stage.conditions("flights-13")["Degraded"] == ("False", "Well")
    assert stage.release("flights-13")["status"]["handledCommand"] == "abort"


@pytest.mark.parametrize(
    ("command", "champion"), [("rollback", "12"), ("rollback:11", "11"), ("pause", None), (None, "12")]
)
def test_what_a_person_may_want_of_a_release_without_a_journal(
    command: str | None, champion: str | None
) -> None:
    """Verify that traffic goes back at their word, that a deletion lets go, and that a pause changes nothing."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    spoiled(stage)
    if command is None:
        stage.delete("flights-13")
    else:
        stage.command("flights-13", command)
    with pytest.raises(WindlassError, match="cannot be read"):
        stage.restarted().turn()
    assert stage.router().weights == ({"12": 90, "13": 10} if champion is None else {champion: 100})
    if command is None:
        assert FINALIZER not in stage.release("flights-13")["metadata"].get("finalizers", ())


def unread(stage: Stage, turns: int = 1) -> None:
    for _ in range(turns):
        with pytest.raises(WindlassError, match="cannot be read"):
            stage.model.turn()


def after_a_promotion() -> Stage:
    """A stage where version 12 was promoted over 11, 13 is live with 10 %, and no journal can be read."""
    stage = Stage()
    stage.registry.champion = "11"
    stage.apply("flights-12")
    stage.model.turn()
    stage.command("flights-12", "promote")
    stage.model.turn()
    stage.apply("flights-13", "2026-03-01T11:10:00Z")
    stage.model.turn()
    assert stage.router().weights == {"12": 90, "13": 10}
    spoiled(stage)
    stage.restarted()
    return stage


@pytest.mark.parametrize("command", ["abort", "rollback", "rollback:11", "promote"])
def test_a_release_that_is_over_is_told_nothing_while_its_journal_cannot_be_read(command: str) -> None:
    """Verify that what was promoted before the live release takes nobody's traffic back: of its champion nobody knows
    whether it is one by now."""
    stage = after_a_promotion()
    stage.command("flights-12", command)
    unread(stage, 2)
    assert stage.router().weights == {"12": 90, "13": 10}
    assert "waits until the journal is read" in stage.release("flights-12")["status"]["message"]
    stage.command("flights-13", "abort")
    unread(stage)
    assert stage.router().weights == {"12": 100}


def test_a_version_without_servers_gets_no_traffic_while_the_journal_cannot_be_read() -> None:
    """Verify that a rollback to a version waits for its servers, that one which can have none is said, and that what
    is said goes on with what becomes of it, while an Event tells of the journal once."""
    stage = after_a_promotion()
    stage.servers.starting.add("99")
    stage.command("flights-13", "rollback:99")
    unread(stage)
    assert stage.router().weights == {"12": 90, "13": 10}
    assert "rollback:99 waits: version 99: no pods yet" in stage.release("flights-13")["status"]["message"]
    stage.servers.starting.clear()
    unread(stage)
    assert stage.router().weights == {"99": 100}
    assert stage.release("flights-13")["status"]["message"].startswith(
        "version 99 has all traffic; the journal"
    )
    stage.command("flights-13", "rollback:no name")
    unread(stage)
    assert stage.router().weights == {"99": 100}
    assert "rollback:no name: " in stage.release("flights-13")["status"]["message"]
    assert stage.events().count("JournalUnreadable") == 1


def test_a_command_without_a_journal_is_told_once() -> None:
    """Verify that a route which a person repairs afterwards is left to them, and that the command may come again."""
    stage = after_a_promotion()
    stage.command("flights-13", "abort")
    stage.router().silent = 1
    unread(stage, 3)
    assert stage.router().weights == {"12": 100} and stage.router().told[-2:] == [{"12": 100}] * 2
    stage.router().now = Traffic({"11": 100})
    told = len(stage.router().told)
    unread(stage, 3)
    assert stage.router().weights == {"11": 100} and len(stage.router().told) == told
    stage.command("flights-13", "")
    unread(stage)
    stage.command("flights-13", "abort")
    unread(stage)
    assert stage.router().weights == {"12": 100}


def test_a_router_that_refuses_is_said_where_the_journal_cannot_be_read() -> None:
    """Verify that both are said, that it is tried again, and that a deletion waits for it."""
    stage = after_a_promotion()
    stage.router().refuses = "not accepted by its Gateway"
    stage.command("flights-13", "abort")
    unread(stage)
    said = stage.release("flights-13")["status"]["message"]
    assert "abort: not accepted by its Gateway" in said and "cannot be read" in said
    stage.delete("flights-13")
    unread(stage)
    assert FINALIZER in stage.release("flights-13")["metadata"]["finalizers"]
    stage.router().refuses = None
    unread(stage)
    assert stage.router().weights == {"12": 100}
    assert FINALIZER not in stage.release("flights-13")["metadata"].get("finalizers", ())
