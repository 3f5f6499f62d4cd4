"""Beginning a release: it is the one that a person means, and it harms nothing that answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serving.release.cluster import http_route, inference_service
from serving.release.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, RELEASE
from serving.release.cluster.servers import Servers
from serving.release.release import Gateway
from serving.release.traffic import all_to
from tests.unit.operator.model_stage import KEY, OPTIONS, Stage
from windlass.errors import WindlassError
from windlass.operator import wire
from windlass.operator.backends import Backends
from windlass.operator.releases import Releases

PATCHED = {"managedFields": [{"manager": "argocd-controller", "operation": "Apply"}]}


def on_kserve(*standing: str, ready: str = "True") -> Stage:
    """A stage whose servers are InferenceServices; `standing` were rendered and applied by a person."""
    stage = Stage()
    stage.place = replace(stage.place, servers=Servers(stage.api, "team", OPTIONS))
    stage.restarted()
    for version in standing:
        (document, *_) = inference_service.render("flights", version, OPTIONS)
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        stage.state.put(path(version), {**document, "status": status})
    return stage


def path(version: str) -> str:
    return INFERENCE_SERVICE.path("team", f"flights-{version}")


def served(stage: Stage) -> list[str]:
    return [
        found.rpartition("-")[2] for found in sorted(stage.state.objects) if "/inferenceservices/" in found
    ]


@pytest.mark.parametrize("champion", [None, "12"], ids=["no-champion", "it-is-the-champion"])
def test_a_refused_release_leaves_servers_that_it_did_not_make(champion: str | None) -> None:
    """Verify that a first release of the version that a person serves already takes nothing away, and makes nothing."""
    stage = on_kserve("12")
    stage.registry.champion = champion
    stage.apply("first-12")
    stage.model.turn()
    assert stage.phase("first-12") == "Refused" and served(stage) == ["12"]


def test_a_release_that_is_deleted_while_it_waits_leaves_servers_that_it_did_not_make() -> None:
    """Verify that the servers it found stay, also where they were changed to today's options meanwhile."""
    stage = on_kserve("12", "13", ready="False")
    del stage.state.objects[path("13")]["spec"]["predictor"]["annotations"]
    stage.apply("flights-13")
    stage.model.turn()
    assert stage.phase("flights-13") == "Pending"
    stage.delete("flights-13")
    stage.model.turn()
    assert served(stage) == ["12", "13"] and stage.objects.of(KEY) == []


@pytest.mark.parametrize("restarted", [False, True], ids=["the-same-process", "another-one"])
def test_a_release_that_is_deleted_while_it_waits_takes_its_own_servers_along(restarted: bool) -> None:
    """Verify it for a process that has not made them, and after its options changed; the champion's stay."""
    stage = on_kserve()
    stage.apply("flights-13")
    stage.model.turn()
    assert served(stage) == ["12", "13"]
    if restarted:
        options = replace(OPTIONS, workers=2)
        stage.place = replace(stage.place, servers=Servers(stage.api, "team", options))
        stage.restarted()
        stage.model.turn()
    stage.delete("flights-13")
    stage.model.turn()
    assert served(stage) == ["12"]


@pytest.mark.parametrize(
    "theirs",
    [PATCHED, {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}],
    ids=["server-side", "client-side"],
)
def test_servers_that_somebody_applied_over_ours_stay(theirs: dict[str, Any]) -> None:
    """Verify that what a person declares as well is that person's."""
    stage = on_kserve()
    stage.apply("flights-13")
    stage.model.turn()
    live = stage.state.objects[path("13")]
    metadata = {**live["metadata"], **theirs}
    metadata["annotations"] = {**live["metadata"]["annotations"], **theirs.get("annotations", {})}
    stage.state.put(path("13"), {**live, "metadata": metadata})
    stage.delete("flights-13")
    stage.model.turn()
    assert served(stage) == ["12", "13"]


def test_servers_that_are_kept_to_go_back_to_stay() -> None:
    """Verify that a release of a former champion, deleted while it waits, does not take the servers that were made for
    the release which promoted that version."""
    stage = Stage()
    for version, command in (("13", "promote"), ("14", "promote"), ("15", "rollback")):
        stage.servers.starting = {version}
        stage.apply(f"flights-{version}")
        stage.model.turn()
        assert stage.phase(f"flights-{version}") == "Pending"
        stage.servers.starting = set()
        stage.model.turn()
        stage.command(f"flights-{version}", command)
        stage.model.turn()
    assert stage.servers.made == {"13", "14"}
    stage.servers.starting = {"13", "16"}
    stage.apply("again-13")
    stage.model.turn()
    stage.delete("again-13")
    stage.apply("flights-16")
    stage.model.turn()
    assert stage.servers.made == {"13", "14", "16"}
    stage.delete("flights-16")
    stage.model.turn()
    assert stage.servers.made == {"13", "14"}


def test_servers_of_who_became_champion_meanwhile_stay() -> None:
    """Verify that an alias which a person moved to a version keeps that version's servers."""
    stage = on_kserve()
    stage.apply("flights-13")
    stage.model.turn()
    stage.registry.champion = "13"
    stage.model.turn()
    assert stage.phase("flights-13") == "Refused" and served(stage) == ["12", "13"]


def test_servers_stay_where_nobody_knows_the_champion() -> None:
    """Verify that a registry which is away holds no deletion up, and takes no servers."""
    stage = on_kserve()
    stage.apply("flights-13")
    stage.model.turn()
    stage.registry.away = True
    stage.delete("flights-13")
    stage.model.turn()
    assert served(stage) == ["12", "13"] and stage.objects.of(KEY) == []


def queueing() -> Stage:
    """A stage where release flights-13 is live and next-14 waits for its end."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.apply("next-14", onConflict="queue")
    stage.model.turn()
    assert stage.phase("next-14") == "Queued"
    return stage


@pytest.mark.parametrize("noticed", [True, False], ids=["a-turn-between", "no-turn-between"])
@pytest.mark.parametrize("restarted", [False, True], ids=["the-same-process", "another-one"])
def test_a_queued_release_that_is_applied_anew_is_the_new_one(noticed: bool, restarted: bool) -> None:
    """Verify that a candidate which a person took back gets no traffic when its name's turn comes."""
    stage = queueing()
    stage.delete("next-14")
    if noticed:
        stage.model.turn()
        assert stage.place.store.queued("flights") == []
    stage.apply("next-14", candidate="15", onConflict="queue")
    stage.model.turn()
    if restarted:
        stage.restarted()
    stage.command("flights-13", "promote")
    stage.model.turn()
    assert stage.router().weights == {"13": 90, "15": 10}
    assert stage.release("next-14")["status"]["candidates"] == ["15"]
    assert stage.conditions("next-14")["Degraded"] == ("False", "Well")
    assert all("14" not in weights for weights in stage.router().told) and "14" not in stage.servers.made


@pytest.mark.parametrize("another_model", [False, True], ids=["deleted", "its-name-is-another-models"])
def test_a_queued_release_that_is_deleted_waits_no_longer(another_model: bool) -> None:
    """Verify that the next one begins, and that one whose object was not heard of yet keeps its place."""
    stage = queueing()
    stage.clock.advance_to(stage.clock.now() + timedelta(minutes=1))
    stage.apply("later-15", onConflict="queue", created="2026-03-01T11:01:00Z")
    stage.model.turn()
    unheard = next(seen for seen in stage.objects.of(KEY) if seen.name == "next-14")
    stage.objects.drop(unheard)
    stage.command("flights-13", "promote")
    assert stage.model.turn() is not None
    assert stage.router().weights == {"13": 100}
    if another_model:
        live = stage.release("next-14")
        stage.state.put(RELEASE.path("team", "next-14"), {**live, "spec": {**live["spec"], "model": "taxis"}})
    else:
        stage.state.remove(RELEASE.path("team", "next-14"))
    stage.model.turn()
    assert stage.router().weights == {"13": 90, "15": 10}
    assert stage.place.store.queued("flights") == []


def by_hand(*versions: str, rules: int = 1) -> dict[str, Any]:
    """A route that a release wrote for version 13, and that a person has pointed elsewhere since."""
    kept = (len(versions),) * rules
    route = http_route.manifest("flights", "team", all_to("13"), Gateway(), kept=kept)
    for rule in route["spec"]["rules"]:
        for version, ref in zip(versions, rule["backendRefs"], strict=True):
            ref["name"] = f"flights-{version}-predictor"
    return route


def routed(route: dict[str, Any], champion: str | None) -> Stage:
    """A stage with the real backend over a route."""
    stage = Stage()
    stage.registry.champion = champion
    stage.place = replace(stage.place, backends=Backends(stage.api, "team", Gateway(), OPTIONS))
    stage.restarted()
    stage.state.put(HTTP_ROUTE.path("team", "windlass-flights"), route)
    return stage


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (by_hand("12"), "version 12 has all of the traffic"),
        (by_hand("12", rules=2), "version 12 has all of the traffic"),
        (by_hand("12", "13"), "12, 13 share the traffic"),
    ],
    ids=["one-rule", "two-rules", "shared"],
)
def test_no_release_undoes_what_a_person_did_to_the_route(route: dict[str, Any], words: str) -> None:
    """Verify that an emergency rollback by hand stays where the alias still calls the bad version champion."""
    stage = routed(route, champion="13")
    before = stage.state.objects[HTTP_ROUTE.path("team", "windlass-flights")]["spec"]
    stage.apply("flights-14", candidate="14")
    stage.model.turn()
    assert stage.phase("flights-14") == "Refused"
    assert words in stage.release("flights-14")["status"]["message"]
    assert stage.state.objects[HTTP_ROUTE.path("team", "windlass-flights")]["spec"] == before


def test_a_stated_champion_is_held_to_the_route_where_nobody_else_knows_one() -> None:
    """Verify that a Release which states its champion undoes nothing either; one that is in force is named."""
    stage = routed(by_hand("12", rules=2), champion=None)
    stage.apply("flights-14", champion="13")
    stage.model.turn()
    assert "version 12 has all of the traffic" in stage.release("flights-14")["status"]["message"]
    stage.registry.champion = "12"
    stage.apply("flights-15", champion="13")
    stage.model.turn()
    assert "version 12 is in force" in stage.release("flights-15")["status"]["message"]


def test_a_route_that_nobody_would_write_so_is_taken_where_it_goes_to_the_champion() -> None:
    """Verify that a hand-made route is no obstacle, as long as its callers get the champion."""
    stage = routed(by_hand("12", rules=2), champion="12")
    stage.apply("flights-14", candidate="14")
    stage.model.turn()
    refs = stage.state.objects[HTTP_ROUTE.path("team", "windlass-flights")]["spec"]["rules"][0]["backendRefs"]
    assert {ref["name"]: ref["weight"] for ref in refs} == {
        "flights-12-predictor": 90,
        "flights-14-predictor": 10,
    }


def test_a_release_waits_where_nobody_knows_who_answers() -> None:
    """Verify that what reads as nothing holds the release up, makes no servers, and that it begins once it is known."""
    stage = Stage()
    stage.router().now = http_route.FOREIGN
    stage.apply("flights-13")
    assert stage.model.turn() is not None
    assert stage.phase("flights-13") == "Pending" and not stage.servers.made
    assert stage.conditions("flights-13")["Degraded"] == ("True", "TrafficUnknown")
    stage.router().now = all_to("12")
    stage.model.turn()
    assert stage.router().weights == {"12": 90, "13": 10}
    assert stage.conditions("flights-13")["Degraded"] == ("False", "Well")


def test_what_is_no_version_is_no_champion() -> None:
    """Verify that a share of another Service, another namespace or another kind is named as what it is."""
    refs = [
        {"name": "flights-12-predictor", "weight": 50},
        {"name": "flights-13-predictor", "weight": 0},
        {"name": "sorry", "weight": 30},
        {"name": "flights-12-predictor", "namespace": "other"},
        {"name": "flights-12-predictor", "kind": "Backend"},
    ]
    route = {"spec": {"rules": [{"backendRefs": refs}, {}]}}
    assert wire.answering(http_route.FOREIGN, route, "flights", "team") == {
        *(
            "12",
            "Service team/sorry",
            "Service other/flights-12-predictor",
            "Backend team/flights-12-predictor",
        )
    }
    assert wire.answering(http_route.FOREIGN, {"spec": {"rules": [{}]}}, "flights", "team") is None
    assert wire.answering(None, None, "flights", "team") == frozenset()


def test_who_is_behind_a_release_that_has_not_begun_says_so() -> None:
    """Verify that a second release is told whom it waits for, one that can never begin is refused at once, and a
    registry that is away is told of by the first alone."""
    stage = Stage()
    stage.servers.starting.add("13")
    stage.apply("flights-13")
    stage.apply("flights-14", created="2026-03-01T11:01:00Z")
    stage.apply("flights-15", created="2026-03-01T11:02:00Z", backend="local")
    stage.model.turn()
    assert stage.phase("flights-14") == "Pending" and stage.phase("flights-15") == "Refused"
    waits = "waits for release flights-13, which has not begun"
    assert stage.release("flights-14")["status"]["message"] == waits
    assert stage.conditions("flights-14")["Progressing"] == ("True", "WaitingForRelease")
    stage.registry.away = True
    stage.apply("flights-16", created="2026-03-01T11:03:00Z")
    with pytest.raises(WindlassError, match="does not answer"):
        stage.model.turn()
    assert stage.conditions("flights-13")["Degraded"] == ("True", "CannotBegin")
    assert stage.release("flights-16")["status"]["message"] == waits
    stage.registry.away = False
    stage.delete("flights-13")
    stage.model.turn()
    assert stage.phase("flights-14") == "Progressing"


@pytest.mark.parametrize("deleted", [False, True], ids=["its-object-stays", "its-object-is-deleted"])
def test_who_waits_for_an_end_that_is_not_in_force_says_so(deleted: bool) -> None:
    """Verify that the next release has a status where the registry does not take what the one before decided."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.registry.unknown.add("13")
    stage.command("flights-13", "promote")
    stage.apply("flights-14", created="2026-03-01T11:01:00Z")
    if deleted:
        with pytest.raises(WindlassError, match="knows no version"):
            stage.model.turn()
        stage.delete("flights-13")
    with pytest.raises(WindlassError, match="knows no version"):
        stage.model.turn()
    said = stage.release("flights-14")["status"]["message"]
    assert said == "waits for release flights-13, which is Promoted, and that is not in force yet"
    stage.registry.unknown.clear()
    stage.model.turn()
    assert stage.router().weights == {"13": 90, "14": 10}


def test_no_release_begins_before_a_command_that_waits() -> None:
    """Verify that a rollback whose servers start is not overtaken by the next release's first step."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.command("flights-13", "promote")
    stage.model.turn()
    stage.servers.starting.add("11")
    stage.command("flights-13", "rollback:11")
    stage.apply("flights-14", created="2026-03-01T11:01:00Z")
    stage.model.turn()
    assert stage.router().weights == {"13": 100}
    assert "waits for rollback:11 of release flights-13" in stage.release("flights-14")["status"]["message"]
    stage.servers.starting.clear()
    stage.model.turn()
    assert stage.router().told[-2:] == [{"11": 100}, {"11": 90, "14": 10}]


def test_the_champion_of_today_may_wait_to_be_a_candidate() -> None:
    """Verify that the way back from a release that is live is queued: who is the champion then is not known yet."""
    stage = Stage()
    stage.apply("flights-13")
    stage.model.turn()
    stage.apply("again-12", onConflict="queue")
    stage.model.turn()
    assert stage.phase("again-12") == "Queued"
    stage.command("flights-13", "promote")
    stage.model.turn()
    assert stage.router().weights == {"13": 90, "12": 10}


def test_no_status_of_what_is_gone_is_kept() -> None:
    """Verify that a queued Release which is deleted, and which nothing holds, is not remembered for ever."""
    stage = queueing()
    releases = Releases(stage.objects, {"team": stage.place})
    assert len(stage.place.teller._written) == 2
    gone = stage.release("next-14")
    assert list(releases.heard(RELEASE, "DELETED", gone)) == [KEY]
    assert list(stage.place.teller._written) == [stage.release("flights-13")["metadata"]["uid"]]
