"""The turns of one model's releases: nothing sleeps that is wanted, nothing is said that is not so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serving.release.cluster import naming
from serving.release.cluster.kinds import HTTP_ROUTE, RELEASE
from tests.unit.operator.model_stage import KEY, SETTINGS, Stage
from windlass.errors import WindlassError
from windlass.operator import model
from windlass.operator.marks import FINALIZER
from windlass.operator.model import CONFIRM_EVERY_S
from windlass.operator.releases import Releases


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


def test_a_way_back_waits_for_a_kept_version_that_is_scaled_to_zero_and_leaves_others_as_they_are() -> None:
    """Verify that the champion before gets no traffic while nothing of it runs, and is not made anew where it does."""
    stage = Stage()
    promoted(stage)
    stage.servers.idle.add("12")
    stage.command("flights-13", "rollback")
    stage.model.turn()
    assert stage.router().weights == {"13": 100}
    assert "scaled to 0" in stage.release("flights-13")["status"]["conditions"][-1]["message"]
    stage.servers.idle.clear()
    stage.servers.outdated.add("12")
    stage.model.turn()
    assert stage.router().weights == {"12": 100} and stage.servers.outdated == {"12"}


def test_a_command_that_waits_is_said_once_by_a_live_release() -> None:
    """Verify that the status of a release which is looked at meanwhile does not go back and forth."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.servers.starting.add("11")
    stage.command("flights-13", "rollback:11")
    stage.model.turn()
    assert stage.conditions("flights-13")["Degraded"] == ("True", "CommandWaits")
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")
    before = stage.release("flights-13")["metadata"]["resourceVersion"]
    stage.model.turn()
    assert stage.release("flights-13")["metadata"]["resourceVersion"] == before
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.phase("flights-13") == "RolledBack" and stage.router().weights == {"11": 100}


def test_a_first_step_that_the_router_refuses_is_told_at_once() -> None:
    """Verify that a canary that gets no traffic is degraded after the first try: a try may wait for minutes."""
    stage = Stage()
    stage.apply("flights-13")
    stage.router().refuses = "the canary gets no traffic"
    with pytest.raises(WindlassError, match="gets no traffic"):
        stage.model.turn()
    assert stage.conditions("flights-13")["Degraded"] == ("True", "ActFailed")
    assert stage.conditions("flights-13")["Available"] == ("False", "NotInForce")


def test_an_abort_that_the_router_refuses_is_not_in_force() -> None:
    """Verify that the status says so at every try, and what is so once the router takes it; and that it is no news."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().refuses = "no backend of that name"
    stage.command("flights-13", "abort")
    for _ in range(3):
        with pytest.raises(WindlassError, match="no backend"):
            stage.model.turn()
        assert stage.router().weights == {"12": 90, "13": 10} and stage.phase("flights-13") == "Aborted"
        assert stage.conditions("flights-13")["Available"] == ("False", "NotInForce")
        assert stage.conditions("flights-13")["Degraded"] == ("True", "ActFailed")
    stage.router().refuses = None
    stage.model.turn()
    assert stage.router().weights == {"12": 100}
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")
    assert stage.conditions("flights-13")["Degraded"] == ("False", "Well")
    assert stage.release("flights-13")["status"]["handledCommand"] == "abort"
    assert not {"CommandIgnored", "CommandRefused"} & set(stage.events())


def test_what_another_process_could_not_undo_is_not_in_force() -> None:
    """Verify it after a restart, where nothing is remembered of who decided."""
    stage = Stage()
    promoted(stage)
    stage.router().refuses = "no backend of that name"
    stage.command("flights-13", "rollback")
    for _ in range(2):
        with pytest.raises(WindlassError, match="no backend"):
            stage.model.turn()
        assert stage.conditions("flights-13")["Available"] == ("False", "NotInForce")
        stage.restarted()
    stage.router().refuses = None
    stage.model.turn()
    assert stage.router().weights == {"12": 100} and stage.registry.champion == "12"
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")


def test_a_way_back_that_is_refused_leaves_another_one() -> None:
    """Verify that a rollback to a third version overtakes an abort that the router does not take."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().refuses = "no backend of that name"
    stage.command("flights-13", "abort")
    with pytest.raises(WindlassError):
        stage.model.turn()
    stage.command("flights-13", "rollback:11")
    stage.router().refuses_all_but = "11"
    stage.model.turn()
    assert stage.router().weights == {"11": 100} and stage.phase("flights-13") == "RolledBack"
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")


def test_a_way_back_that_the_router_refuses_is_not_in_force() -> None:
    """Verify that a release which gave up says that its way back is not in force either."""
    stage = Stage()
    stage.router().refuses = "no backend of that name"
    stage.apply("flights-13")
    for _ in range(8):
        try:
            stage.model.turn()
        except WindlassError:
            continue
    assert stage.phase("flights-13") == "Aborted"
    assert stage.conditions("flights-13")["Available"] == ("False", "NotInForce")
    assert stage.conditions("flights-13")["Degraded"] == ("True", "ActFailed")


def test_a_promotion_that_the_registry_refuses_is_not_in_force() -> None:
    """Verify that a version which MLflow does not know is no refusal of the command: the traffic has moved."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.registry.unknown.add("13")
    stage.command("flights-13", "promote")
    for _ in range(2):
        with pytest.raises(WindlassError, match="knows no version 13"):
            stage.model.turn()
        assert stage.conditions("flights-13")["Degraded"] == ("True", "ActFailed")
    assert "CommandRefused" not in stage.events()


def test_an_end_that_no_router_takes_is_given_up_at_a_persons_word() -> None:
    """Verify that a Gateway which is gone keeps neither the deletion waiting nor the next release, once somebody says
    so, and that a live release is not given up."""
    stage = Stage()
    stage.apply("flights-13", gateway={"name": "old"})
    stage.model.turn()
    stage.router("old").refuses = "not accepted by Gateway old"
    stage.command("flights-13", "give-up")
    stage.model.turn()
    assert "CommandRefused" in stage.events() and stage.phase("flights-13") == "Progressing"
    stage.delete("flights-13")
    stage.apply("flights-14", "2026-03-01T11:10:00Z", gateway={"name": "new"})
    for _ in range(2):
        with pytest.raises(WindlassError, match="not accepted"):
            stage.model.turn()
    stage.command("flights-13", "give-up")
    stage.restarted().turn()
    assert "GivenUp" in stage.events()
    assert FINALIZER not in stage.release("flights-13")["metadata"].get("finalizers", ())
    stage.model.turn()
    assert stage.router("new").weights == {"12": 90, "14": 10}


@pytest.mark.parametrize("restarts", [False, True], ids=["one-process", "another-process"])
@pytest.mark.parametrize("ended", ["abort", "rollback"])
def test_of_what_was_given_up_nobody_says_that_it_is_in_force(ended: str, restarts: bool) -> None:
    """Verify that the status says that it is not known what the router does, of a release that was live and of one
    that was over and freed, in this process and another, also where the same command comes once more; and that a
    later decision is in force again."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    if ended == "rollback":
        stage.command("flights-13", "promote")
        stage.model.turn()
    stage.router().refuses = "not accepted by its Gateway"
    stage.command("flights-13", ended)
    with pytest.raises(WindlassError, match="not accepted"):
        stage.model.turn()
    assert stage.conditions("flights-13")["Available"] == ("False", "NotInForce")
    for command in ("give-up", ended, "pause", "give-up"):
        if restarts:
            stage.restarted()
        stage.command("flights-13", command)
        stage.model.turn()
        assert stage.conditions("flights-13")["Available"] == ("Unknown", "NotConfirmed"), command
        assert stage.release("flights-13")["status"]["handledCommand"] == command
    assert stage.router().weights == ({"13": 100} if ended == "rollback" else {"12": 90, "13": 10})
    stage.router().refuses = None
    stage.command("flights-13", "rollback:11")
    stage.model.turn()
    assert stage.router().weights == {"11": 100}
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")


def test_a_candidate_that_the_registry_does_not_know_never_begins() -> None:
    """Verify that it is refused before anybody is sent to it: once promoted, nothing could follow it."""
    stage = Stage()
    stage.registry.unknown.add("13")
    stage.apply("flights-13")
    stage.model.turn()
    assert stage.phase("flights-13") == "Refused" and stage.router().weights == {}
    assert "knows no version 13" in stage.release("flights-13")["status"]["message"]


def test_a_command_that_cannot_be_taken_off_keeps_nobody_from_looking() -> None:
    """Verify that the checks of a live release are looked at, at their pace, whatever is in a command's way."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.command("flights-13", "pause")
    stage.state.forbids = lambda asked: (
        "no" if asked.method == "PATCH" and asked.path.endswith("/flights-13") else None
    )
    stage.router().now = None  # somebody took the route away: a look puts it back
    stage.model.forget_the_wire()
    assert stage.model.turn() == SETTINGS.look_every_s
    assert stage.router().weights == {"12": 90, "13": 10} and stage.phase("flights-13") == "Paused"


@pytest.mark.parametrize("starts", [True, False], ids=["its-servers-start", "its-journal-cannot-be-written"])
def test_a_release_that_has_not_begun_takes_nobodys_gateway(starts: bool) -> None:
    """Verify that a rollback goes to the Gateway of the release that has the traffic, not to the next one's."""
    stage = Stage()
    promoted(stage)
    stage.apply("flights-14", gateway={"name": "other"})
    if starts:
        stage.servers.starting.add("14")
        stage.model.turn()
    else:
        stage.state.forbids = lambda asked: (
            "no" if asked.method != "GET" and "releasejournals" in asked.path else None
        )
        with pytest.raises(WindlassError):
            stage.model.turn()
        stage.state.forbids = lambda asked: None
        stage.servers.starting.add("14")
    stage.command("flights-13", "rollback")
    stage.model.turn()
    assert stage.router().weights == {"12": 100} and stage.router("other").told == []


def test_servers_of_a_release_that_never_began_go_with_it() -> None:
    """Verify that who deletes a release whose servers start, or has it refused then, leaves none of them."""
    stage = Stage()
    promoted(stage)
    stage.servers.starting.add("14")
    stage.apply("flights-14")
    stage.model.turn()
    assert "14" in stage.servers.made and stage.phase("flights-14") == "Pending"
    stage.delete("flights-14")
    stage.model.turn()
    assert stage.servers.made == {"12", "13"} and [seen.name for seen in stage.objects.of(KEY)] == [
        "flights-13"
    ]

    stage.servers.starting.add("15")
    stage.apply("flights-15", champion="13")
    stage.model.turn()
    assert "15" in stage.servers.made
    stage.registry.champion = "12"  # somebody moved it meanwhile
    stage.model.turn()
    assert stage.phase("flights-15") == "Refused" and stage.servers.made == {"12", "13"}


def test_who_takes_the_name_of_a_release_that_is_over_does_not_get_its_outcome() -> None:
    """Verify that it is refused for its name, also where it has waited for servers before."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.command("flights-13", "abort")
    stage.model.turn()
    stage.delete("flights-13")
    stage.servers.starting.add("13")
    stage.apply("flights-13", created="2026-03-01T13:00:00Z")
    for _ in range(3):
        stage.model.turn()
        assert stage.phase("flights-13") == "Pending"
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.phase("flights-13") == "Refused"
    assert "is over; give the new one another name" in stage.release("flights-13")["status"]["message"]


def test_servers_that_another_release_needs_stay() -> None:
    """Verify that who deletes one of two releases of a candidate does not take the other's servers away."""
    stage = Stage()
    stage.servers.starting.add("13")
    stage.apply("a-13")
    stage.model.turn()
    stage.apply("b-13")
    stage.delete("a-13")
    stage.model.turn()
    assert [seen.name for seen in stage.objects.of(KEY)] == ["b-13"] and "13" in stage.servers.made
    stage.delete("b-13")
    stage.model.turn()
    assert "13" not in stage.servers.made


def test_a_version_that_can_have_no_servers_is_refused() -> None:
    """Verify that the end of such a release does not ask for its servers' name again."""
    stage = Stage()
    stage.apply("flights-13", candidate="x" * 60)
    stage.model.turn()
    assert stage.phase("flights-13") == "Refused"


def test_an_alias_that_somebody_moved_moves_no_traffic() -> None:
    """Verify that a release does not begin with a champion that nobody released: 90 % would go to it unchecked."""
    stage = Stage()
    promoted(stage)
    stage.registry.champion = "15"
    stage.apply("flights-16")
    stage.model.turn()
    assert stage.phase("flights-16") == "Refused" and stage.router().weights == {"13": 100}
    assert "13 has all of the traffic" in stage.release("flights-16")["status"]["message"]
    assert not {"15", "16"} & stage.servers.made


def test_a_rollback_after_a_promotion_waits_for_the_former_champions_servers() -> None:
    """Verify that it does not go to servers that somebody took away, and that a live release waits for none."""
    stage = Stage()
    promoted(stage)
    stage.servers.starting.add("12")
    stage.command("flights-13", "rollback")
    stage.model.turn()
    assert stage.conditions("flights-13")["Degraded"] == ("True", "CommandWaits")
    assert stage.router().weights == {"13": 100}
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.router().weights == {"12": 100}

    stage.apply("flights-14")
    stage.model.turn()
    stage.servers.starting.add("12")
    for text in ("rollback", "rollback:12"):
        stage.command("flights-14", text)
        stage.model.turn()
        assert stage.phase("flights-14") == "RolledBack" and stage.router().weights == {"12": 100}


def test_no_status_of_what_is_over_is_kept() -> None:
    """Verify that a process which lives for months does not remember every Release that there ever was."""
    stage = Stage()
    promoted(stage)
    stage.apply("flights-14", champion="99")
    stage.model.turn()
    assert stage.phase("flights-14") == "Refused" and stage.place.teller._written == {}


def test_a_queued_document_that_no_rule_takes_any_more_holds_nobody_up() -> None:
    """Verify that what an operator of an older version queued is refused, and the next one begins."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.apply("flights-14", onConflict="queue")
    stage.model.turn()
    assert stage.phase("flights-14") == "Queued"
    name, document = stage.place.store.queued("flights")[0]
    stage.place.store.dequeue("flights", name)
    older = {**document, "spec": {**document["spec"], "strategy": {"type": "of-old"}}}
    stage.place.store.enqueue("flights", name, older, stage.clock.now())
    stage.apply("flights-14", strategy={"type": "of-old"})
    stage.apply("flights-15", onConflict="queue")
    stage.command("flights-13", "abort")
    stage.model.turn()
    assert stage.phase("flights-14") == "Refused" and stage.phase("flights-15") == "Progressing"
    assert stage.place.store.queued("flights") == []


def test_no_turn_waits_for_the_router() -> None:
    """Verify that a turn ends where the router says nothing, that it is asked soon, and that the status says what is
    known: nothing new of a router that speaks at once, else that nothing is known."""
    stage = Stage()
    stage.apply("flights-13")
    stage.router().silent = 3
    pauses = [stage.model.turn() for _ in range(2)]
    assert pauses == [CONFIRM_EVERY_S] * 2 and stage.model.awaits
    assert stage.phase("flights-13") == ""
    assert stage.model.turn() == CONFIRM_EVERY_S
    assert stage.phase("flights-13") == "Progressing"
    assert stage.conditions("flights-13")["Available"] == ("Unknown", "NotConfirmed")
    assert stage.conditions("flights-13")["Degraded"] == ("False", "Well")
    assert stage.model.turn() == SETTINGS.look_every_s and not stage.model.awaits
    assert stage.conditions("flights-13")["Available"] == ("True", "InForce")


@pytest.mark.parametrize(
    ("command", "phase", "champion"), [("abort", "Aborted", "12"), ("promote", "Promoted", "13")]
)
def test_a_command_that_is_not_confirmed_is_neither_done_nor_decided_twice(
    command: str, phase: str, champion: str
) -> None:
    """Verify that it stays on until the router does it, and that the alias moves after the traffic."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().silent = 2
    stage.command("flights-13", command)
    for _ in range(2):
        assert stage.model.turn() == CONFIRM_EVERY_S
        assert stage.phase("flights-13") == "Progressing" and stage.registry.champion == "12"
        assert "handledCommand" not in stage.release("flights-13")["status"]
    stage.model.turn()
    assert stage.phase("flights-13") == phase and stage.registry.champion == champion
    assert stage.release("flights-13")["status"]["handledCommand"] == command
    assert not {"CommandIgnored", "CommandRefused"} & set(stage.events())


@pytest.mark.parametrize(
    ("command", "phase"), [("abort", "Aborted"), ("promote", "Promoted"), ("rollback", "RolledBack")]
)
def test_a_command_that_another_process_decided_is_carried_out_and_not_ignored(
    command: str, phase: str
) -> None:
    """Verify that a restart between a decision and its confirmation tells nobody that the command came to nothing."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().silent = 1
    stage.command("flights-13", command)
    assert stage.model.turn() == CONFIRM_EVERY_S
    stage.restarted().turn()
    assert stage.phase("flights-13") == phase
    assert stage.release("flights-13")["status"]["handledCommand"] == command
    assert "CommandIgnored" not in stage.events()


def test_a_rollback_waits_for_nobodys_word_on_what_it_takes_back() -> None:
    """Verify that a promotion which the router does and does not confirm is taken back in the next turn, and once."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().silent = 1000
    stage.command("flights-13", "promote")
    stage.model.turn()
    assert stage.router().weights == {"13": 100}
    stage.command("flights-13", "rollback")
    for _ in range(3):
        assert stage.model.turn() == CONFIRM_EVERY_S
        assert stage.router().weights == {"12": 100}
    stage.router().silent = 0
    stage.model.turn()
    assert stage.phase("flights-13") == "RolledBack" and stage.registry.champion == "12"
    assert stage.release("flights-13")["status"]["handledCommand"] == "rollback"
    assert not {"CommandIgnored", "CommandRefused"} & set(stage.events())


def test_an_upgraded_operator_leaves_the_servers_of_a_live_release_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verify that new pods of champion and candidate do not start at once, in the middle of what is compared; that
    what is gone is made; and that the next release begins with servers of today."""
    now = [1000.0]
    monkeypatch.setattr(model, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.servers.outdated = {"12", "13"}
    stage.restarted().turn()
    now[0] += 120.0
    stage.model.turn()
    assert stage.servers.outdated == {"12", "13"}
    stage.servers.made.discard("13")
    stage.servers.outdated.discard("13")
    now[0] += 120.0
    stage.model.turn()
    assert "13" in stage.servers.made and stage.servers.outdated == {"12"}
    stage.command("flights-13", "abort")
    stage.model.turn()
    stage.apply("flights-14", "2026-03-01T11:10:00Z")
    stage.model.turn()
    assert stage.phase("flights-14") == "Progressing" and not stage.servers.outdated


def test_a_candidate_without_a_server_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that it is after two minutes, that one which is only short of pods is not, and what is said of it."""
    now = [1000.0]
    monkeypatch.setattr(model, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.servers.starting = {"13"}  # it lacks a pod and has another
    for _ in range(30):
        now[0] += 10.0
        stage.model.turn()
    assert stage.router().weights == {"12": 90, "13": 10}
    stage.servers.down = {"13"}
    for _ in range(13):
        now[0] += 10.0
        stage.model.turn()
        assert stage.router().weights == {"12": 90, "13": 10}
    now[0] += 10.0
    stage.model.turn()
    assert stage.router().weights == {"12": 100}
    assert stage.phase("flights-13") == "RolledBack"
    assert "none of its servers has answered for 120 s" in stage.release("flights-13")["status"]["message"]


def test_a_server_that_comes_back_in_time_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that the time counts from the newest outage, and that the champion is not judged."""
    now = [1000.0]
    monkeypatch.setattr(model, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    for down in ({"13"}, set(), {"13"}, {"12"}, {"12"}):
        stage.servers.starting, stage.servers.down = {"12"}, down
        for _ in range(11):
            now[0] += 10.0
            stage.model.turn()
    assert stage.router().weights == {"12": 90, "13": 10}


def test_a_command_that_was_carried_out_and_comes_again_is_ignored() -> None:
    """Verify that the second of two aborts is told as what it is, by any process."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.command("flights-13", "abort")
    stage.model.turn()
    assert "CommandIgnored" not in stage.events()
    stage.command("flights-13", "abort")
    stage.restarted().turn()
    assert "CommandIgnored" in stage.events()


def test_a_release_whose_object_went_while_nobody_led_is_ended() -> None:
    """Verify that its candidate does not keep its traffic unwatched: no object of the model is left to wake anybody."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    assert stage.router().weights == {"12": 90, "13": 10}
    stage.state.remove(RELEASE.path("team", "flights-13"))  # and our finalizer was taken off by hand
    stage.objects.drop(stage.objects.of(KEY)[0])
    stage.place.forget()
    releases = Releases(stage.objects, {"team": stage.place})
    assert list(releases.unfinished()) == [KEY]
    assert releases.turn(KEY) is None
    assert stage.router().weights == {"12": 100} and "13" not in stage.servers.made


def test_an_end_that_nobody_confirmed_and_nobody_asks_for_is_carried_out() -> None:
    """Verify it of a release whose object went between an abort and the router's word, and at each try until then."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().refuses = "no backend of that name"
    stage.command("flights-13", "abort")
    with pytest.raises(WindlassError):
        stage.model.turn()
    stage.state.remove(RELEASE.path("team", "flights-13"))
    stage.objects.drop(stage.objects.of(KEY)[0])
    stage.place.forget()
    releases = Releases(stage.objects, {"team": stage.place})
    assert list(releases.unfinished()) == [KEY]
    for _ in range(2):
        with pytest.raises(WindlassError, match="no backend"):
            releases.turn(KEY)
    stage.router().refuses = None
    releases.turn(KEY)
    assert stage.router().weights == {"12": 100}


def test_who_has_an_object_is_woken_by_it_alone() -> None:
    """Verify that a new leader opens no journal of a model whose newest release has its object, whatever its phase."""
    stage = Stage()
    promoted(stage)
    releases = Releases(stage.objects, {"team": stage.place})
    stage.place.forget()
    before = len(stage.state.asked)
    assert list(releases.unfinished()) == [] and releases.turn(KEY) is None
    assert {asked.method for asked in stage.state.asked[before:]} <= {"GET"}


def test_an_object_that_was_deleted_is_held_until_the_router_has_confirmed() -> None:
    """Verify that the finalizer goes with the champion's traffic, and not before."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.router().silent = 2
    stage.delete("flights-13")
    for _ in range(2):
        assert stage.model.turn() == CONFIRM_EVERY_S
        assert FINALIZER in stage.release("flights-13")["metadata"]["finalizers"]
    stage.model.turn()
    assert FINALIZER not in stage.release("flights-13")["metadata"].get("finalizers", ())


@pytest.mark.parametrize(
    ("observed", "silent", "wakes"),
    [
        pytest.param(2, 1, True, id="its-word"),
        pytest.param(1, 1, False, id="its-word-on-the-one-before"),
        pytest.param(2, 0, False, id="not-waited-for"),
    ],
)
def test_the_routers_word_wakes_who_waits_for_it(observed: int, silent: int, wakes: bool) -> None:
    """Verify that a turn comes when a controller has spoken of the route as it is now, and not for our own write."""
    stage = Stage()
    releases = Releases(stage.objects, {"team": stage.place})
    stage.apply("flights-13")
    releases.turn(KEY)
    stage.router().silent = silent
    stage.command("flights-13", "abort")
    releases.turn(KEY)
    said = [{"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": observed}]}]
    route = {
        "metadata": {"namespace": "team", "labels": {naming.MODEL_LABEL: "flights"}, "generation": 2},
        "status": {"parents": said},
    }
    assert list(releases.heard(HTTP_ROUTE, "MODIFIED", route)) == ([KEY] if wakes else [])
