"""What the simulator found, each as one small story: the engine among outages, repaired routes, silence and clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec, state
from serving.release.backend import RejectedError
from serving.release.controller import ReleaseController
from serving.release.engine import next_step, refused
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal import history
from serving.release.journal.store import Entry
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.gateway import Gateway, Wire
from serving.release.simulation.leadership import Leadership
from serving.release.simulation.store import Disk, MemoryOrders, MemoryStore
from serving.release.simulation.world import VirtualClock
from serving.release.state import Ratio
from serving.release.statistics import arms
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments
from serving.release.traffic import Traffic, all_to
from windlass.errors import WindlassError

START = datetime(2030, 1, 1, tzinfo=UTC)

ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
    "alpha": 0.001,
}
REWARD = {"name": "reward", "kind": "decision", "metric": "reward", "source": "feedback"}
BANDIT = {"type": "bandit", "floor": 10, "update": "1m", "maxDuration": "12h"}


def at(minutes):
    return START + timedelta(minutes=minutes)


def release_of(strategy=None, checks=(ERRORS,), name="flights-13", **more):
    content = {"model": "flights", "candidate": "13", "checks": list(checks), "onConflict": "queue", **more}
    content["strategy"] = strategy or {"type": "canary", "steps": [{"weight": 50, "minSamples": 100}]}
    if "candidates" in more:
        del content["candidate"]
    return spec.parse({"kind": "Release", "metadata": {"name": name}, "spec": content})


def seen(**counts):
    """`v13=(requests, errors)`."""
    return Evidence(START, {name[1:]: ArmEvidence(*count) for name, count in counts.items()})


def walk(release, looks, champion="12"):
    """The decisions at a look a minute."""
    current = next_step(state.initial(release, champion), Evidence(START), at(0)).state
    decisions = []
    for minute, evidence in enumerate(looks, start=1):
        decisions.append(next_step(current, evidence, at(minute)))
        current = decisions[-1].state
    return decisions


# --- outages


def test_an_outage_is_seen_by_looks_that_see_few_requests_each():
    """Verify that looks of 5 requests find what one of 20 finds."""
    looks = [seen(v13=(5 * n, 4 * n), v12=(5 * n, 4 * n)) for n in range(1, 31)]
    decisions = walk(release_of(), looks)
    assert "fail alike" not in decisions[2].reason
    assert all("fail alike" in decision.reason for decision in decisions[3:])
    assert [decision.alert for decision in decisions].count(decisions[3].alert) == 1


def test_an_outage_is_not_forgotten_where_nothing_new_was_seen():
    once = seen(v13=(200, 150), v12=(200, 150))
    first, again = walk(release_of(), [once, once])
    assert (first.action, again.action) == ("hold", "hold")
    assert again.state == first.state


def test_an_outage_is_over_with_the_first_version_that_answers():
    looks = [seen(v13=(200, 150), v12=(200, 150)), seen(v13=(230, 150), v12=(205, 155))]
    first, second = walk(release_of(), looks)
    assert "fail alike" in first.reason
    assert (second.action, second.state.outage) == ("promote", {})


@pytest.mark.parametrize(
    ("events", "outage"),
    [pytest.param(4, True, id="a-fifth-is-one"), pytest.param(3, False, id="less-is-none")],
)
def test_what_an_outage_is(events, outage):
    (decision,) = walk(release_of(), [seen(v13=(20, events), v12=(20, events))])
    assert bool(decision.state.outage) is outage


def test_nineteen_requests_are_no_window():
    (decision,) = walk(release_of(), [seen(v13=(19, 19), v12=(20, 20))])
    assert (decision.state.outage, decision.state.window) == ({}, {})


def test_a_guardrail_is_not_blind_after_an_outage():
    """Verify that harm shows at the first look after an outage that ruined every large bet."""
    outage = [seen(v13=(200 * n, 120 * n), v12=(200 * n, 120 * n)) for n in range(1, 6)]
    after = seen(v13=(1200, 640), v12=(1200, 602))
    *_, last = walk(release_of(), [*outage, after])
    assert (last.action, last.check) == ("roll_back", "errors")


def test_wealth_in_equal_shares_is_as_much_as_before():
    guard = arms.watch(arms.Guard(), arms.Batch(50, 10, 50, 12), 0.0)
    balanced = arms.rebalanced(guard)
    assert arms.log_evidence(balanced.wealth) == pytest.approx(arms.log_evidence(guard.wealth))
    assert len(set(balanced.wealth)) == 1
    assert balanced.spell == guard.spell


# --- the route


def test_what_was_counted_before_a_repair_tests_nothing():
    before = replace(state.initial(release_of(), "12"), ratio=Ratio(0.5, (1, 2), (30, 3)))
    assert state.recounted(before).ratio == Ratio(0.5, ())
    old = replace(before, rules=1)
    assert state.recounted(old) == old


def test_nothing_goes_on_at_the_look_after_a_repair():
    begun = next_step(state.initial(release_of(), "12"), Evidence(START), at(0)).state
    repaired = state.recounted(begun)
    first = next_step(repaired, seen(v13=(300, 3), v12=(500, 5)), at(1))
    assert (first.action, first.check) == ("hold", "sampleRatio")
    assert next_step(first.state, seen(v13=(500, 5), v12=(700, 7)), at(2)).action == "promote"


def test_a_journal_says_that_the_route_was_repaired():
    entry, release = Entry("flights", 1, "flights-13"), release_of()
    records = [history.release_record(release, "12", START)]
    begun = next_step(state.initial(release, "12"), Evidence(START), at(0))
    looked = next_step(begun.state, seen(v13=(30, 0), v12=(30, 0)), at(1))
    records += [history.decision_record(d, seq, {}) for seq, d in enumerate((begun, looked), start=1)]
    assert history.of_records(entry, records).state.ratio.base == (30, 30)
    records.append({"kind": "repaired", "at": at(2).isoformat(), "found": {}, "weights": {}})
    assert history.of_records(entry, records).state.ratio.base == ()


def test_a_version_that_was_not_counted_is_no_proof_of_a_wrong_split():
    """Verify it where a version goes out at that very look: what a step that is over has shown stays for good."""
    release = release_of(BANDIT, [ERRORS, REWARD], candidates=["13", "14"])
    looks = [
        seen(v13=(0, 0), v14=(0, 0), v12=(0, 0)),
        seen(v13=(300, 3), v14=(300, 90)),  # of the champion nothing is known
        seen(v13=(350, 4), v14=(310, 91), v12=(400, 4)),
        seen(v13=(450, 5), v14=(310, 91), v12=(600, 6)),
    ]
    decisions = walk(release, looks)
    assert [decision.action for decision in decisions[:2]] == ["hold", "drop"]
    assert decisions[-1].check != "sampleRatio" and decisions[-1].state.ratio.settled == 0.0


# --- silence and clocks


@pytest.mark.parametrize("what", ["hold", "abort"])
def test_silence_is_part_of_no_plan(what):
    """Verify that a bandit whose rewards have no source says so after the stated time, and only then."""
    release = release_of(
        BANDIT,
        [ERRORS, REWARD],
        candidates=["13"],
        inconclusiveAfter="10m",
        whenInconclusive=what,
    )
    looks = [
        replace(seen(v13=(50 * n, 0), v12=(50 * n, 0)), silent={"feedback": "no such series"})
        for n in range(1, 13)
    ]
    decisions = walk(release, looks)
    # the step began with nothing, and nobody has spoken since
    assert [d.action for d in decisions[:9]] == ["hold"] * 9
    assert decisions[9].alert is not None
    assert decisions[9].action == what
    assert "no progress for 10m" in decisions[9].reason


def test_a_source_that_speaks_again_starts_the_time_anew():
    release = release_of(BANDIT, [ERRORS, REWARD], candidates=["13"], inconclusiveAfter="10m")
    silent = [replace(seen(v13=(50, 0), v12=(50, 0)), silent={"feedback": "no such series"})]
    decisions = walk(release, [*silent * 8, seen(v13=(50, 0), v12=(50, 0)), *silent * 8])
    assert [decision.alert for decision in decisions if decision.alert] == []


def test_a_clock_that_was_set_back_does_not_hold_what_need_not_wait():
    begun = next_step(state.initial(release_of(), "12"), Evidence(START), at(60)).state
    assert next_step(begun, seen(v13=(150, 0), v12=(150, 0)), at(5)).action == "promote"


def test_other_buckets_than_before_are_nonsense_and_no_crash():
    slow = {**ERRORS, "name": "slow", "metric": "latencyP99"}
    arm = ArmEvidence(50, 0, Histogram.of([5.0] * 50))
    odd = ArmEvidence(80, 0, Histogram((1.0, 7.0), (40, 40, 0)))
    first = Evidence(START, {"13": arm, "12": arm})
    _, second = walk(release_of(checks=[slow]), [first, Evidence(START, {"13": odd, "12": odd})])
    assert (second.action, second.check) == ("hold", "slow")
    assert "no edge" in second.reason


# --- several candidates


def test_two_bad_candidates_do_not_hide_each_other():
    release = release_of(BANDIT, [ERRORS, REWARD], candidates=["13", "14"])
    current = next_step(state.initial(release, "12"), Evidence(START), at(0)).state
    counts = {"13": [0, 0], "14": [0, 0], "12": [0, 0]}
    for minute in range(1, 7):
        for version, (n, bad) in {"13": (40, 8), "14": (320, 64), "12": (40, 0)}.items():
            counts[version][0] += n
            counts[version][1] += bad
        evidence = seen(**{f"v{version}": tuple(count) for version, count in counts.items()})
        decision = next_step(current, evidence, at(minute))
        current = decision.state
        if decision.action in ("drop", "roll_back"):
            break
    assert decision.action in ("drop", "roll_back")
    assert minute <= 3


def test_the_same_look_after_a_drop_does_no_more():
    """Verify what a crash after a drop leads to: the evidence is the same, and so is the outcome."""
    good, bad = (
        {"reward": Moments(n=900, y=float(y), yy=float(y))} for y in (300, 90)
    )  # the winner is clear at the same look
    release = release_of(BANDIT, [ERRORS, REWARD], candidates=["13", "14"])
    evidence = Evidence(
        START,
        {
            "13": ArmEvidence(900, 300, outcomes=bad),
            "14": ArmEvidence(900, 1, outcomes=good),
            "12": ArmEvidence(900, 1, outcomes=bad),
        },
    )
    current = next_step(state.initial(release, "12"), Evidence(START), at(0)).state
    dropped = next_step(current, evidence, at(5))
    assert (dropped.action, list(dropped.state.dropped)) == ("drop", ["13"])
    again = next_step(dropped.state, evidence, at(5))
    assert (again.action, again.state) == ("hold", dropped.state)
    assert next_step(dropped.state, evidence, at(6)).action != "hold"


# --- the controller


class Platform:
    """A controller on a disk and a wire that outlive it."""

    def __init__(self):
        self.disk, self.leadership, self.clock = Disk(), Leadership(), VirtualClock(START)
        self.wire = Wire(routes={"flights": all_to("12")}, champions={"flights": "12"})

    def controller(self):
        lease, boundaries = self.leadership.take(), Boundaries()
        gateway = Gateway(self.wire, boundaries, lease)
        return ReleaseController(
            MemoryStore(self.disk, boundaries, lease),
            gateway,
            self.clock,
            set_champion=gateway.set_champion,
            commands=MemoryOrders(self.disk, boundaries, lease),
        )


@pytest.fixture
def platform():
    return Platform()


def test_a_document_that_arrives_again_does_not_block_the_queue(platform):
    controller = platform.controller()
    controller.start(release_of(), "12")
    controller.command("flights", "abort")
    controller.start(release_of(name="flights-14", candidate="14"), "12")
    assert "queued" in controller.start(release_of(), "12").reason
    controller.start(release_of(name="flights-15", candidate="15"), "12")
    controller.command("flights", "abort")
    assert controller.next_queued("flights").name == "flights-15"
    assert [name for name, _ in platform.disk.queues["flights"]] == ["flights-15"]


def test_the_next_release_begins_with_the_champion_that_was_decided(platform):
    """Verify that a rollback whose alias has not moved yet is not overlooked."""
    controller = platform.controller()
    controller.start(release_of(), "12")
    controller.command("flights", "promote")
    assert platform.wire.champions["flights"] == "13"
    platform.wire.registry_down = True
    with pytest.raises(WindlassError, match="registry"):
        controller.command("flights", "rollback")
    platform.wire.registry_down = False
    decision = controller.start(release_of(name="flights-14", candidate="14"), "13")
    assert decision.weights == {"12": 50, "14": 50}


def test_a_refused_change_is_tried_once_a_look(platform):
    platform.wire.refuses = frozenset({"13"})
    controller = platform.controller()
    with pytest.raises(RejectedError):
        controller.start(release_of(), "12")
    actions = [controller.observe("flights", seen(v13=(0, 0), v12=(100 * n, 0))).action for n in (1, 2)]
    assert actions == ["hold", "abort"]
    failed = [line for line in next(iter(platform.disk.journals.values())) if '"failed"' in line]
    assert len(failed) == 3


@pytest.mark.parametrize(
    ("failures", "action"), [pytest.param(2, "hold", id="twice"), pytest.param(3, "abort", id="three-times")]
)
def test_how_often_a_router_may_refuse(failures, action):
    begun = next_step(state.initial(release_of(), "12"), Evidence(START), at(0)).state
    decision = refused(begun, "no cluster", failures, at(1))
    assert (decision.action, decision.check) == (action, "backend")
    assert decision.alert is not None
    assert decision.verdicts[0].outcome == "ERROR"
    assert decision.weights == ({"12": 50, "13": 50} if action == "hold" else {"12": 100})


def test_a_refusal_is_told_once():
    begun = next_step(state.initial(release_of(), "12"), Evidence(START), at(0)).state
    first = refused(begun, "no cluster", 1, at(1))
    assert refused(first.state, "no cluster", 2, at(2)).alert is None


def test_drift_is_repaired_and_its_requests_do_not_count(platform):
    controller = platform.controller()
    controller.start(release_of(), "12")
    controller.observe("flights", seen(v13=(30, 0), v12=(30, 0)))
    platform.wire.put("flights", Traffic({"12": 90, "13": 10}))
    controller.observe("flights", seen(v13=(80, 0), v12=(480, 0)))
    assert platform.wire.routes["flights"].weights == {"12": 50, "13": 50}
    assert controller.live("flights").ratio.counts == (0, 0)
    assert controller.observe("flights", seen(v13=(280, 0), v12=(680, 0))).action == "promote"
