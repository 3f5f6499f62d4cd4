"""What the platform does around the engine: begin, look, probe, and tell the end, whatever fails in between."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import planes
import pytest

from monitoring.predictions import Prediction
from serving.release import spec
from serving.release.controller import ReleaseController
from serving.release.envoy.admin import Counted
from serving.release.journal import refusals
from serving.release.journal.store import DiskStore
from serving.release.traffic import Traffic, all_to
from windlass import catalog
from windlass.clock import SystemClock
from windlass.errors import WindlassError
from windlass.local import positions
from windlass.local.loop import rejected
from windlass.local.releasing import LOOK_EVERY_S, STARTS, TELL_AGAIN_S, Releases

MODEL = planes.MODEL
ERRORS = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 5}


@dataclass
class Router:
    """The proxy: the traffic that was set."""

    now: Traffic = field(default_factory=lambda: all_to("1"))

    def __post_init__(self) -> None:
        self.admin = SimpleNamespace(counted=lambda model, version, copies=False: Counted())

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.now = traffic

    def traffic(self, model: str) -> Traffic:
        return self.now

    def desired(self, model: str) -> Any:
        return SimpleNamespace(
            stable=None, previous=None, weights=self.now.weights, servers={"2": "127.0.0.1:1"}
        )


@dataclass
class Servers:
    """The processes: which version's server runs."""

    envoy: Router = field(default_factory=Router)
    servers: dict[tuple[str, str], None] = field(default_factory=dict)

    def serve(self, model: str, version: str) -> None:
        self.servers[(model, version)] = None

    def retire(self, model: str, version: str) -> None:
        del self.servers[(model, version)]


class Machine:
    """One model's releases over a store on disk; `turn` goes on by as many seconds."""

    def __init__(self, place: planes.Place) -> None:
        self.place, self.platform, self.now = place, Servers(), 0.0
        self.said: list[str] = []
        self.over: list[tuple[str, str]] = []
        self.down = False
        self.read = {"tumours-1.jsonl": 100}
        self.start()

    def start(self) -> None:
        """An engine; the one before it has ended."""
        settings = self.place.settings
        self.controller = ReleaseController(
            DiskStore(settings.journal_dir / "releases"),
            self.platform.envoy,
            SystemClock(),
            set_champion=lambda model, version: None,
        )
        self.releases = Releases(
            settings,
            catalog.load(MODEL, settings.project),
            self.platform,  # type: ignore[arg-type]
            self.controller,
            champion=lambda: "1",
            expected=lambda _: pytest.fail("no check asks for features"),
            say=self.said.append,
            over=self.tell,
            positions=lambda: self.read,
        )
        self.releases.resume()

    def tell(self, state: Any) -> None:
        if self.down:
            raise WindlassError("the registry is down")
        self.over.append((state.release.name, state.phase))

    def turn(self, seconds: float = LOOK_EVERY_S) -> None:
        self.now += seconds
        self.releases.turn(self.now)

    def release(self, name: str, strategy: dict[str, Any] | None = None, **more: Any) -> Any:
        strategy = strategy or {"type": "canary", "steps": [{"weight": 10}]}
        document = {"model": MODEL, "strategy": strategy, "checks": [ERRORS], **more}
        document |= {} if "candidates" in more else {"candidate": more.get("candidate", "2")}
        return spec.parse({"kind": "Release", "metadata": {"name": name}, "spec": document})

    def running(self) -> set[str]:
        return {version for _, version in self.platform.servers}


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    place = planes.make(tmp_path_factory.mktemp("machine"))
    bundle = place.settings.bundles_dir / MODEL / "3"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "serving.json").write_text(json.dumps({"inputs": []}))
    return Machine(place)


def test_a_release_that_is_queued_or_refused_gets_no_servers(machine: Machine) -> None:
    machine.releases.begin(machine.release("a"))
    assert machine.running() == {"2"}
    machine.releases.begin(machine.release("b", candidate="3"))
    machine.releases.begin(machine.release("c", candidate="3", onConflict="queue"))
    assert machine.running() == {"2"}
    assert "refused" in machine.said[-2] and "queued" in machine.said[-1]


def test_a_release_that_cannot_start_leaves_no_server_behind(machine: Machine) -> None:
    machine.releases.begin(machine.release("a"))
    machine.controller.command(MODEL, "abort")
    machine.turn()
    assert machine.running() == set()
    machine.releases.begin(machine.release("a", candidate="3"))
    assert "is over" in machine.said[-1]
    assert machine.running() == set()


def test_a_queued_release_that_can_never_start_is_taken_out_and_the_next_one_begins(machine: Machine) -> None:
    """Verify that it is told once and not tried at every turn."""
    machine.releases.begin(machine.release("a"))
    for name, candidate in (("b", "3"), ("c", "3")):
        machine.releases.begin(machine.release(name, candidate=candidate, onConflict="queue"))
    bundle = machine.place.settings.bundles_dir / MODEL / "3" / "serving.json"
    kept = bundle.read_text()
    bundle.unlink()
    machine.controller.command(MODEL, "abort")
    machine.turn()
    bundle.write_text(kept)
    machine.turn()
    refusals = [line for line in machine.said if "release b refused" in line]
    assert refusals == [f"release b refused: version 3 of {MODEL} has no bundle on this machine"]
    live = machine.controller.live(MODEL)
    assert live is not None
    assert live.release.name == "c"


def test_where_a_release_begins_is_kept_before_it_begins_and_never_moves(machine: Machine) -> None:
    settings = machine.place.settings
    machine.releases.begin(machine.release("a"))
    assert positions.kept(settings, MODEL, "a") == {"tumours-1.jsonl": 100}
    machine.read = {"tumours-1.jsonl": 200}
    machine.releases.begin(machine.release("a"))
    machine.start()
    assert positions.kept(settings, MODEL, "a") == {"tumours-1.jsonl": 100}


def test_there_is_a_look_every_second_however_old_the_step(machine: Machine) -> None:
    machine.releases.begin(machine.release("a"))
    looks: list[str] = []
    observe = machine.controller.observe
    machine.controller.observe = lambda *a, **k: looks.append("") or observe(*a, **k)  # type: ignore[method-assign]
    for age in (0.0, 3600.0, 86400.0):
        machine.turn(age)
        before = len(looks)
        for _ in range(5):
            machine.turn()
        assert len(looks) == before + 5


def test_units_are_enrolled_until_the_experiment_ends_however_long_it_paused(machine: Machine) -> None:
    """Verify that nobody is left out in a pause, whose length is known when it is over."""
    strategy = {"type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50}}
    reward = {"name": "bought", "kind": "decision", "metric": "reward", "source": "feedback"}
    more = {"candidates": ["2"], "checks": [ERRORS, {**reward, "minimumDetectableEffect": 10}]}
    machine.releases.begin(machine.release("a", strategy, **more))
    machine.turn()

    def ends() -> tuple[float, float]:
        machine.turn()
        state, watch = machine.controller.live(MODEL), machine.releases._watch
        assert state is not None and state.step_started_at is not None and watch is not None
        planned = state.step_started_at + state.release.strategy.max_duration  # type: ignore[union-attr]
        return watch._outcomes.enrolled_until, planned.timestamp()

    assert ends()[0] == ends()[1]
    machine.controller.command(MODEL, "pause")
    assert ends()[0] == float("inf")
    machine.controller.command(MODEL, "resume")
    enrolled, planned = ends()
    assert enrolled == planned


def test_a_pause_after_enrolment_enrols_nobody(machine: Machine) -> None:
    strategy = {"type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50}}
    strategy |= {"minDuration": "0s", "maxDuration": "1ms", "outcomeDelay": "1d"}
    reward = {"name": "bought", "kind": "decision", "metric": "reward", "source": "feedback"}
    more = {"candidates": ["2"], "checks": [ERRORS, {**reward, "minimumDetectableEffect": 10}]}
    machine.releases.begin(machine.release("a", strategy, **more))
    machine.turn()
    time.sleep(0.002)  # the enrolment's whole time
    machine.controller.command(MODEL, "pause")
    machine.turn()
    live, watch = machine.controller.live(MODEL), machine.releases._watch
    assert live is not None and watch is not None and live.phase == "Paused"
    assert watch._outcomes.enrolled_until < float("inf")


# --- its end


def test_an_end_that_could_not_be_told_is_told_later_and_once(machine: Machine) -> None:
    """Verify it across a restart and a release that has begun since, and that it is not tried all the time."""
    machine.releases.begin(machine.release("a"))
    machine.down = True
    machine.controller.command(MODEL, "abort")
    machine.turn()
    machine.releases.begin(machine.release("b"))
    machine.down = False
    machine.turn()
    assert machine.over == []
    machine.turn(TELL_AGAIN_S)
    assert [name for name, _ in machine.over] == ["a"]
    machine.down = True
    machine.controller.command(MODEL, "abort")
    machine.turn()
    machine.down = False
    machine.start()
    machine.turn()
    assert [name for name, _ in machine.over] == ["a", "b"]
    machine.start()
    for _ in range(3):
        machine.turn(TELL_AGAIN_S)
    assert [name for name, _ in machine.over] == ["a", "b"]


@pytest.mark.parametrize(
    ("command", "to", "marked"),
    [
        pytest.param("rollback", None, ("2",), id="taken-back"),
        pytest.param("rollback", "2", (), id="rolled-back-to-the-candidate"),
        pytest.param("promote", None, (), id="promoted"),
    ],
)
def test_what_is_in_force_is_not_marked_as_rolled_back(
    machine: Machine, command: Any, to: str | None, marked: tuple[str, ...]
) -> None:
    machine.releases.begin(machine.release("a"))
    state = machine.controller.command(MODEL, command, to=to).state
    assert rejected(state, "1") == marked
    assert rejected(state, "2") == ()


# --- blue-green


def request(**row: Any) -> Prediction:
    return Prediction("q", MODEL, "1", 0.0, {}, row, (1.0,), 0.5, 1.0, "online", False)


def test_blue_green_waits_for_something_to_send(machine: Machine) -> None:
    """Verify that green gets nothing before one request is known, and is asked with it then."""
    machine.releases.begin(machine.release("a", {"type": "blueGreen", "smoke": [{"maxLatency": "5s"}]}))

    def smoke() -> Any:
        machine.turn()
        watch = machine.releases._watch
        return None if watch is None else watch.smoke

    planes.wait(lambda: smoke() is not None)
    assert "nothing could be sent" in smoke().detail
    machine.releases.add(
        [Prediction("q", MODEL, "1", 0.0, {}, {}, (1.0,), 0.5, 1.0, "online", False)], (), ()
    )
    assert not smoke().tried
    assert machine.releases._probing is None
    machine.releases.add([request(f0=1.0)], (), ())
    planes.wait(lambda: machine.turn() or machine.controller.live(MODEL) is None)
    newest = machine.controller.newest(MODEL)
    assert newest is not None
    assert newest.phase == "RolledBack"
    assert machine.platform.envoy.now.weights == {"1": 100}


# --- what is refused is written down, and what is under way goes on


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"candidate": "9"}, "has no bundle", id="no-bundle"),
        pytest.param({"champion": "7"}, "version 1 is in force", id="another-champion"),
        pytest.param({"candidate": "1"}, "is the champion", id="the-champion"),
    ],
)
def test_why_a_release_was_refused_is_written_down(machine: Machine, more: Any, reason: str) -> None:
    """Verify that whoever handed it over can find out, since nobody waits at the mailbox."""
    machine.releases.begin(machine.release("a", **more))
    (refusal,) = refusals.find(machine.place.settings, MODEL)
    assert refusal.name == "a" and reason in refusal.reason
    assert machine.controller.live(MODEL) is None


def test_the_same_document_again_changes_nothing(machine: Machine) -> None:
    release = machine.release("a")
    machine.releases.begin(release)
    watch = machine.releases._watch
    machine.releases.begin(release)
    assert machine.releases._watch is watch
    assert refusals.find(machine.place.settings, MODEL) == []


def test_a_server_that_never_starts_is_tried_a_few_times_and_then_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(model: str, version: str) -> None:
        raise WindlassError("it ended with code 1")

    monkeypatch.setattr(machine.platform, "serve", dies)
    release = machine.release("a")
    for _ in range(STARTS - 1):
        with pytest.raises(WindlassError, match="ended with code 1"):
            machine.releases.begin(release)
        assert refusals.find(machine.place.settings, MODEL) == []
    machine.releases.begin(release)
    assert "did not start in 3 tries" in refusals.find(machine.place.settings, MODEL)[0].reason
