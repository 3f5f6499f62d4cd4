"""Three in the morning: the engine killed, the registry and the online store gone, the previous server dead.

One story on one real platform, told once; each test reads a part of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import planes
import pytest
from planes import MODEL, Place, Trickle

from serving.release.envoy.backend import EnvoyBackend
from windlass.errors import AlreadyRunningError, UsageError
from windlass.local.plane import DataPlane, Plan
from windlass.local.platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Story:
    """What was said and seen, by the part of the story."""

    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    answered: dict[str, set[str]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    pids: dict[str, dict[str, int]] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    platform_log: str = ""


def pids(place: Place) -> dict[str, int]:
    return {name: child.pid for name, child in DataPlane(place.settings).records.running().items()}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    planes.wait(lambda: planes.gone(pid))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    told = Story()
    with planes.running(tmp_path_factory.mktemp("plane")) as place:

        def say(part: str, *words: str) -> None:
            told.codes[part], told.said[part] = place.windlass(*words)

        _promote(place, "2")
        with Trickle(place) as load:

            def look(part: str) -> None:
                told.answered[part], told.failed[part] = set(load.more()), sum(load.failed.values())

            # the engine is killed; the registry is moved away; the previous server dies
            say("before", "status")
            kill(told.said["before"]["pids"]["windlass"])
            say("engine down", "status")
            say("predict", "predict", MODEL, "--field", "f0=1")
            look("engine down")
            place.settings.registry_dir.rename(place.settings.registry_dir.with_name("moved"))
            kill(place.pid(f"server-{MODEL}@1"))
            say("rollback", "release", "rollback", MODEL)
            look("rollback")
            say("again", "release", "rollback", MODEL)
            # the engine comes back, without a registry
            told.pids["before up"] = pids(place)
            told.said["up"] = place.up()
            told.pids["after up"] = pids(place)
            look("up")
            # it stands still
            engine = told.said["up"]["pids"]["windlass"]
            os.kill(engine, signal.SIGSTOP)
            say("hung", "status")
            say("rollback of a hung one", "release", "rollback", MODEL, "--to", "2")
            look("hung")
            os.kill(engine, signal.SIGCONT)
            # it fails and dies again, and with it a server; the next one takes over and starts that again
            kill(engine)
        # Envoy dies: it comes back on its port, and never with the routes that it died with
        kill(place.pid("envoy"))
        say("damaged", "status")
        say("rollback without Envoy", "release", "rollback", MODEL, "--to", "1")
        with Trickle(place) as load:
            look("rollback without Envoy")
            kill(place.pid(f"server-{MODEL}@2"))
            told.said["second up"] = place.up()
            told.pids["after second up"] = pids(place)
            look("second up")
        told.platform_log = (place.settings.logs_dir / "platform.log").read_text()
        kill(told.said["second up"]["pids"]["windlass"])
        say("down", "down")
        told.left = place.running()
        say("down again", "down")
        say("end", "status")
    yield told


def _promote(place: Place, version: str) -> None:
    """Give a version all the traffic, as a release does at its end."""
    address, _ = DataPlane(place.settings).ensure_server(MODEL, version, None)
    backend = EnvoyBackend.attach(place.settings.run_dir / "envoy")
    backend.set_server(MODEL, version, address)
    backend.set_weights(MODEL, {version: 100})


def test_predictions_go_on_when_the_engine_is_killed(story: Story) -> None:
    """Verify that what was in force answers, and that status says what is down and what to do."""
    assert (story.answered["engine down"], story.failed["engine down"]) == ({"2"}, 0)
    said = story.said["engine down"]
    assert (said["running"], said["engine"], said["data_plane"]) == (False, "down", "up")
    assert said["weights"] == {MODEL: {"2": 100}}
    assert "`windlass up` takes over" in said["remedy"]
    assert (story.codes["predict"], story.said["predict"].get("version")) == (0, "2")
    assert (story.said["before"]["engine"], story.said["before"]["remedy"]) == ("up", None)


def test_a_rollback_starts_the_dead_server_and_fails_no_request(story: Story) -> None:
    """Verify rollback with engine, registry and online store gone and the previous server dead."""
    assert story.codes["rollback"] == 0, story.said["rollback"]
    said = story.said["rollback"]
    assert (said["from"], said["to"], said["weights"]) == ({"2": 100}, "1", {"1": 100})
    assert (said["started"], said["engine_runs"], said["serving"]) == (True, False, True)
    assert (story.answered["rollback"], story.failed["rollback"]) == ({"1"}, 0)


def test_the_same_again_is_fine(story: Story) -> None:
    assert story.codes["again"] == 0
    said = story.said["again"]
    assert (said["from"], said["to"], said["started"]) == ({"1": 100}, "1", False)


def test_the_engine_that_comes_back_takes_over_what_runs(story: Story) -> None:
    """Verify that no process was replaced, no request failed, and the version rolled back to is the champion."""
    assert story.pids["after up"] == story.pids["before up"]
    assert set(story.pids["after up"]) == {
        "envoy",
        "collector",
        "retrain",
        f"server-{MODEL}@1",
        f"server-{MODEL}@2",
    }
    assert story.said["up"]["models"] == {MODEL: "1"}
    assert (story.answered["up"], story.failed["up"]) == ({"1"}, 0)


def test_an_engine_that_stands_still_holds_up_nobody(story: Story) -> None:
    """Verify predictions, status and rollback beside a stopped engine."""
    assert (story.said["hung"]["engine"], story.said["hung"]["data_plane"]) == ("stands still", "up")
    said = story.said["rollback of a hung one"]
    assert (said["to"], said["engine_runs"], said["started"]) == ("2", False, False)
    assert (story.answered["hung"], story.failed["hung"]) == ({"2"}, 0)


def test_a_dead_envoy_comes_back_with_the_new_routes(story: Story) -> None:
    """Verify that it listens where callers ask, and never serves what it died with."""
    assert story.said["damaged"]["data_plane"] == "down"
    assert story.codes["rollback without Envoy"] == 0, story.said["rollback without Envoy"]
    assert story.said["rollback without Envoy"]["started"]
    assert (story.answered["rollback without Envoy"], story.failed["rollback without Envoy"]) == ({"1"}, 0)


def test_what_died_is_started_again_at_the_next_up(story: Story) -> None:
    """Verify that the warm previous version is back, and that nobody noticed."""
    assert f"server-{MODEL}@2" in story.pids["after second up"]
    assert (story.answered["second up"], story.failed["second up"]) == ({"1"}, 0)
    assert "taking over the data plane" in story.platform_log


def test_down_ends_what_a_killed_engine_left(story: Story) -> None:
    assert story.codes["down"] == 0
    assert (story.said["down"]["stopped"], story.said["down"]["pid"]) == (True, None)
    assert story.left == {}
    assert story.said["down again"] == {"stopped": False, "pid": None, "ended": []}
    assert (story.said["end"]["engine"], story.said["end"]["data_plane"]) == ("down", "down")


def test_a_demo_does_not_begin_on_a_plane_that_serves(tmp_path: Path) -> None:
    """Verify that a platform which dies with its starter leaves one that lasts alone."""
    place = planes.make(tmp_path)
    DataPlane(place.settings).begin(Plan.of(place.settings, None))
    with pytest.raises(AlreadyRunningError, match="windlass down"):
        Platform(place.settings)
    Platform(place.settings, lasting=True).stop()
    Platform(place.settings).stop()


def test_another_port_than_that_of_the_plane_is_refused(tmp_path: Path) -> None:
    """Verify that callers do not lose their address to a takeover."""
    place = planes.make(tmp_path)
    first = Platform(place.settings, lasting=True)
    try:
        first.start()
        first.leave()
        with pytest.raises(UsageError, match=f"listens on port {place.listener()}"):
            Platform(place.settings, lasting=True, port=1)
        second = Platform(place.settings, lasting=True)
        assert (second.resumed, second.adopted) == (True, True)
        second.start()
        second.stop()
        assert place.running() == {}
    finally:
        DataPlane(place.settings).end()
