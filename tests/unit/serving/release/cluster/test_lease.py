"""Who leads: the rules as rows, and several candidates with crooked clocks over a wire that loses what it likes."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes_server import KubernetesServer
from kubernetes_wire import Wire, weather

from serving.release.backend import UnreachableError
from serving.release.cluster import lease
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.lease import (
    ACTS_FOR_S,
    DURATION_S,
    EVERY_S,
    Acquire,
    Claim,
    Lease,
    Lost,
    Renew,
    Seen,
    Step,
    Wait,
    decide,
    observe,
)
from windlass.clock import ManualClock
from windlass.errors import WindlassError

PATH = "/apis/coordination.k8s.io/v1/namespaces/prod/leases/windlass-operator"
START = datetime(2030, 1, 1, tzinfo=UTC)


def claim(holder: str, transitions: int = 3, duration_s: float = 15.0, version: str = "7") -> Claim:
    return Claim(holder, duration_s, transitions, "then", version)


@pytest.mark.parametrize(
    ("seen", "renewed", "step"),
    [
        pytest.param(Seen(None, 100.0), None, Acquire(0), id="none-is-there"),
        pytest.param(Seen(claim("b"), 90.0), None, Wait(5.0, "b"), id="another-s"),
        pytest.param(Seen(claim("b"), 85.0), None, Acquire(4), id="another-s-that-is-silent"),
        pytest.param(
            Seen(claim("b", duration_s=60), 85.0), None, Wait(45.0, "b"), id="the-holder-s-own-duration"
        ),
        pytest.param(Seen(claim(""), 100.0), None, Acquire(4), id="given-back"),
        pytest.param(Seen(claim("a"), 100.0), None, Acquire(3), id="ours-though-nobody-told-us"),
        pytest.param(Seen(claim("a"), 50.0), 98.0, Renew(), id="ours"),
        pytest.param(
            Seen(claim("a"), 50.0), 90.0, Lost("it could not be renewed for 10 s"), id="ours-for-too-long"
        ),
        pytest.param(Seen(claim("b"), 100.0), 98.0, Lost("b has it now"), id="taken"),
        pytest.param(Seen(claim(""), 100.0), 98.0, Lost("nobody has it now"), id="emptied"),
        pytest.param(Seen(None, 100.0), 98.0, Lost("somebody deleted it"), id="deleted"),
    ],
)
def test_what_follows_from_what_is_seen(seen: Seen, renewed: float | None, step: Step) -> None:
    """Verify each rule at second 100 of a's clock."""
    assert decide(seen, "a", 100.0, renewed) == step


def test_a_claim_ages_until_its_holder_speaks() -> None:
    """Verify that a claim is as old as it is seen unchanged, and that a renewal is a change whatever time it tells."""
    first = observe(None, claim("b"), 10.0)
    assert observe(first, claim("b"), 20.0).since == 10.0
    assert observe(first, claim("b", version="8"), 21.0).since == 21.0


class Town:
    """Candidates on one API server; time moves when the test says so, and each one's clock in its own way."""

    def __init__(self) -> None:
        self.state = KubernetesServer()
        self.now = 0.0
        self.wires: dict[str, Wire] = {}

    def candidate(self, name: str, *, offset: float = 0.0, rate: float = 1.0) -> Lease:
        self.wires[name] = wire = Wire(self.state)
        return Lease(
            KubernetesApi(wire, sleep=lambda seconds: None),
            "prod",
            name,
            clock=lambda: offset + self.now * rate,
            wall=ManualClock(START),
        )

    @property
    def spec(self) -> dict[str, Any]:
        return self.state.objects[PATH]["spec"]


def test_the_first_one_leads_and_tells_so() -> None:
    """Verify the Lease that others read: kubectl, and any program that follows the same rules."""
    town = Town()
    one = town.candidate("pod-a_1")
    assert not one.leads() and not one.reached()
    assert one.turn() == Acquire(0)
    assert one.leads() and one.reached()
    assert town.spec == {
        "holderIdentity": "pod-a_1",
        "leaseDurationSeconds": 15,
        "acquireTime": "2030-01-01T00:00:00.000000Z",
        "renewTime": "2030-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }


def test_a_silent_leader_is_followed_after_the_duration_and_has_stopped_before() -> None:
    """Verify the order of the two: the old one stops by its own clock, and only then does the other begin."""
    town = Town()
    one, two = town.candidate("one"), town.candidate("two", offset=1e6)
    one.turn()
    for _ in range(10):
        town.now += EVERY_S
        assert one.turn() == Renew()
        assert isinstance(two.turn(), Wait)
    silent = town.now
    stopped = began = None
    while began is None:
        town.now += 0.25
        if stopped is None and not one.leads():
            stopped = town.now
        two.turn()
        if two.leads():
            began = town.now
    assert stopped is not None and stopped - silent == ACTS_FOR_S
    assert began - silent == DURATION_S
    assert town.spec["holderIdentity"] == "two" and town.spec["leaseTransitions"] == 1
    assert one.turn() == Lost("it could not be renewed for 10 s")


def test_a_lease_that_is_given_back_is_the_next_one_s_at_once() -> None:
    """Verify that an orderly end costs nobody the duration, and that who does not lead gives nothing back."""
    town = Town()
    one, two = town.candidate("one"), town.candidate("two")
    one.turn()
    two.turn()
    two.give_back()
    assert town.spec["holderIdentity"] == "one"
    one.give_back()
    assert not one.leads() and town.spec["holderIdentity"] == ""
    assert two.turn() == Acquire(1) and two.leads()
    one.give_back()
    assert town.spec["holderIdentity"] == "two"


def test_two_that_take_it_at_once_are_one_leader() -> None:
    """Verify that of two who saw the same free lease one gets it, and the other sees whose it is."""
    town = Town()
    one, two = town.candidate("one"), town.candidate("two")
    town.wires["two"].fate = lambda asked: (one.turn(), "through")[1] if asked.method == "POST" else "through"
    two.turn()
    assert one.leads() and not two.leads()
    assert two.turn() == Wait(DURATION_S, "one")


def test_an_answer_that_is_lost_is_found() -> None:
    """Verify that who took the lease and was not told leads from the next look on."""
    town = Town()
    one = town.candidate("one")
    town.wires["one"].fate = lambda asked: "unanswered" if asked.method == "POST" else "through"
    with pytest.raises(UnreachableError):
        one.turn()
    assert not one.leads()
    town.wires["one"].fate = lambda asked: "through"
    assert one.turn() == Acquire(0) and one.leads()


def test_an_api_server_that_is_gone_ends_the_lead() -> None:
    """Verify that a leader who reaches nobody goes on for its time, and is told at the first look after."""
    town = Town()
    one = town.candidate("one")
    one.turn()
    town.wires["one"].fate = lambda asked: "lost"
    for _ in range(4):
        town.now += EVERY_S
        with pytest.raises(UnreachableError):
            one.turn()
        assert one.leads()
    town.now += EVERY_S
    assert not one.leads()
    assert one.turn() == Lost("it could not be renewed for 10 s")


@pytest.mark.parametrize("seed", range(25))
def test_never_two_at_a_time(seed: int) -> None:
    """Verify over clocks set and running differently, losses, deaths and pauses that the lead is never shared."""
    rng = random.Random(seed)
    town = Town()

    def born(number: int) -> Lease:
        # 10 s of a slow clock end before 15 s of a fast one where they are less than a half apart
        found = town.candidate(f"pod-{number}", offset=rng.uniform(-1e5, 1e5), rate=rng.uniform(0.9, 1.1))
        town.wires[f"pod-{number}"].fate = weather(rng, rng.choice([0.6, 0.9, 1.0]))
        return found

    alive = [born(number) for number in range(3)]
    due = [0.0, 0.0, 0.0]
    number, led = 3, 0
    for _ in range(4000):
        town.now += 0.1
        for place, each in enumerate(alive):
            if town.now < due[place]:
                continue
            try:
                step: Step | None = each.turn()
            except WindlassError:
                step = None
            # usually on time, sometimes the process was stopped for a while
            due[place] = town.now + (rng.uniform(5, 40) if rng.random() < 0.01 else EVERY_S)
            if isinstance(step, Lost) or rng.random() < 0.005:
                if rng.random() < 0.5:
                    each.give_back()
                alive[place] = born(number)
                due[place] = town.now
                number += 1
        for wire in town.wires.values():
            if wire.late and rng.random() < 0.05:
                wire.arrive()
        leading = [each for each in alive if each.leads()]
        assert len(leading) <= 1
        led += len(leading)
    assert led > 1000  # of 4000: it is not safe by never leading


def test_keeping_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify over real threads that changes are told, that an end gives back, and that a loss ends the keeping."""
    monkeypatch.setattr(lease, "EVERY_S", 0.01)
    town = Town()
    one, two = town.candidate("one"), town.candidate("two")
    got, stop = threading.Event(), threading.Event()
    keeping = threading.Thread(target=one.keep, args=(stop, got.set), daemon=True)
    keeping.start()
    assert got.wait(10) and one.leads()
    took, lost, ended = threading.Event(), [], threading.Event()

    def second() -> None:
        lost.append(two.keep(ended, took.set))

    following = threading.Thread(target=second, daemon=True)
    following.start()
    stop.set()
    keeping.join(10)
    assert not keeping.is_alive() and not one.leads()
    assert took.wait(10) and two.leads()
    took.clear()
    town.state.remove(PATH)
    following.join(10)
    assert lost == ["somebody deleted it"] and took.is_set() and not two.leads()


def test_who_may_not_write_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Verify that a Role that lacks a verb is seen: such a process is healthy and ready, and never leads."""
    monkeypatch.setattr(lease, "EVERY_S", 0.01)
    town = Town()
    town.state.put(PATH, {"spec": {"holderIdentity": ""}})
    town.state.forbids = lambda asked: "cannot patch resource leases" if asked.method != "GET" else None
    one, stop = town.candidate("one"), threading.Event()
    keeping = threading.Thread(target=one.keep, args=(stop, lambda: None), daemon=True)
    with caplog.at_level("WARNING"):
        keeping.start()
        while sum(asked.method == "PATCH" for asked in town.state.asked) < 3 and keeping.is_alive():
            stop.wait(0.01)
        stop.set()
        keeping.join(10)
    told = [record.getMessage() for record in caplog.records if record.name == lease.__name__]
    assert len(told) == 1 and "Lease prod/windlass-operator" in told[0] and "cannot patch" in told[0]
    assert not one.leads()
