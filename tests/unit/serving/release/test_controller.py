"""Decide, journal, act, confirm: one live release a model, and a crash at every boundary."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec
from serving.release.backend import RejectedError, UnconfirmedError, UnreachableError
from serving.release.controller import Conflict, ReleaseController
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal import history, mailbox, replay
from serving.release.journal.mailbox import Mailbox, Order, OrderBox
from serving.release.journal.store import DiskStore
from serving.release.statistics.histogram import Histogram, with_edges
from windlass.clock import ManualClock
from windlass.errors import UsageError, WindlassError

START = datetime(2013, 3, 1, tzinfo=UTC)


class Crash(BaseException):
    """The process is gone; nothing catches this."""


class World:
    """The router, the registry and the disk, which outlive a crashed controller; it dies before call `fatal`."""

    def __init__(self, directory, fatal=None):
        self.directory = directory
        self.routes = {"flights": {"12": 100}}
        self.mirrors = {}
        self.told = {}
        self.champion = {"flights": "12"}
        self.calls = 0
        self.fatal = fatal
        self.clock = ManualClock(START)

    def _boundary(self):
        self.calls += 1
        if self.calls == self.fatal:
            raise Crash

    def set_traffic(self, model, traffic):
        self._boundary()
        self.routes[model], self.mirrors[model] = dict(traffic.weights), traffic.mirror_to
        self.told[model] = traffic
        self._boundary()

    def traffic(self, model):
        return replace(self.told[model], weights=self.routes[model]) if model in self.told else None

    def set_champion(self, model, version):
        self._boundary()
        self.champion[model] = version
        self._boundary()

    def controller(self, commands=None):
        world = self

        class Bounded(DiskStore):
            """The boundary before and after each line of the journal."""

            def append(self, entry, record):
                world._boundary()
                super().append(entry, record)
                world._boundary()

        return ReleaseController(
            Bounded(self.directory),
            self,
            self.clock,
            set_champion=self.set_champion,
            commands=None if commands is None else OrderBox(commands),
        )


def latencies(each, requests):
    return Histogram.of((each,) * requests, with_edges(50))


def story(kind, looks=19):
    """Evidence every three hours, cumulative, drawn without regard to what the engine does with it."""
    draw = random.Random(4)
    arms = {"12": [0, 0], "13": [0, 0]}
    pairs: list[float] = []
    for hour in range(3, 3 * looks, 3):
        share = 0.1 if hour <= 21 else 0.5
        for _ in range(120):
            mine = arms["13" if draw.random() < share else "12"]
            mine[0] += 1
        pairs += [draw.gauss(0, 0.02) for _ in range(90)]
        slow = kind == "slow" and hour > 25
        yield (
            START + timedelta(hours=hour),
            Evidence(
                START + timedelta(hours=hour),
                {
                    "12": ArmEvidence(arms["12"][0], 0, latencies(3.0, arms["12"][0])),
                    "13": ArmEvidence(
                        arms["13"][0], 0, latencies(200.0 if slow else 3.0, arms["13"][0]), 40 * hour, 0
                    ),
                },
                {"brier": tuple(pairs)},
            ),
        )


def release_of(document, **changes):
    # two steps that the story's shares fit, and time enough
    document["spec"]["strategy"]["steps"] = [
        {"weight": 10, "minSamples": 40, "minDuration": "20h"},
        {"weight": 50, "minSamples": 100, "minDuration": "12h"},
    ]
    document["spec"]["inconclusiveAfter"] = "9d"
    return replace(spec.parse(document), **changes)


def play(world, release, kind, crash=False):
    """Run the story to its end, starting over with a new controller after a crash."""
    controller = world.controller()

    def survive(act):
        nonlocal controller
        while True:
            try:
                return act()
            except Crash:
                assert crash
                controller = world.controller()

    survive(lambda: controller.start(release))
    for when, seen in story(kind):
        world.clock.advance_to(when)
        survive(lambda seen=seen: controller.observe("flights", seen))
    controller.close()
    return outcome(world)


def outcome(world):
    (_, _, path), *_ = history.files(world.directory, "flights")
    keep = (
        "at",
        "action",
        "check",
        "reason",
        "weights",
        "mirror_to",
        "champion",
        "verdicts",
        "evidence",
        "state",
    )
    return [{key: record[key] for key in keep} for record in history.decisions(path)]


@pytest.mark.parametrize(
    ("kind", "end", "champion", "weights"),
    [
        pytest.param("healthy", "promote", "13", {"13": 100}, id="promoted"),
        pytest.param("slow", "roll_back", "12", {"12": 100}, id="rolled-back"),
    ],
)
def test_a_release_runs_to_its_end(tmp_path, document, kind, end, champion, weights):
    world = World(tmp_path)
    turns = [
        record["action"] for record in play(world, release_of(document), kind) if record["action"] != "hold"
    ]
    assert turns == ["start", "advance", end]
    assert (world.champion["flights"], world.routes["flights"]) == (champion, weights)


@pytest.mark.parametrize("kind", ["healthy", "slow"])
def test_a_crash_at_any_boundary_changes_no_decision(tmp_path, document, kind):
    """Verify systematically: the process dies before the n-th write, for every n there is."""
    calm = World(tmp_path / "calm")
    expected = play(calm, release_of(document), kind)
    boundaries = calm.calls
    assert boundaries > 20
    for fatal in range(1, boundaries + 1):
        world = World(tmp_path / str(fatal), fatal)
        found = play(world, release_of(document), kind, crash=True)
        assert found == expected, f"died before write {fatal}"
        assert (world.routes, world.mirrors, world.champion) == (calm.routes, calm.mirrors, calm.champion)
        newest = history.newest(world.directory, "flights")
        assert newest.unconfirmed is None


def test_a_torn_journal_line_is_as_if_never_written(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    controller.close()
    (_, _, path), *_ = history.files(tmp_path, "flights")
    with path.open("ab") as file:
        file.write(b'{"kind":"decision","seq":2,"acti')
    again = world.controller()
    when, seen = next(story("healthy"))
    world.clock.advance_to(when)
    assert again.observe("flights", seen).action == "hold"
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        "release",
        "decision",
        "confirmed",
        "decision",
    ]


def test_an_act_that_fails_is_tried_again_and_never_forgotten(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    working, calls = world.set_traffic, []

    def broken(*args, **kwargs):
        calls.append(args)
        raise WindlassError("no proxy")

    world.set_traffic = broken
    with pytest.raises(WindlassError, match="no proxy"):
        controller.start(release_of(document))
    with pytest.raises(WindlassError, match="no proxy"):
        controller.recover()
    world.set_traffic = working
    world.controller().recover()
    assert world.routes["flights"] == {"12": 90, "13": 10}
    assert len(calls) == 2


def test_the_same_release_again_goes_on(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    assert controller.start(release_of(document)).action == "start"
    assert controller.start(release_of(document)).action == "hold"
    assert len(history.files(tmp_path, "flights")) == 1


def test_a_second_live_release_is_refused(tmp_path, document):
    controller = World(tmp_path).controller()
    controller.start(release_of(document))
    with pytest.raises(Conflict, match=r"'flights-14' of 'flights' is refused: release 'flights-13' is live"):
        controller.start(release_of(document, name="flights-14", candidates=("14",)))


def test_a_second_live_release_waits_where_it_says_so(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    second = release_of(document, name="flights-14", candidates=("14",), on_conflict="queue")
    assert "queued behind" in controller.start(second).reason
    assert controller.next_queued("flights") is None
    controller.command("flights", "abort")
    # a restart loses no queue
    controller = world.controller()
    assert controller.next_queued("flights") == second
    assert controller.start(controller.next_queued("flights")).action == "start"
    assert controller.next_queued("flights") is None
    assert world.routes["flights"] == {"12": 90, "14": 10}


def test_releases_of_two_models_live_side_by_side(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    controller.start(release_of(document, name="taxis-13", model="taxis"))
    assert controller.live("flights").release.name == "flights-13"
    assert controller.live("taxis").release.name == "taxis-13"


@pytest.mark.parametrize(
    ("changes", "champion", "message"),
    [
        pytest.param({"champion": None}, None, "no champion", id="no-champion"),
        pytest.param({"champion": None}, "13", "is the champion", id="candidate-is-champion"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(tmp_path, document, changes, champion, message):
    with pytest.raises(UsageError, match=message):
        World(tmp_path).controller().start(release_of(document, **changes), champion)


def test_a_name_is_used_once(tmp_path, document):
    controller = World(tmp_path).controller()
    controller.start(release_of(document))
    controller.command("flights", "abort")
    with pytest.raises(UsageError, match="give the new one another name"):
        controller.start(release_of(document))


def test_weights_that_drifted_are_set_again_and_reported(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    world.routes["flights"] = {"12": 20, "13": 80}
    when, seen = next(story("healthy"))
    world.clock.advance_to(when)
    controller.observe("flights", seen)
    assert world.routes["flights"] == {"12": 90, "13": 10}
    (_, _, path), *_ = history.files(tmp_path, "flights")
    repaired = [r for r in map(json.loads, path.read_text().splitlines()) if r["kind"] == "repaired"]
    assert [r["found"]["weights"] for r in repaired] == [{"12": 20, "13": 80}]


def test_a_persons_rollback_is_obeyed_and_not_repaired(tmp_path, document):
    """Verify the order of the command line: the letter first, then the weights."""
    world = World(tmp_path / "journal")
    box = Mailbox(tmp_path / "commands")
    controller = world.controller(commands=box)
    controller.start(release_of(document))
    mailbox.order(box, Order("flights", "rollback", "ada", "now", to="12"), START)
    world.routes["flights"] = {"12": 100}
    _, seen = next(story("healthy"))
    decision = controller.observe("flights", seen)
    assert (decision.action, decision.reason) == ("roll_back", "rolled back to version 12 by ada")
    assert (world.routes["flights"], controller.live("flights")) == ({"12": 100}, None)
    assert list(box.letters()) == []


def test_a_rollback_after_a_promotion_moves_the_alias_back(tmp_path, document):
    world = World(tmp_path / "journal")
    play(world, release_of(document), "healthy")
    box = Mailbox(tmp_path / "commands")
    mailbox.order(box, Order("flights", "rollback", "ada", "now"), START)
    # also by a platform that starts later
    decisions = world.controller(commands=box).obey_commands()
    assert decisions["flights"].action == "roll_back"
    assert (world.routes["flights"], world.champion["flights"]) == ({"12": 100}, "12")


def test_commands_are_obeyed_in_their_order(tmp_path, document):
    world = World(tmp_path / "journal")
    box = Mailbox(tmp_path / "commands")
    controller = world.controller(commands=box)
    controller.start(release_of(document))
    for second, command in enumerate(("pause", "resume", "pause")):
        mailbox.order(box, Order("flights", command, "ada", "now"), START + timedelta(seconds=second))
    assert controller.obey_commands()["flights"].action == "pause"
    assert controller.live("flights").phase == "Paused"


def test_observing_a_model_without_a_release_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no release"):
        World(tmp_path).controller().observe("flights", Evidence(START))


# --- what must not keep the guardrails from looking


def failing(hours=3):
    """A candidate whose every answer fails, beside a champion that is well."""
    quick = latencies(3.0, 400)
    return START + timedelta(hours=hours), Evidence(
        START + timedelta(hours=hours),
        {"12": ArmEvidence(400, 0, quick), "13": ArmEvidence(60, 54, latencies(3.0, 60), 600, 0)},
    )


def refusing(world, *, only=lambda traffic: True):
    """Let the router refuse traffic that `only` picks."""
    working = world.set_traffic

    def refuse(model, traffic):
        if only(traffic):
            raise RejectedError("the router says no")
        working(model, traffic)

    world.set_traffic = refuse
    return working


def test_a_repair_that_is_refused_does_not_blind_the_guardrails(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    world.routes["flights"] = {"12": 20, "13": 80}
    refusing(world, only=lambda traffic: len(traffic.weights) > 1)
    when, seen = failing()
    world.clock.advance_to(when)
    assert controller.observe("flights", seen).action == "roll_back"
    assert world.routes["flights"] == {"12": 100}


def test_a_repair_that_is_refused_again_and_again_is_written_once(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    world.routes["flights"] = {"12": 20, "13": 80}
    refusing(world)
    for _ in range(5):
        with pytest.raises(RejectedError):
            controller.observe("flights", Evidence(START))
    (_, _, path), *_ = history.files(tmp_path, "flights")
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds.count("repaired") == 1


def test_a_router_that_refuses_for_good_ends_the_release_with_its_reason(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    refusing(world, only=lambda traffic: len(traffic.weights) > 1)
    with pytest.raises(RejectedError):
        controller.start(release_of(document))
    decisions = [controller.observe("flights", Evidence(START)) for _ in range(4)]
    assert decisions[-1].action == "abort" or controller.newest("flights").phase == "Aborted"
    ended = next(decision for decision in decisions if decision.action == "abort")
    assert (ended.check, "the router says no" in ended.reason) == ("backend", True)
    assert [v.outcome for v in ended.verdicts] == ["ERROR"]
    assert world.routes["flights"] == {"12": 100}


def silent(world, looks, *, only=lambda traffic: True):
    """Let the router say nothing for so many looks to traffic that `only` picks."""
    working, left = world.set_traffic, [looks]

    def tell(model, traffic):
        if only(traffic) and left[0]:
            left[0] -= 1
            raise UnconfirmedError("nobody has said yes")
        working(model, traffic)

    world.set_traffic = tell


def kinds(directory):
    (_, _, path), *_ = history.files(directory, "flights")
    return [json.loads(line)["kind"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("restart", [False, True], ids=["one-engine", "restarted"])
def test_what_is_not_confirmed_is_no_failure_and_goes_no_further(tmp_path, document, restart):
    """Verify that the router is asked look after look, that nothing else is decided meanwhile, and that it counts as no
    try that failed."""
    world = World(tmp_path)
    controller = world.controller()
    silent(world, 9)
    with pytest.raises(UnconfirmedError):
        controller.start(release_of(document))
    for _ in range(8):
        if restart:
            controller = world.controller()
        with pytest.raises(UnconfirmedError):
            controller.observe("flights", Evidence(START))
    assert kinds(tmp_path) == ["release", "decision"] and world.routes["flights"] == {"12": 100}
    controller.observe("flights", Evidence(START))
    assert kinds(tmp_path)[:3] == ["release", "decision", "confirmed"]
    assert world.routes["flights"] == {"12": 90, "13": 10}


def test_a_way_back_overtakes_what_is_not_confirmed(tmp_path, document):
    """Verify that guardrails stay on watch while the router says nothing, and that the way back is told at once."""
    world = World(tmp_path)
    controller = world.controller()
    silent(world, 99, only=lambda traffic: len(traffic.weights) > 1)
    with pytest.raises(UnconfirmedError):
        controller.start(release_of(document))
    when, seen = failing()
    world.clock.advance_to(when)
    assert controller.observe("flights", seen).action == "roll_back"
    assert world.routes["flights"] == {"12": 100} and controller.live("flights") is None


def test_a_way_back_that_is_not_confirmed_is_asked_for_until_it_is(tmp_path, document):
    """Verify that a release which is over says so only with the traffic where it belongs."""
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    silent(world, 3)
    with pytest.raises(UnconfirmedError):
        controller.command("flights", "abort")
    for _ in range(2):
        with pytest.raises(UnconfirmedError):
            controller.settle("flights")
    controller.settle("flights")
    assert world.routes["flights"] == {"12": 100} and kinds(tmp_path)[-1] == "confirmed"


def late(world, looks):
    """Let the router do what it is told, and say so at look number `looks`; what it was told."""
    working, told = world.set_traffic, []

    def tell(model, traffic):
        told.append(traffic)
        working(model, traffic)
        if len(told) < looks:
            raise UnconfirmedError("nobody has said yes")

    world.set_traffic = tell
    return told


def test_a_repair_that_is_not_confirmed_is_told_again_and_written_once(tmp_path, document):
    """Verify that a route which reads as it should is asked about until its router has said so."""
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    world.routes["flights"] = {"12": 20, "13": 80}
    told = late(world, 3)
    for _ in range(2):
        with pytest.raises(UnconfirmedError):
            controller.observe("flights", Evidence(START))
    for _ in range(2):
        controller.observe("flights", Evidence(START))
    assert len(told) == 3 and kinds(tmp_path).count("repaired") == 1
    world.routes["flights"] = {"12": 20, "13": 80}
    controller.observe("flights", Evidence(START))
    assert kinds(tmp_path).count("repaired") == 2


def test_a_repair_that_is_not_confirmed_is_told_again_after_a_restart(tmp_path, document):
    """Verify that an engine which finds the repaired route decides nothing before its router has said yes to it."""
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    world.routes["flights"] = {"12": 20, "13": 80}
    told = late(world, 3)
    with pytest.raises(UnconfirmedError):
        controller.observe("flights", Evidence(START))
    written = kinds(tmp_path)
    when, seen = next(iter(story("good")))
    world.clock.advance_to(when)
    restarted = world.controller()
    with pytest.raises(UnconfirmedError):
        restarted.observe("flights", seen)
    assert kinds(tmp_path) == written and written[-1] == "repaired"
    for _ in range(2):
        restarted.observe("flights", seen)
    assert len(told) == 3 and kinds(tmp_path)[len(written) :] == ["decision"]


@pytest.mark.parametrize("restart", [False, True], ids=["one-engine", "restarted"])
def test_an_api_that_is_down_is_no_refusal(tmp_path, document, restart):
    """Verify that tries are counted alike by an engine that lives on and by one that read the journal."""
    world = World(tmp_path)
    controller = world.controller()
    working = world.set_traffic

    def unreachable(model, traffic):
        raise UnreachableError("nobody answers")

    world.set_traffic = unreachable
    with pytest.raises(UnreachableError):
        controller.start(release_of(document))
    for _ in range(3):
        with pytest.raises(UnreachableError):
            controller.observe("flights", Evidence(START))
    world.set_traffic = working
    refusing(world, only=lambda traffic: len(traffic.weights) > 1)
    if restart:
        controller = world.controller()
    actions = [controller.observe("flights", Evidence(START)).action for _ in range(3)]
    assert actions == ["hold", "hold", "abort"]


def test_a_router_that_says_it_can_never_be_meant_has_refused(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()

    def never(model, traffic):
        raise UsageError("no such version")

    world.set_traffic = never
    with pytest.raises(RejectedError, match="no such version"):
        controller.start(release_of(document))


def test_an_order_for_another_release_is_not_obeyed(tmp_path, document):
    """Verify that a promotion that came too late promotes nothing that came after."""
    world = World(tmp_path / "journal")
    box = Mailbox(tmp_path / "commands")
    controller = world.controller(commands=box)
    controller.start(release_of(document))
    controller.command("flights", "abort")
    controller.start(release_of(document, name="flights-14", candidates=("14",)))
    mailbox.order(box, Order("flights", "promote", "ada", "now", release="flights-13"), START)
    assert controller.obey_commands() == {}
    assert list(box.letters()) == []
    assert controller.live("flights").release.name == "flights-14"


@pytest.mark.parametrize(
    "letter",
    ["{", '{"model": "flights"}', '{"model": "flights", "command": "explode", "by": "x", "at": "y"}', "[]"],
)
def test_an_order_that_nobody_can_read_keeps_no_other_waiting(tmp_path, document, letter):
    world = World(tmp_path / "journal")
    box = Mailbox(tmp_path / "commands")
    controller = world.controller(commands=box)
    controller.start(release_of(document))
    box.folder.mkdir(parents=True, exist_ok=True)
    (box.folder / "00000000T000000.000000-broken.json").write_text(letter)
    mailbox.order(box, Order("flights", "pause", "ada", "now"), START)
    assert controller.obey_commands()["flights"].action == "pause"
    assert [path.suffix for path in box.folder.iterdir()] == [".unreadable"]


def test_a_champion_that_is_not_in_force_is_not_brought_back(tmp_path, document):
    with pytest.raises(UsageError, match=r"spec.champion = '12', and version 13 is in force"):
        World(tmp_path).controller().start(release_of(document, candidates=("14",)), "13")


def test_queues_of_names_that_end_alike_are_kept_apart(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    for name, version in (("eu-flights-14", "14"), ("flights-14", "15"), ("14", "16")):
        world.clock.advance_to(world.clock.now() + timedelta(seconds=1))
        controller.start(release_of(document, name=name, candidates=(version,), on_conflict="queue"))
    controller.command("flights", "abort")
    started = []
    while (release := controller.next_queued("flights")) is not None:
        controller.start(release)
        started.append(release.name)
        controller.command("flights", "abort")
    assert started == ["eu-flights-14", "flights-14", "14"]


def test_a_queued_release_that_can_never_start_can_be_taken_out(tmp_path, document):
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    second = release_of(document, name="flights-14", candidates=("14",), on_conflict="queue")
    controller.start(second)
    controller.command("flights", "abort")
    controller.drop_queued(second)
    assert controller.next_queued("flights") is None


# --- what is worth a record


def test_looks_at_an_old_step_leave_fewer_records_and_lose_nothing(tmp_path, document):
    """Verify that a step of ten hours is looked at every minute and written down less often, and still stops."""
    world = World(tmp_path)
    controller = world.controller()
    controller.start(release_of(document))
    (_, _, path), *_ = history.files(tmp_path, "flights")
    quick = latencies(3.0, 1)
    looks = 0
    for second in range(1, 1200):
        at = START + timedelta(hours=10, seconds=second)
        world.clock.advance_to(at)
        arms = {"12": ArmEvidence(9 * second, 0, quick), "13": ArmEvidence(second, 0, quick, second, 0)}
        controller.observe("flights", Evidence(at, arms))
        looks += 1
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) < looks / 20
    when = START + timedelta(hours=11)
    world.clock.advance_to(when)
    worse = Evidence(
        when,
        {"12": ArmEvidence(20_000, 0, quick), "13": ArmEvidence(3000, 900, quick, 3000, 0)},
    )
    assert controller.observe("flights", worse).action == "roll_back"
    assert replay.replay(map(json.loads, path.read_text().splitlines())).same
