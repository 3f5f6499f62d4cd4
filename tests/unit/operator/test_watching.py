"""One live release watched: what is asked of whom, look by look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving.release import spec, state
from serving.release.collector.client import Collector
from serving.release.engine import next_step
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.prometheus.client import Prometheus, Series
from serving.release.state import Ratio, ReleaseState, recounted
from tests.unit.operator.model_stage import GUARD, Stage
from windlass.operator.evidence import ReleaseEvidence
from windlass.operator.watching import Watching

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOKED = {"name": "booked", "kind": "decision", "metric": "reward", "source": "feedback"}


def live(checks: list[Any], **strategy: Any) -> ReleaseState:
    document = {
        "kind": "Release",
        "metadata": {"name": "flights-13", "namespace": "team"},
        "spec": {"model": "flights", "candidate": "13", "champion": "12", "backend": "gateway",
                 "strategy": strategy, "checks": checks},
    }  # fmt: skip
    return next_step(state.initial(spec.parse(document), "12"), Evidence(START), START).state


CANARY = {"type": "canary", "steps": [{"weight": 10}]}


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Prometheus' part says, and how it was asked."""
    told: dict[str, Any] = {"anew": [], "evidence": Evidence(START)}

    def look(self: ReleaseEvidence, at: datetime, *, anew: bool = False) -> Evidence:
        told["anew"].append(anew)
        return replace(told["evidence"], at=at)

    monkeypatch.setattr(ReleaseEvidence, "look", look)
    return told


def watching(stage: Stage, begun: ReleaseState, collector: Collector | None = None) -> Watching:
    place = replace(stage.place, prometheus=Prometheus("http://prometheus:9090"), collector=collector)
    return Watching(place, begun, stage.model._work.chosen)


def test_the_split_is_judged_anew_after_each_change(stage: Stage, counted: dict[str, Any]) -> None:
    """Verify a step's first looks, those in its middle, and those after the wire was repaired between two of them."""
    begun = live([GUARD], **CANARY)
    found = watching(stage, begun)
    judged = replace(begun, ratio=Ratio(base=(10, 90), counts=(0, 0)))
    repaired = recounted(replace(judged, ratio=Ratio(base=(10, 90), counts=(5, 45))))
    again = replace(repaired, ratio=replace(repaired.ratio, base=(40, 360), counts=(0, 0)))
    for seconds, now in enumerate((begun, judged, judged, judged, again, again)):
        found.evidence(now, START + timedelta(seconds=seconds))
    assert counted["anew"] == [True, True, False, False, True, False]


class Heard(Prometheus):
    """A Prometheus of two versions' servers without a wire."""

    def __init__(self) -> None:
        super().__init__("http://prometheus:9090")
        self.asked: list[str] = []

    def has(self, promql: str, at: datetime) -> bool:
        return True

    def samples(self, promql: str, at: datetime) -> list[Series]:
        self.asked.append(promql)
        own = {"__name__": "windlass_requests_total", "model": "flights", "code": "200"}
        now = ((at.timestamp(), 5.0),)
        return [] if promql.startswith("up{") else [Series({**own, "version": v}, now) for v in ("12", "13")]


def test_pods_that_cannot_be_scraped_are_looked_for(stage: Stage) -> None:
    """Verify that those of both versions are, by the names that KServe gives them, and of a canary alone."""
    heard = Heard()
    blue_green = {"type": "blueGreen"}
    for strategy in (CANARY, blue_green):
        begun = live([GUARD], **strategy)
        found = Watching(replace(stage.place, prometheus=heard), begun, stage.model._work.chosen)
        assert found._counted is not None and found._counted.look(START).silent == {}
    assert [promql for promql in heard.asked if promql.startswith("up{")] == [
        f'up{{pod=~"flights-12-predictor-.*|flights-13-predictor-.*",namespace="{stage.place.namespace}"}}[60000ms]'
    ]


def test_a_shadows_own_counters_speak_for_its_copies(stage: Stage, counted: dict[str, Any]) -> None:
    """Verify that checks of source predictions are silent where Prometheus is."""
    same = {
        "name": "same",
        "kind": "guardrail",
        "metric": "disagreement",
        "source": "predictions",
        "bound": 5,
    }
    begun = live([same], type="shadow")
    counted["evidence"] = Evidence(
        START, {"12": ArmEvidence(requests=7)}, silent={"prometheus": "it is down"}
    )
    found = watching(stage, begun, Collector("http://127.0.0.1:9", timeout_s=1.0)).evidence(begun, START)
    assert found.silent["prometheus"] == "it is down"
    assert found.silent["predictions"].startswith(
        "it is down; the collector at http://127.0.0.1:9 does not answer"
    )
    assert found.arms["12"].requests == 7


def test_nobody_asks_a_collector_for_counters(stage: Stage, counted: dict[str, Any]) -> None:
    """Verify that a canary of errors alone does not wait for one, and one that earns does."""
    away = Collector("http://127.0.0.1:9", timeout_s=1.0)
    alone, earning = live([GUARD], **CANARY), live([GUARD, BOOKED], **CANARY)
    assert watching(stage, alone, away).evidence(alone, START).silent == {}
    assert set(watching(stage, earning, away).evidence(earning, START).silent) == {"predictions", "feedback"}
