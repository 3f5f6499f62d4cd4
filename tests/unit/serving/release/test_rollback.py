"""`windlass release rollback`: where it goes, what it starts, what it leaves, and that it can be repeated."""

from __future__ import annotations

import fcntl
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import planes
import pytest

from serving.release import rollback, spec
from serving.release.controller import ReleaseController
from serving.release.envoy.backend import EnvoyBackend
from serving.release.journal import mailbox
from serving.release.journal.store import DiskStore, Entry
from serving.release.traffic import Match, Traffic
from windlass import atomic
from windlass import settings as settings_module
from windlass.cli import app
from windlass.clock import ManualClock, SystemClock
from windlass.errors import WindlassError
from windlass.local.lock import PlatformLock
from windlass.local.plane import DataPlane
from windlass.settings import Settings

START = datetime(2013, 3, 1, tzinfo=UTC)
Windlass = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose proxy is the fixture `proxy`."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "run").symlink_to(tmp_path)
    monkeypatch.setenv("WINDLASS_HOME", str(folder))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return settings_module.load()


@pytest.fixture
def windlass(home: Settings, capsys: pytest.CaptureFixture[str]) -> Windlass:
    def run(*argv: str) -> tuple[int, dict[str, Any]]:
        code = app.run(["release", "rollback", *argv, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def orders(home: Settings) -> list[dict[str, Any]]:
    return [letter for _, letter in mailbox.commands(home).letters()]


def journal_of(home: Settings, *releases: tuple[str, str, str], at: datetime = START) -> None:
    """Write releases, each (champion, candidate, phase), as they lie in journals."""
    store = DiskStore(home.journal_dir / "releases")
    for number, (champion, candidate, phase) in enumerate(releases, start=1):
        entry = Entry("flights", number, f"flights-{candidate}")
        told = {"kind": "release", "at": at.isoformat(), "champion": champion}
        store.append(entry, {**told, "document": {"spec": {"candidate": candidate}}})
        store.append(entry, {"kind": "decision", "seq": 1, "at": at.isoformat(), "state": {"phase": phase}})
    store.close()


@pytest.mark.parametrize(
    ("shares", "releases", "to"),
    [
        pytest.param([{"13": 100}], [], "12", id="after-a-promotion-to-the-version-before"),
        pytest.param([{"12": 90, "13": 10}], [], "12", id="of-a-canary-to-its-champion"),
        pytest.param(
            [{"13": 100}, {"13": 50, "12": 50}], [], "13", id="the-champion-is-who-had-everything-last"
        ),
        pytest.param(
            [{"13": 100}], [("12", "13", "Progressing")], "12", id="of-a-switch-that-is-still-watched"
        ),
        pytest.param(
            [{"12": 100}], [("11", "12", "Promoted")], "11", id="the-routing-forgot-the-journal-knows"
        ),
    ],
)
def test_it_goes_to_the_version_before(
    home: Settings, proxy: Any, windlass: Windlass, shares: list[dict[str, int]], releases: Any, to: str
) -> None:
    """Verify where it goes when nobody says where."""
    bundle = home.bundles_dir / "flights" / "11" / "serving.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("{}")
    proxy.backend.set_server("flights", "11", proxy.servers["12"].address)
    for weights in shares:
        proxy.backend.set_weights("flights", weights)
    journal_of(home, *releases)
    code, said = windlass("flights")
    assert (code, said["from"], said["to"], said["weights"]) == (0, shares[-1], to, {to: 100})
    assert (said["started"], said["engine_runs"], said["serving"]) == (False, False, True)
    assert proxy.backend.weights("flights") == {to: 100}
    assert [(o["command"], o["to"]) for o in orders(home)] == [("rollback", to)]


def test_a_shadow_is_ended_and_nobody_moves(home: Settings, proxy: Any, windlass: Windlass) -> None:
    """Verify that a copy or a preview is what is rolled back, where all requests are the champion's."""
    proxy.backend.set_weights("flights", {"13": 100})
    proxy.backend.set_weights("flights", {"12": 100})
    preview = Match("header", "x-windlass-preview", "13", "13")
    proxy.backend.set_traffic("flights", Traffic({"12": 100}, mirror_to="13", matches=(preview,)))
    assert windlass("flights")[1]["to"] == "12"
    assert proxy.backend.traffic("flights") == Traffic({"12": 100})


def test_the_same_again_changes_nothing(home: Settings, proxy: Any, windlass: Windlass) -> None:
    """Verify that a second rollback does not go on to, or back to, another version."""
    proxy.backend.set_weights("flights", {"13": 100})
    assert [windlass("flights")[1]["to"] for _ in range(3)] == ["12"] * 3
    assert windlass("flights", "--to", "12")[0] == 0
    assert proxy.backend.weights("flights") == {"12": 100}


def test_a_promotion_since_makes_a_rollback_new(home: Settings, proxy: Any, windlass: Windlass) -> None:
    """Verify that a version which was rolled back to, and then promoted over another, is left for that other one."""
    proxy.backend.set_weights("flights", {"13": 100})
    windlass("flights")
    proxy.backend.set_weights("flights", {"13": 100})
    proxy.backend.set_weights("flights", {"12": 100})
    journal_of(home, ("13", "12", "Promoted"), at=datetime.now(UTC))
    assert windlass("flights")[1]["to"] == "13"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(("taxis",), r"no such model \(known: flights\)", id="unknown-model"),
        pytest.param(
            ("flights", "--to", "99"), r"version 99 has no server.*--to: 12, 13", id="unknown-version"
        ),
        pytest.param(("flights", "--to", "../12"), "is no version", id="no-version-at-all"),
        pytest.param(("flights",), "no version before 12", id="nothing-before"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_no_order(
    home: Settings, proxy: Any, windlass: Windlass, argv: tuple[str, ...], message: str
) -> None:
    code, said = windlass(*argv)
    assert code == 2
    assert re.search(message, said["error"]["message"])
    assert orders(home) == []


def test_a_server_that_cannot_be_started_changes_nothing(
    home: Settings, proxy: Any, windlass: Windlass
) -> None:
    """Verify exit code 1, no order and the old weights where the target is dead and nobody knows how to start it."""
    proxy.backend.set_weights("flights", {"13": 100})
    proxy.backend.set_server("flights", "12", "127.0.0.1:9")
    code, said = windlass("flights")
    assert code == 1
    assert "version 12 cannot be served, the traffic stays as it was" in said["error"]["message"]
    assert orders(home) == []
    assert proxy.backend.weights("flights") == {"13": 100}


def test_a_server_that_envoy_was_never_told_of_is_told_first(
    home: Settings, proxy: Any, windlass: Windlass
) -> None:
    """Verify that a writer who died between the routing and Envoy's file costs no request."""
    files = proxy.backend._files
    proxy.backend.set_weights("flights", {"13": 100})
    without = files.directory / "cds.json"
    told = json.loads(without.read_text())
    told["resources"] = [c for c in told["resources"] if "@12" not in c["name"]]
    told["version_info"] = "0"
    atomic.write_text(without, json.dumps(told))
    proxy.backend._await(lambda: not any("@12" in c for c in proxy.backend.admin.clusters()), "clusters")
    assert windlass("flights")[0] == 0
    assert proxy.caller().ask().body == "12"


def test_nobody_waits_for_ever_for_who_stands_still(
    home: Settings, proxy: Any, windlass: Windlass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a lock which is never given back is named, with what to do."""
    monkeypatch.setattr(rollback, "CHANGE_S", 0.05)
    proxy.backend.set_weights("flights", {"13": 100})
    with (proxy.backend.directory / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = windlass("flights")
    assert code == 1
    assert "`kill -9` it" in said["error"]["message"]


def test_without_any_platform_it_says_what_to_do(home: Settings, windlass: Windlass) -> None:
    code, said = windlass("flights")
    assert code == 1
    assert "windlass up" in said["error"]["message"]


def test_after_an_orderly_end_it_is_for_the_next_start(
    home: Settings, proxy: Any, windlass: Windlass
) -> None:
    """Verify that the order waits where nothing serves and nothing is meant to."""
    proxy.backend.set_weights("flights", {"13": 100})
    proxy.backend.stop()
    code, said = windlass("flights")
    assert (code, said["to"], said["serving"]) == (0, "12", False)
    assert [o["to"] for o in orders(home)] == ["12"]


def test_the_engine_that_comes_back_agrees(
    home: Settings, proxy: Any, document: Any, windlass: Windlass
) -> None:
    """Verify that the real controller moves the alias, ends the release and leaves the weights alone."""
    champions: dict[str, str] = {}

    def controller(backend: Any) -> ReleaseController:
        return ReleaseController(
            DiskStore(home.journal_dir / "releases"),
            backend,
            ManualClock(START),
            set_champion=champions.__setitem__,
            commands=mailbox.OrderBox(mailbox.commands(home)),
        )

    running = controller(proxy.backend)
    running.start(spec.parse(document))
    running.command("flights", "promote")
    running.close()
    assert (proxy.caller().ask().body, champions) == ("13", {"flights": "13"})
    assert windlass("flights")[1]["to"] == "12"
    assert rollback.withdrawn(home, "flights") == {"13"}

    later = controller(EnvoyBackend.attach(proxy.backend.directory))
    later.obey_commands()
    newest = later.newest("flights")
    assert newest is not None
    assert (champions, newest.phase, orders(home)) == ({"flights": "12"}, "RolledBack", [])
    assert proxy.caller().ask().body == "12"
    later.close()


@pytest.mark.parametrize(
    ("releases", "gone"),
    [
        pytest.param([("12", "13", "RolledBack")], {"13"}, id="by-its-release"),
        pytest.param([("12", "13", "Aborted")], set(), id="aborted-is-no-verdict"),
        pytest.param([("12", "13", "RolledBack"), ("12", "13", "Promoted")], set(), id="promoted-since"),
        pytest.param([("12", "13", "Progressing")], set(), id="live"),
    ],
)
def test_what_was_withdrawn(home: Settings, releases: list[tuple[str, str, str]], gone: set[str]) -> None:
    """Verify which versions only a person may release again."""
    for minute, release in enumerate(releases):
        store = DiskStore(home.journal_dir / "releases")
        entry = Entry("flights", minute + 1, f"r{minute}")
        at = START.replace(minute=minute).isoformat()
        champion, candidate, phase = release
        document = {"spec": {"candidate": candidate}}
        store.append(entry, {"kind": "release", "at": at, "champion": champion, "document": document})
        store.append(entry, {"kind": "decision", "seq": 1, "at": at, "state": {"phase": phase}})
        store.close()
    assert rollback.withdrawn(home, "flights") == gone


def test_two_at_once_come_one_after_the_other(
    home: Settings, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that the second waits for the first, and is told whom it waited for where that takes too long."""
    monkeypatch.setattr(rollback, "TURN_S", 0.05)
    proxy.backend.set_weights("flights", {"13": 100})
    with (home.run_dir / "rollback.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WindlassError, match="another rollback holds"):
            rollback.rollback(home, "flights", None, SystemClock(), DataPlane(home))
    assert rollback.rollback(home, "flights", None, SystemClock(), DataPlane(home))["to"] == "12"


def test_a_step_of_the_engine_that_was_under_way_does_not_win(
    home: Settings, proxy: Any, windlass: Windlass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that traffic moved by an engine which had not seen the order yet is moved back at once."""
    # it ends when the order was taken up, however long a busy machine keeps the engine from it
    monkeypatch.setattr(rollback, "AGREE_S", planes.WAIT_S)
    proxy.backend.set_weights("flights", {"13": 100})

    def engine() -> None:
        planes.wait(lambda: bool(orders(home)) and proxy.backend.weights("flights") == {"12": 100})
        proxy.backend.set_weights("flights", {"12": 50, "13": 50})
        planes.wait(lambda: bool(proxy.backend.weights("flights") == {"12": 100}))
        for path, _ in mailbox.commands(home).letters():
            path.unlink()

    held = PlatformLock(home.run_dir / "platform.lock")
    running = threading.Thread(target=engine)
    running.start()
    code, said = windlass("flights")
    running.join()
    held.release()
    assert (code, said["to"], said["engine_runs"]) == (0, "12", True)
    assert proxy.backend.weights("flights") == {"12": 100}
    assert orders(home) == []
