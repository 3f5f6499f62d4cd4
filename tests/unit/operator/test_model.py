"""The turns of one model's releases: nothing sleeps that is wanted, nothing is said that is not so."""

from __future__ import annotations

from tests.unit.operator.model_stage import Stage


def promoted(stage: Stage, name: str = "flights-13", **stated: object) -> None:
    """Have a release promoted and freed."""
    stage.apply(name, **stated)
    stage.model.turn()
    stage.command(name, "promote")
    stage.model.turn()
    assert stage.phase(name) == "Promoted"


def test_a_command_that_waits_for_servers_is_looked_at_again() -> None:
    """Verify that a rollback of a release that is over does not sleep until the servers of its version answer."""
    stage = Stage()
    promoted(stage)
    stage.servers.starting.add("11")
    stage.command("flights-13", "rollback:11")
    assert stage.model.turn() is not None
    assert stage.conditions("flights-13")["Degraded"] == ("True", "CommandWaits")
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.router().weights == {"11": 100} and stage.registry.champion == "11"
    assert stage.release("flights-13")["status"]["handledCommand"] == "rollback:11"
