"""The release engine on an API server's journals: crashes and lost answers at every boundary change nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kubernetes_server import Asked, KubernetesServer
from kubernetes_wire import Wire

from serving.release import spec
from serving.release.backend import UnreachableError
from serving.release.cluster import journal_chain
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.store import ClusterStore, OvertakenError
from serving.release.controller import ReleaseController
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal import replay
from serving.release.journal.store import Store
from serving.release.release import Release
from serving.release.simulation import crashes
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.crashes import BoundedStore, Script
from serving.release.simulation.leadership import Lease
from serving.release.simulation.run import START
from serving.release.simulation.world import Behaviour, VirtualClock
from serving.release.traffic import Traffic, all_to

ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
}


def release(samples: int) -> Release:
    """A canary of two steps."""
    steps = [{"weight": 20, "minSamples": samples}, {"weight": 50, "minSamples": samples}]
    strategy = {"type": "canary", "steps": steps}
    content = {"model": "flights", "candidate": "13", "strategy": strategy, "checks": [ERRORS]}
    return spec.parse({"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content})


def nothing(seconds: float) -> None:
    pass


def opened(wire: Wire, writer: str = "a") -> ClusterStore:
    return ClusterStore(KubernetesApi(wire, sleep=nothing), "prod", writer, sleep=nothing)


@pytest.fixture
def script() -> Script:
    """A canary that is promoted, and rolled back by a person once it is over."""
    usual = Behaviour()
    return crashes.write(release(100), {"12": usual, "13": usual}, {-1: "rollback"})


def test_a_crash_at_any_boundary_changes_nothing(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify for every call that leaves the engine and both sides of it, with objects that are full soon."""
    monkeypatch.setattr(journal_chain, "PART", 6000)
    calm = crashes.play(script, crashes.in_memory())
    assert [r["action"] for r in calm.decisions if r["acts"]] == ["start", "advance", "promote", "roll_back"]
    for call, name in enumerate(calm.calls, start=1):
        for side in ("before", "after"):
            wire = Wire(KubernetesServer())

            def stores(boundaries: Boundaries, lease: Lease, wire: Wire = wire) -> Store:
                return BoundedStore(opened(wire), boundaries)

            found = crashes.play(script, stores, (call, side))
            assert found == calm, f"died {side} call {call} ({name})"
            store = opened(wire)
            assert len(wire.state.objects) > 1
            assert replay.replay(store.records(store.entries("flights")[0])).same


class Router:
    """Traffic and champion of one model, and what its versions answered: one request of a hundred fails."""

    def __init__(self) -> None:
        self.shown = all_to("12")
        self.champion = "12"
        self.served = {"12": 0, "13": 0}

    def serve(self) -> dict[str, ArmEvidence]:
        """A minute's 1,000 requests; all that was answered until then."""
        for version, weight in self.shown.weights.items():
            self.served[version] += 10 * weight
        return {v: ArmEvidence(requests=n, errors=n // 100) for v, n in self.served.items()}

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.shown = traffic

    def traffic(self, model: str) -> Traffic:
        return self.shown

    def set_champion(self, model: str, version: str) -> None:
        self.champion = version


def through(wire: Wire, outage: range, fate: str) -> tuple[Router, list[str], list[tuple[str, Traffic]]]:
    """A release of 60 looks, a minute apart; in the looks of `outage` the wire is as `fate` says.

    Returns:
        the router at the end, the acting decisions of the journal, and what was raised in the outage, with the
        traffic at that moment.
    """
    router, clock = Router(), VirtualClock(START)
    controller = ReleaseController(opened(wire), router, clock, set_champion=router.set_champion)
    raised: list[tuple[str, Traffic]] = []
    begun = False
    for look in range(1, 61):
        wire.fate = (lambda asked: fate) if look in outage else (lambda asked: "through")
        clock.move(timedelta(minutes=1))
        arms = router.serve()
        try:
            if not begun:
                controller.start(release(1000), "12")
                begun = True
            elif controller.live("flights"):
                controller.observe("flights", Evidence(clock.now(), arms))
            else:
                controller.settle("flights")
        except OvertakenError:
            raise
        except UnreachableError as error:
            raised.append((str(error), router.shown))
    store = opened(wire, "b")
    (entry,) = store.entries("flights")
    records = list(store.records(entry))
    assert [record["seq"] for record in records if record["kind"] == "decision"] == list(
        range(1, 1 + sum(record["kind"] == "decision" for record in records))
    )
    assert replay.replay(records).same
    return router, [r["action"] for r in records if r["kind"] == "decision" and r["acts"]], raised


@pytest.mark.parametrize("fate", ["lost", "unanswered", "late", "busy"])
@pytest.mark.parametrize("since", [1, 2, 3, 6])
def test_an_outage_decides_nothing_and_loses_nothing(fate: str, since: int) -> None:
    """Verify that ten looks without an API server change neither traffic nor journal, whichever way it is lost."""
    calm = through(Wire(KubernetesServer()), range(0), "through")
    wire = Wire(KubernetesServer())
    outage = range(since, since + 10)
    router, actions, raised = through(wire, outage, fate)
    assert calm[1] == actions == ["start", "advance", "promote"]
    assert (router.shown, router.champion) == (calm[0].shown, "13")
    assert len(raised) == 10
    assert len({str(shown) for _, shown in raised}) == 1


def test_what_arrives_after_the_outage_is_not_believed() -> None:
    """Verify that requests of an outage which arrive one by one while the release goes on do no harm."""
    wire = Wire(KubernetesServer())
    looks = iter(range(10_000))

    def fate(asked: Asked) -> str:
        place = next(looks)
        if wire.late and place % 3 == 0:
            wire._answer(wire.late.pop(0))
        return "late" if asked.method != "GET" and place % 4 == 1 else "through"

    router, clock = Router(), VirtualClock(START)
    wire.fate = fate
    store = opened(wire)
    store.models()
    controller = ReleaseController(store, router, clock, set_champion=router.set_champion)
    started = False
    for _ in range(60):
        clock.move(timedelta(minutes=1))
        arms = router.serve()
        try:
            if not started:
                controller.start(release(1000), "12")
                started = True
            elif controller.live("flights"):
                controller.observe("flights", Evidence(clock.now(), arms))
        except UnreachableError:
            pass
    wire.fate = lambda asked: "through"
    controller.settle("flights")
    wire.arrive()
    reader = ClusterStore(KubernetesApi(wire, sleep=nothing), "prod", None)
    (entry,) = reader.entries("flights")
    records = list(reader.records(entry))
    assert router.champion == "13" and replay.replay(records).same
    seqs = [record["seq"] for record in records if record["kind"] == "decision"]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("look", range(1, 8))
def test_who_is_followed_decides_nothing_more(look: int) -> None:
    """Verify that two engines which both look from some moment on leave one history: the successor's."""
    wire, router, clock = Wire(KubernetesServer()), Router(), VirtualClock(START)
    first = ReleaseController(opened(wire, "one"), router, clock, set_champion=router.set_champion)
    first.start(release(1000), "12")
    second: ReleaseController | None = None
    refused = 0
    for turn in range(1, 40):
        clock.move(timedelta(minutes=1))
        evidence = Evidence(clock.now(), router.serve())
        if turn == look:
            second = ReleaseController(opened(wire, "two"), router, clock, set_champion=router.set_champion)
            second.recover()
        shown = router.shown
        if first.live("flights"):
            try:
                first.observe("flights", evidence)
            except OvertakenError:
                refused += 1
                assert router.shown == shown
        if second is not None and second.live("flights"):
            second.observe("flights", evidence)
    assert second is not None and second.live("flights") is None
    assert refused == 40 - look
    store = opened(wire, "three")
    records = list(store.records(store.entries("flights")[0]))
    assert replay.replay(records).same and router.champion == "13"
    acted = [record["action"] for record in records if record["kind"] == "decision" and record["acts"]]
    assert acted == ["start", "advance", "promote"]
