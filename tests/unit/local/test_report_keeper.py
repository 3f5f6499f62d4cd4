"""The page at report_url is fresh, and nothing waits for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from monitoring.analysis import store
from windlass.local import processes
from windlass.local.report_keeper import LIMIT_S, ReportKeeper, fingerprint
from windlass.settings import Settings

# what stands for `windlass report`: notes that it ran, and waits for leave to end
COMMAND = """
import pathlib, sys, time
home = pathlib.Path(sys.argv[1])
with (home / "made").open("a") as made:
    made.write("page\\n")
while not (home / "leave").exists():
    time.sleep(0.01)
sys.exit(int((home / "leave").read_text() or 0))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, project=tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(settings: Settings, said: list[str]) -> ReportKeeper:
    command = [sys.executable, "-S", "-E", "-c", COMMAND, str(settings.home)]
    return ReportKeeper(settings, "flights", said.append, command=command, every_s=10.0)


def analysed(settings: Settings, end: float) -> None:
    store.write(settings, "flights", end, {"end": end})


def leave(settings: Settings, code: str = "0") -> None:
    (settings.home / "leave.part").write_text(code)
    (settings.home / "leave.part").rename(settings.home / "leave")


def done(keeper: ReportKeeper, now: float) -> None:
    """Turn until no page is being made; time stands still meanwhile."""
    while keeper.pid is not None:
        keeper.turn(now)


def pages(settings: Settings) -> int:
    made = settings.home / "made"
    return made.read_text().count("page") if made.exists() else 0


def test_nothing_is_made_of_nothing(keeper: ReportKeeper, settings: Settings) -> None:
    """Verify that a platform without results starts no process."""
    for now in (0.0, 100.0, 200.0):
        keeper.turn(now)
    assert keeper.pid is None and not keeper.log.exists()


def test_a_new_result_makes_one_page(keeper: ReportKeeper, settings: Settings) -> None:
    """Verify that a page is made once for a result, and again for the next one, never two at once or too often."""
    analysed(settings, 1e9)
    leave(settings)
    keeper.turn(0.0)
    done(keeper, 0.0)
    keeper.turn(100.0)
    assert keeper.pid is None and pages(settings) == 1
    analysed(settings, 1e9 + 3600)
    keeper.turn(105.0)
    assert keeper.pid is None, "not so soon after the last look"
    keeper.turn(110.0)
    done(keeper, 110.0)
    assert pages(settings) == 2


def test_what_comes_while_a_page_is_made_is_of_the_next_one(keeper: ReportKeeper, settings: Settings) -> None:
    """Verify that a result in between is not forgotten."""
    analysed(settings, 1e9)
    keeper.turn(0.0)
    analysed(settings, 1e9 + 3600)
    keeper.turn(20.0)  # still being made: nothing is started beside it
    leave(settings)
    done(keeper, 20.0)
    keeper.turn(30.0)
    done(keeper, 30.0)
    assert pages(settings) == 2


def test_a_page_that_fails_is_said(keeper: ReportKeeper, settings: Settings, said: list[str]) -> None:
    """Verify that a failure names its log, and that the next result is tried again."""
    analysed(settings, 1e9)
    leave(settings, "1")
    keeper.turn(0.0)
    done(keeper, 0.0)
    assert said == [f"warning: the report page could not be made and is an old one; {keeper.log} says why"]


def test_a_page_that_never_ends_is_ended(keeper: ReportKeeper, settings: Settings, said: list[str]) -> None:
    """Verify that a process that hangs does not keep the page old for ever."""
    analysed(settings, 1e9)
    keeper.turn(0.0)
    keeper.turn(LIMIT_S - 1)
    assert keeper.pid is not None
    keeper.turn(LIMIT_S + 1)
    assert keeper.pid is None and len(said) == 1


def test_closing_ends_what_is_being_made(keeper: ReportKeeper, settings: Settings) -> None:
    """Verify that no process is left behind."""
    analysed(settings, 1e9)
    keeper.turn(0.0)
    pid = keeper.pid
    assert pid is not None
    keeper.close()
    assert keeper.pid is None and processes.started(pid) is None


def test_signals_and_releases_are_results_too(settings: Settings) -> None:
    """Verify that each kind of result changes what is seen from outside."""
    seen = {fingerprint(settings, "flights")}
    for place in ("triggers.jsonl", "releases/flights/0001-flights-2.jsonl"):
        path = settings.journal_dir / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"at": 0}) + "\n")
        seen.add(fingerprint(settings, "flights"))
    analysed(settings, 1e9)
    seen.add(fingerprint(settings, "flights"))
    assert len(seen) == 4
