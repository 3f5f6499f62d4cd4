"""A plan that was written for one machine, on a cluster: nothing that decides is lost, and what is another is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml

from serving.release import on_cluster, rules, spec
from serving.release.reading import SpecError
from serving.release.release import Canary, Release, Shadow
from windlass.operator import able
from windlass.operator.settings import Settings
from windlass.scaffold import render
from workloads.flights.workload import WORKLOAD

OPERATOR = Settings(("team-a",), "team-a", "operator", prometheus_url="http://p", collector_url="http://c")


def scaffolded() -> dict[str, Any]:
    """The plan that `windlass new` writes."""
    text = render.TEMPLATE
    begun = text.index("    release={") + len("    release=")
    plan = text[begun : text.index("    retrain=RetrainPolicy")].strip().rstrip(",")
    found: dict[str, Any] = eval(plan, {"__builtins__": {}})  # noqa: S307 - our own template
    return found


PLANS = {"flights": dict(WORKLOAD.release), "scaffold": scaffolded()}


def document(plan: dict[str, Any], **stated: Any) -> dict[str, Any]:
    versions = {"model": "flights", "candidate": "13", "champion": "12", "backend": "local"}
    return {"kind": "Release", "metadata": {"name": "flights-13"}, "spec": {**versions, **plan, **stated}}


def translated(plan: dict[str, Any], **stated: Any) -> on_cluster.Translated:
    return on_cluster.translated(spec.parse(document(plan, **stated), strict=False))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_that_nobody_wrote_for_a_cluster_is_carried_out_there(plan: dict[str, Any]) -> None:
    """Verify that the plans that are shipped and scaffolded lead to a Release that an operator takes."""
    stated, changes = on_cluster.planned(document(plan))
    release = spec.parse({"kind": "Release", "metadata": {"name": "r"}, "spec": stated})
    assert able.fault(release, OPERATOR) is None
    assert (release.backend, release.candidate, release.champion) == ("gateway", "13", "12")
    assert isinstance(release.strategy, Shadow)
    assert (release.strategy.percent, release.strategy.min_samples) == (100, 600)
    # what decides is the same, to the margin
    before = spec.parse(document(plan)).decision
    assert release.decision == before and before is not None and before.metric == "brier"
    assert {check.name: check.source for check in release.checks} == {
        "errors": "predictions", "latency": "predictions", "feature-skew": "predictions", "brier": "feedback",
    }  # fmt: skip
    said = "; ".join(changes)
    assert "shadow of all requests" in said and "feature-skew" not in said
    assert "check errors has source predictions in place of envoy" in said


def test_steps_that_last_make_a_shadow_that_lasts() -> None:
    plan = PLANS["flights"]
    steps = [
        {"weight": 10, "minSamples": 5, "minDuration": "10m"},
        {"weight": 50, "minSamples": 7, "minDuration": "1h"},
    ]
    found = translated({**plan, "strategy": {**plan["strategy"], "steps": steps}}).release
    assert found.strategy == Shadow(100, 12, timedelta(minutes=70))


def checks(*kept: str, plan: dict[str, Any] = PLANS["flights"]) -> list[dict[str, Any]]:
    return [check for check in plan["checks"] if check["name"] in kept]


def test_a_mirror_that_no_check_rests_on_is_left_out_and_the_steps_stay() -> None:
    plan = {**PLANS["flights"], "checks": checks("errors", "latency")}
    found = translated(plan)
    before = spec.parse(document(plan))
    assert isinstance(before.strategy, Canary)
    assert found.release.strategy == replace(before.strategy, mirror=False)
    assert {check.source for check in found.release.checks} == {"prometheus"}
    assert found.changes[0].startswith("mirror is left out")
    assert rules.contradictions(found.release) == []
    # and KServe's own ways can do it as well
    assert rules.contradictions(translated(plan, backend="kserve").release) == []


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        pytest.param({"backend": "kserve"}, "cannot copy each version's requests", id="kserve"),
        pytest.param(
            {"match": {"header": "x-try", "value": "1"}}, "cannot copy each version's requests", id="match"
        ),
    ],
)
def test_what_has_no_meaning_there_is_refused_as_it_was(stated: dict[str, Any], expected: str) -> None:
    """Verify that pairs are not given up where no shadow can stand for them."""
    plan = dict(PLANS["flights"])
    if "match" in stated:
        plan["strategy"], stated = {**plan["strategy"], **stated}, {}
    with pytest.raises(SpecError, match=expected):
        on_cluster.planned(document(plan, **stated))


SAMPLE = """
strategy: {type: canary, steps: [{weight: 10, minSamples: 500}]}
checks:
- {name: errors, kind: guardrail, metric: errorRate, source: prometheus, bound: 1}
inconclusiveAfter: 12h
"""


def test_what_was_written_for_a_cluster_stays_to_the_letter() -> None:
    plan = yaml.safe_load(SAMPLE)
    stated, changes = on_cluster.planned(document(plan, backend="kserve"))
    assert changes == () and stated == document(plan, backend="kserve")["spec"]
    assert on_cluster.planned(document(plan))[0]["backend"] == "gateway"


def test_what_cannot_be_read_is_refused_with_every_fault() -> None:
    with pytest.raises(SpecError) as caught:
        on_cluster.planned(document({"strategy": {"type": "canary"}, "checks": [{"name": "errors"}]}))
    assert len(caught.value.problems) > 2


def test_it_is_settled_with_one_translation() -> None:
    found: Release = translated(PLANS["flights"]).release
    assert on_cluster.translated(found) == on_cluster.Translated(found)
