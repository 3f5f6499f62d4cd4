"""Beginning a release: it is the one that a person means, and it harms nothing that answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.release.cluster import inference_service
from serving.release.cluster.api import INFERENCE_SERVICE
from serving.release.cluster.servers import Servers
from tests.unit.operator.model_stage import OPTIONS, Stage

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
    assert served(stage) == ["12", "13"] and stage.objects.of(("team", "flights")) == []


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
    assert served(stage) == ["12", "13"] and stage.objects.of(("team", "flights")) == []
