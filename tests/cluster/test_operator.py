"""The operator on a real API server: releases from `kubectl apply` to their end, whatever is killed in between."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serving.release.cluster import inference_service, serving_options
from serving.release.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, RELEASE
from serving.release.cluster.servers import MADE_FOR
from tests.cluster import operator_stage as stage
from tests.cluster.api_server import OWNERS_ENFORCED, ApiServer
from tests.cluster.operator_stage import Traffic, eventually
from tests.cluster.operator_team import Team, of_a_test
from tests.cluster.tools.build import BUILD_S
from windlass.errors import WindlassError

pytestmark = [pytest.mark.timeout(2 * BUILD_S), pytest.mark.slow]

OPTIONS = serving_options.parse(yaml.safe_load(stage.OPTIONS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("operator") / "api", flags=OWNERS_ENFORCED) as running:
        stage.install(running)
        yield running


@pytest.fixture
def team(
    server: ApiServer, tmp_path: Path, traffic: Traffic, prometheus: str, request: pytest.FixtureRequest
) -> Iterator[Team]:
    with of_a_test(request.node.name, server, tmp_path, traffic, prometheus) as made:
        yield made


def test_a_good_version_is_promoted(team: Team) -> None:
    """Verify every word on the way of a release that nothing is wrong with, under the rights of the chart's Role."""
    operator = team.operator()
    well = {
        "Progressing": ("True", "Judging"),
        "Available": ("True", "InForce"),
        "Degraded": ("False", "Well"),
    }
    with team.traffic.slowed():
        team.apply(stage.release("flights-13", "flights", "13", "12"))
        going = team.until("flights-13", "Progressing", step=1)
        assert going["weights"] == {"12": 80, "13": 20} and going["steps"] == 2 and going["champion"] == "12"
        assert team.release("flights-13")["metadata"]["finalizers"] == ["windlass.dev/traffic"]
        # a router that is slow to say that it does it is told of before
        eventually(lambda: team.conditions("flights-13") == well, "nothing is in the way")
    done = team.until("flights-13", "Promoted")
    assert done["weights"] == {"13": 100} and team.weights("flights") == {"13": 100}
    assert done["observedGeneration"] == 1 and done["decision"]["action"] == "promote" and done["finishedAt"]
    assert {check["name"]: check["verdict"] for check in done["checks"]}["errors"] == "PASS"
    assert team.conditions("flights-13")["Progressing"] == ("False", "Promoted")
    assert team.acts("flights-13") == ["start", "advance", "promote"]
    assert team.events("flights-13") == ["Started", "Advanced", "Promoted"]
    assert team.versions("flights") == {"12", "13"}  # going back is one change
    eventually(lambda: not team.release("flights-13")["metadata"].get("finalizers"), "the object is free")
    metadata = team.release("flights-13")["metadata"]
    ours = {m["manager"] for m in metadata["managedFields"] if "status" in m.get("fieldsV1", {}).get("f:status", {})
            or m.get("subresource") == "status"}  # fmt: skip
    assert ours == {"windlass-release"}
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]
    route = stage.get(team.server, team.name, "windlass-flights", HTTP_ROUTE)
    assert route is not None and route["metadata"]["annotations"]["windlass.dev/champion"] == "13"
    # the next one finds its champion by that mark
    team.apply(stage.release("flights-14", "flights", "14"))
    assert team.until("flights-14", "Promoted")["champion"] == "13"
    assert eventually(lambda: team.versions("flights") == {"13", "14"}, "12 is retired")
    assert operator.stop() == 0


def test_a_sabotaged_version_is_rolled_back(team: Team) -> None:
    """Verify that a version whose requests fail gets no traffic any more and loses its servers."""
    team.operator()
    team.traffic.failing["weather", "2"] = 3
    team.apply(stage.release("weather-2", "weather", "2", "1"))
    done = team.until("weather-2", "RolledBack")
    assert done["weights"] == {"1": 100} and team.weights("weather") == {"1": 100}
    assert {check["name"]: check["verdict"] for check in done["checks"]}["errors"] == "FAIL"
    assert eventually(lambda: team.versions("weather") == {"1"}, "the loser's servers go")
    assert team.events("weather-2")[-1] == "RolledBack"


def test_deleting_a_live_release_leaves_the_champion(team: Team) -> None:
    """Verify that the object goes once the traffic is with the champion, and a finished one goes at once."""
    operator = team.operator()
    document = stage.release("trains-2", "trains", "2", "1")
    document["spec"]["strategy"]["steps"][0]["minSamples"] = 1_000_000
    team.apply(document)
    team.until("trains-2", "Progressing", step=1)
    team.server.kubectl("delete", "-n", team.name, "release", "trains-2", "--timeout=60s")
    assert team.weights("trains") == {"1": 100}
    assert team.acts("trains-2") == ["start", "abort"]
    assert eventually(lambda: team.versions("trains") == {"1"}, "the loser's servers go")
    team.apply(stage.release("trains-3", "trains", "3", "1"))
    team.until("trains-3", "Promoted")
    eventually(lambda: not team.release("trains-3")["metadata"].get("finalizers"), "the object is free")
    operator.kill()
    team.server.kubectl("delete", "-n", team.name, "release", "trains-3", "--timeout=60s")


def test_an_operator_that_is_killed_goes_on_where_it_was(team: Team) -> None:
    """Verify that kill -9 in the middle changes nothing of the outcome and repeats no step."""
    operator = team.operator()
    with team.traffic.slowed(1):
        team.apply(stage.release("taxis-2", "taxis", "2", "1"))
        team.until("taxis-2", "Progressing", step=1)
        operator.kill()
    before = team.journal("taxis-2")
    operator.start()
    done = team.until("taxis-2", "Promoted")
    assert team.acts("taxis-2") == ["start", "advance", "promote"] and done["weights"] == {"2": 100}
    after = team.journal("taxis-2")
    assert after[: len(before)] == before
    decided = [record["seq"] for record in after if record["kind"] == "decision"]
    assert decided == list(range(1, len(decided) + 1))
    arms = [
        r["evidence"]["arms"] for r in after if r["kind"] == "decision" and (r["evidence"] or {}).get("arms")
    ]
    counts = [arm["2"]["requests"] for arm in arms if "2" in arm]
    assert counts == sorted(counts)  # what was counted before the kill is not counted anew
    assert team.events("taxis-2") == ["Started", "Advanced", "Promoted"]


def test_a_leader_that_falls_silent_is_replaced(team: Team) -> None:
    """Verify that the standby takes over, and that the old leader, once it runs again, does nothing until it leads."""
    first = team.operator("first")
    document = stage.release("ships-2", "ships", "2", "1")
    document["spec"]["strategy"]["steps"][1]["minSamples"] = 500
    eventually(lambda: "this replica leads" in first.said(), "the first leads")
    second = team.operator("second")
    with team.traffic.slowed(1):
        team.apply(document)
        team.until("ships-2", "Progressing", step=1)
        assert "this replica leads" not in second.said()
        os.kill(first.pid, signal.SIGSTOP)
    eventually(lambda: "this replica leads" in second.said(), "the second leads")
    done = team.until("ships-2", "Promoted")
    os.kill(first.pid, signal.SIGCONT)
    eventually(lambda: "acts no more" in first.said(), "the first notices")
    assert team.acts("ships-2") == ["start", "advance", "promote"] and done["weights"] == {"2": 100}
    # a handover in order needs no patience, and who led before leads as well as any other
    led = first.said().count("this replica leads")
    assert second.stop() == 0
    eventually(lambda: first.said().count("this replica leads") > led, "the first leads again")
    team.apply(stage.release("ships-3", "ships", "3"))
    assert team.until("ships-3", "Promoted")["champion"] == "2"
    assert first.stop() == 0


def test_an_api_server_that_is_away_loses_nothing(team: Team) -> None:
    """Verify that an outage in the middle delays a release and changes nothing of it."""
    operator = team.operator()
    with team.traffic.slowed(1):
        team.apply(stage.release("buses-2", "buses", "2", "1"))
        team.until("buses-2", "Progressing", step=1)
        team.server.kill()
    time.sleep(5.0)
    team.server.start()
    done = team.until("buses-2", "Promoted")
    assert team.acts("buses-2") == ["start", "advance", "promote"] and done["weights"] == {"2": 100}
    # what comes after it is heard
    team.apply(stage.release("buses-3", "buses", "3"))
    team.until("buses-3", "Promoted")
    assert operator.stop() == 0


def test_a_registry_that_is_away_is_waited_for(team: Team) -> None:
    """Verify that a release does not begin against a guessed champion, and says why it waits."""
    team.operator(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    team.apply(stage.release("skis-2", "skis", "2", "1"))
    said = team.until("skis-2", "Pending")
    assert "MLflow at http://127.0.0.1:9 does not answer" in said["message"]
    assert team.conditions("skis-2")["Degraded"] == ("True", "CannotBegin") and team.versions("skis") == set()


def test_a_namespace_that_ends_is_not_held_up(team: Team) -> None:
    """Verify that a live release lets go of its object where nothing can be made any more."""
    team.operator()
    document = stage.release("sleds-2", "sleds", "2", "1")
    document["spec"]["strategy"]["steps"][0]["minSamples"] = 1_000_000
    team.apply(document)
    team.until("sleds-2", "Progressing", step=1)
    team.server.request("DELETE", f"/api/v1/namespaces/{team.name}")
    # what a namespace's controller does, which is not here
    team.server.request("DELETE", HTTP_ROUTE.path(team.name, "windlass-sleds"))
    team.server.request("DELETE", RELEASE.path(team.name, "sleds-2"))
    eventually(lambda: stage.get(team.server, team.name, "sleds-2") is None, "the object goes")


def test_servers_that_somebody_deletes_are_made_anew(team: Team) -> None:
    """Verify that a live release gets its InferenceServices back, and that an object which lost its finalizer and is
    gone ends its release."""
    team.operator()
    document = stage.release("bikes-2", "bikes", "2", "1")
    document["spec"]["strategy"]["steps"][0]["minSamples"] = 1_000_000
    team.apply(document)
    team.until("bikes-2", "Progressing", step=1)
    following = team.operator("next")
    knows = 'windlass_operator_releases{phase="Progressing"} 1.0'
    eventually(lambda: knows in following.metrics(), "the standby knows the release")
    path = INFERENCE_SERVICE.path(team.name, "bikes-2")
    first = team.server.request("GET", path)["metadata"]["uid"]
    team.server.request("DELETE", path)
    # whoever takes over looks at once, and a leader every minute
    team.operators[0].stop()
    made = eventually(
        lambda: stage.get(team.server, team.name, "bikes-2", INFERENCE_SERVICE), "it is made anew"
    )
    assert made["metadata"]["uid"] != first
    team.server.kubectl(
        *(
            "patch",
            "release",
            "bikes-2",
            "-n",
            team.name,
            "--type=merge",
            "-p",
            '{"metadata": {"finalizers": []}}',
        )
    )
    team.server.kubectl("delete", "-n", team.name, "release", "bikes-2")
    eventually(lambda: team.weights("bikes") == {"1": 100}, "the champion has everything")
    assert team.acts("bikes-2") == ["start", "abort"]
    assert eventually(lambda: team.versions("bikes") == {"1"}, "the loser's servers go")


def test_commands_are_carried_out_once(team: Team) -> None:
    """Verify pause, resume, what is no command, and a rollback after the promotion, each by annotation."""
    team.operator()
    with team.traffic.slowed():
        team.apply(stage.release("planes-2", "planes", "2", "1"))
        team.until("planes-2", "Progressing", step=1)
        team.command("planes-2", "pause")
        paused = team.until("planes-2", "Paused")
    assert paused["handledCommand"] == "pause"

    def gone() -> bool:
        return "windlass.dev/command" not in team.release("planes-2")["metadata"].get("annotations", {})

    eventually(gone, "the command is taken off")
    team.command("planes-2", "fly")
    eventually(lambda: "CommandRefused" in team.events("planes-2"), "it is refused")
    eventually(gone, "the command is taken off")
    assert team.status("planes-2")["phase"] == "Paused"
    team.command("planes-2", "resume")
    team.until("planes-2", "Promoted")
    eventually(gone, "the command is taken off")
    team.command("planes-2", "rollback")
    eventually(lambda: team.status("planes-2")["phase"] == "RolledBack", "it is taken back")
    eventually(lambda: team.status("planes-2")["handledCommand"] == "rollback", "the command is handled")
    assert team.weights("planes") == {"1": 100}
    pauses = [r for r in team.journal("planes-2") if r["kind"] == "decision" and r["action"] == "pause"]
    assert [record["reason"] for record in pauses] == ["paused by ana"]


def test_blue_green_asks_green_before_it_switches(team: Team) -> None:
    """Verify one switch where nothing is asked, and none where green's own Service does not answer."""
    team.operator()
    switch = {"type": "blueGreen", "warmUp": 0, "keepWarm": "1s", "minSamples": 50}
    # it has been asked before, so its counters are there however soon the switch comes
    team.traffic.count(team.name, "trams", "1")
    team.apply(stage.release("trams-2", "trams", "2", "1", strategy=switch))
    assert team.until("trams-2", "Promoted")["weights"] == {"2": 100}
    assert team.acts("trams-2") == ["start", "advance", "promote"]
    smoke = {**switch, "smoke": [{"body": {"instances": [{"a": 1}]}}]}
    # there is no DNS for Services here, so nobody answers
    team.apply(stage.release("trams-3", "trams", "3", strategy=smoke))
    done = team.until("trams-3", "RolledBack")
    assert "1 of 1 smoke requests failed" in done["message"] and team.weights("trams") == {"2": 100}


def test_what_cannot_be_done_is_refused_with_its_reason(team: Team) -> None:
    """Verify that a release that this operator cannot carry out says so and holds nobody up."""
    team.operator()
    local = stage.release("cars-2", "cars", "2", "1", backend="local")
    unstarted = stage.release("carts-2", "carts", "2")
    shadow = stage.release("vans-2", "vans", "2", "1", strategy={"type": "shadow", "percent": 100})
    shadow["spec"]["checks"] = [
        {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5}
    ]
    for document, reason, words in (
        (local, "NotSupported", "windlass up"),
        (shadow, "NotSupported", "WINDLASS_COLLECTOR_URL"),
        (unstarted, "Refused", "has no champion"),
        (stage.release("carts-4", "carts", "4", "3"), "", ""),
        (stage.release("carts-5", "carts", "5", "3"), "Refused", "version 4 is in force"),
    ):
        name = document["metadata"]["name"]
        team.apply(document)
        if not reason:
            team.until(name, "Promoted")
            continue
        said = team.until(name, "Refused")
        assert words in said["message"]
        assert team.conditions(name)["Degraded"] == ("True", reason)
        assert team.events(name) == [reason]
        # told first, and then set free
        eventually(lambda name=name: not team.release(name)["metadata"].get("finalizers"), "it is free")
    with pytest.raises(WindlassError, match="leave it as it is"):
        team.server.kubectl(
            *("patch", "release", "cars-2", "-n", team.name, "--type=merge"),
            *("-p", '{"spec": {"backend": "gateway"}}'),
        )


def test_a_release_waits_for_servers_and_for_others(team: Team) -> None:
    """Verify that a version without servers gets nothing, that a second release queues or is refused, and an edited
    route is put back."""
    team.operator()
    team.controllers.broken.add("boats-2")
    first = stage.release("boats-2", "boats", "2", "1")
    first["spec"]["strategy"]["steps"][0]["minSamples"] = 400
    team.apply(first)
    waits = team.until("boats-2", "Pending")
    eventually(lambda: "version 2" in team.status("boats-2").get("message", ""), "it says what it waits for")
    assert team.weights("boats") == {} and waits["phase"] == "Pending"
    path = HTTP_ROUTE.path(team.name, "windlass-boats")

    def weights() -> list[int]:
        refs = team.server.request("GET", path)["spec"]["rules"][0]["backendRefs"]
        return [ref["weight"] for ref in refs]

    with team.traffic.slowed(1):
        team.controllers.broken.clear()
        team.controllers.again("boats-2")
        team.until("boats-2", "Progressing", step=1)
        team.apply(stage.release("boats-3", "boats", "3", onConflict="queue"))
        team.apply(stage.release("boats-4", "boats", "4"))
        team.until("boats-3", "Queued")
        assert "release 'boats-2' is live" in team.until("boats-4", "Refused")["message"]
        team.server.kubectl(
            *("patch", "httproute", "windlass-boats", "-n", team.name, "--type=json"),
            *("-p", '[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 5}]'),
        )
        eventually(lambda: "TrafficRepaired" in team.events("boats-2"), "the edit is noticed")
        # the journal has it, and people are told, before it is done
        eventually(lambda: weights() == [80, 20], "the edit is undone")
    team.until("boats-2", "Promoted")
    assert team.until("boats-3", "Promoted")["champion"] == "2"
    kinds = {o["metadata"]["name"]: o["status"]["phase"] for o in
             team.server.request("GET", RELEASE.path(team.name))["items"]}  # fmt: skip
    assert kinds == {"boats-2": "Promoted", "boats-3": "Promoted", "boats-4": "Refused"}


def test_what_answers_already_outlives_a_release_that_never_begins(team: Team) -> None:
    """Verify that servers which a person applied, before a release asks for them or after, stay; its own go with it."""

    def rendered(version: str) -> str:
        documents = inference_service.render("ferries", version, OPTIONS, namespace=team.name)
        return yaml.safe_dump_all(documents)

    def apply(version: str) -> None:
        team.server.kubectl("apply", "--server-side", "-n", team.name, "-f", "-", given=rendered(version))

    def gone(name: str) -> None:
        team.server.kubectl("delete", "-n", team.name, "release", name)
        assert stage.get(team.server, team.name, name) is None

    team.operator()
    apply("1")
    eventually(lambda: team.versions("ferries") == {"1"}, "a person serves version 1")
    team.apply(stage.release("ferries-1", "ferries", "1"))
    assert "no champion" in team.until("ferries-1", "Refused")["message"]
    assert team.versions("ferries") == {"1"}
    team.controllers.broken |= {f"ferries-{version}" for version in (2, 3)}
    team.apply(stage.release("ferries-2", "ferries", "2", "1"))
    eventually(lambda: team.versions("ferries") == {"1", "2"}, "servers are made")
    apply("2")
    gone("ferries-2")
    team.apply(stage.release("ferries-3", "ferries", "3", "1"))
    eventually(lambda: team.versions("ferries") == {"1", "2", "3"}, "servers are made")
    live = stage.get(team.server, team.name, "ferries-3", INFERENCE_SERVICE)
    assert live is not None
    uid = team.release("ferries-3")["metadata"]["uid"]
    assert live["metadata"]["annotations"][MADE_FOR] == f"ferries-3/{uid}"
    gone("ferries-3")
    eventually(lambda: team.versions("ferries") == {"1", "2"}, "they go with their release")


def test_what_begins_is_what_a_person_means(team: Team) -> None:
    """Verify that a queued release which is applied anew is the new one, and that of what was promoted the champion
    before answers again where a release after it was tried and deleted."""
    team.operator()
    first = stage.release("canals-2", "canals", "2", "1")
    first["spec"]["strategy"]["steps"][0]["minSamples"] = 1_000_000
    team.apply(first)
    team.until("canals-2", "Progressing", step=1)
    team.apply(stage.release("next", "canals", "3", onConflict="queue"))
    team.until("next", "Queued")
    team.server.kubectl("delete", "-n", team.name, "release", "next")
    again = stage.release("next", "canals", "4", onConflict="queue")
    again["spec"]["strategy"]["steps"][0]["minSamples"] = 1_000_000
    team.apply(again)
    team.until("next", "Queued")
    team.command("canals-2", "promote")
    assert team.until("next", "Progressing", step=1)["weights"] == {"2": 80, "4": 20}
    assert team.versions("canals") == {"1", "2", "4"}
    team.server.kubectl("delete", "-n", team.name, "release", "next")
    eventually(lambda: team.weights("canals") == {"2": 100}, "the champion has everything")
    team.command("canals-2", "rollback")
    eventually(lambda: team.weights("canals") == {"1": 100}, "the champion before has everything")
    eventually(lambda: team.events("canals-2")[2:] == ["CommandCarriedOut"], "it is told")
