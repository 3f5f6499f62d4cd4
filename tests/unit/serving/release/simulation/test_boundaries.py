"""A crash at every boundary of the journal, of the router, of the alias and of the mailbox, for each strategy."""

from __future__ import annotations

import pytest

from serving.release import spec
from serving.release.journal import replay
from serving.release.journal.store import DiskStore
from serving.release.simulation import crashes
from serving.release.simulation.boundaries import Boundaries, Crash
from serving.release.simulation.crashes import BoundedStore
from serving.release.simulation.world import Behaviour, worse

USUAL = Behaviour()
BETTER = Behaviour(loss=-0.03, reward=0.2)

ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
}
SLOW = {
    "name": "slow",
    "kind": "guardrail",
    "metric": "latencyP99",
    "source": "envoy",
    "relativeToChampion": True,
}
DISTANCE = {
    "name": "far",
    "kind": "guardrail",
    "metric": "scoreDistance",
    "source": "predictions",
    "bound": 10,
}
BRIER = {"name": "brier", "kind": "decision", "metric": "brier", "source": "feedback", "margin": 0.01}
REWARD = {"name": "reward", "kind": "decision", "metric": "reward", "source": "feedback"}

CANARY = {"type": "canary", "mirror": True, "steps": [{"weight": 20, "minSamples": 100}, {"weight": 50}]}
PREVIEW = {"type": "blueGreen", "keepWarm": "2m", "smoke": [{}], "minSamples": 300}
SHADOW = {"type": "shadow", "minSamples": 800}
EXPERIMENT = {
    "type": "experiment",
    "unit": {"header": "x-user"},
    "allocation": {"12": 34, "13": 33, "14": 33},
    "minDuration": "3m",
    "maxDuration": "12h",
}
BANDIT = {"type": "bandit", "floor": 10, "update": "1m", "minDuration": "2m", "maxDuration": "12h"}


def release_of(strategy, checks):
    candidates = {"candidate": "13"}
    if strategy["type"] in ("experiment", "bandit"):
        candidates = {"candidates": ["13", "14"], "champion": "12"}
    content = {"model": "flights", "strategy": strategy, "checks": checks, **candidates}
    return spec.parse({"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content})


def script_of(strategy, checks, candidate, orders, other=USUAL):
    return crashes.write(release_of(strategy, checks), {"12": USUAL, "13": candidate, "14": other}, orders)


def bounded(error):
    return {**error, "relativeToChampion": False, "bound": 5}


def predicted(check):
    return {**check, "source": "predictions"}


RELEASES = [
    pytest.param(
        script_of(CANARY, [ERRORS, SLOW, DISTANCE, BRIER], BETTER, {-1: "rollback"}),
        ["start", "advance", "promote", "roll_back"],
        id="a-canary-is-promoted-and-rolled-back",
    ),
    pytest.param(
        script_of(CANARY, [ERRORS, SLOW], worse(USUAL, "latency"), {2: "pause", 7: "resume"}),
        ["start", "pause", "roll_back"],
        id="a-slow-canary-is-rolled-back-in-its-pause",
    ),
    pytest.param(
        script_of(PREVIEW, [bounded(ERRORS)], USUAL, {2: "pause", 3: "resume"}),
        ["start", "pause", "resume", "advance", "promote"],
        id="blue-green",
    ),
    pytest.param(
        script_of(SHADOW, [predicted(ERRORS), DISTANCE, BRIER], BETTER, {}), ["start", "promote"], id="shadow"
    ),
    pytest.param(
        script_of(EXPERIMENT, [ERRORS, REWARD], BETTER, {}, worse(USUAL, "errors")),
        ["start", "drop", "promote"],
        id="experiment-of-three",
    ),
    pytest.param(
        script_of(BANDIT, [ERRORS, REWARD], worse(USUAL, "errors"), {}, Behaviour(reward=0.15)),
        ["start", "drop", "update", "promote"],
        id="bandit-of-three",
    ),
    pytest.param(
        script_of(CANARY, [ERRORS], USUAL, {2: "abort"}), ["start", "abort"], id="aborted-by-a-person"
    ),
]


@pytest.mark.parametrize(("script", "actions"), RELEASES)
def test_a_crash_at_any_boundary_changes_nothing(script, actions):
    """Verify for every call that leaves the engine, and both sides of it: the same decisions, traffic and champion."""
    calm = crashes.play(script, crashes.in_memory())
    assert [a for a in dict.fromkeys(r["action"] for r in calm.decisions) if a != "hold"] == actions
    assert calm.confirmed
    for call, name in enumerate(calm.calls, start=1):
        for side in ("before", "after"):
            found = crashes.play(script, crashes.in_memory(), (call, side))
            assert found == calm, f"died {side} call {call} ({name})"


def test_the_same_holds_of_the_real_disk(tmp_path):
    script = script_of(CANARY, [ERRORS, BRIER], BETTER, {-1: "rollback"})

    def on(folder):
        return lambda boundaries, lease: BoundedStore(DiskStore(tmp_path / folder), boundaries)

    calm = crashes.play(script, on("calm"))
    assert calm == crashes.play(script, crashes.in_memory())
    for call, name in enumerate(calm.calls, start=1):
        for side in ("before", "after"):
            folder = f"{call}-{side}"
            assert crashes.play(script, on(folder), (call, side)) == calm, f"died {side} call {call} ({name})"
            (path,) = (tmp_path / folder / "flights").glob("*.jsonl")
            store = DiskStore(tmp_path / folder)
            assert replay.replay(store.records(store.entries("flights")[0])).same, path


def test_every_kind_of_call_is_a_boundary():
    script = RELEASES[0].values[0]
    calls = set(crashes.play(script, crashes.in_memory()).calls)
    assert calls == {
        "append release",
        "append decision",
        "append confirmed",
        "dequeue",
        "order done",
        "read traffic",
        "set champion",
        "set traffic",
    }


@pytest.mark.parametrize(("side", "done"), [("before", []), ("after", [1])])
def test_death_comes_before_or_after_the_effect(side, done):
    boundaries, effects = Boundaries(), []
    boundaries.die(2, side)
    boundaries.cross("first", lambda: None)
    with pytest.raises(Crash, match=f"{side} second"):
        boundaries.cross("second", lambda: effects.append(1))
    assert effects == done
    assert not boundaries.armed
