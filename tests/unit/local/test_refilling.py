"""The online store of `windlass up`: filled again on a schedule, step by step, by processes that nobody waits for."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from windlass import settings
from windlass.local.refilling import RefillingTask
from windlass.settings import Settings

PROJECT = Path(__file__).resolve().parents[3]


class Noted(RefillingTask):
    """Its steps note that they ran, and fail as they are told."""

    fails = ""

    def command(self, step: str) -> list[str]:
        code = f"open({str(self._settings.home / 'ran')!r}, 'a').write('{step} '); exit({step == self.fails})"
        return [sys.executable, "-c", code]


def passed(task: RefillingTask, now: float) -> None:
    """Take turns at one moment until nothing is under way."""
    deadline = time.monotonic() + 120
    task.turn(now)
    while task.pid is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        task.turn(now)


def test_what_is_served_is_filled_again_every_hour(tmp_path: Path) -> None:
    """Verify that rows are computed before they are written, and that a store which was just filled waits an hour."""
    task = Noted(Settings(home=tmp_path, project=PROJECT), "flights", print, filled=True)
    for now in (0.0, 3599.0):
        passed(task, now)
    assert not (tmp_path / "ran").exists()
    for now in (3600.0, 3700.0, 7200.0):
        passed(task, now)
    assert (tmp_path / "ran").read_text() == "build materialize build materialize "


def test_a_store_that_an_earlier_platform_filled_is_filled_soon(tmp_path: Path) -> None:
    task = Noted(Settings(home=tmp_path, project=PROJECT), "flights", print, filled=False, first_s=60.0)
    for now in (0.0, 59.0, 60.0):
        passed(task, now)
    assert (tmp_path / "ran").read_text() == "build materialize "


@pytest.mark.parametrize("step", ["build", "materialize"])
def test_a_failure_is_said_once_and_so_is_its_end(tmp_path: Path, step: str) -> None:
    """Verify that rows which cannot be computed are not written, and that it is tried again."""
    said: list[str] = []
    task = Noted(Settings(home=tmp_path, project=PROJECT), "flights", said.append, filled=True)
    task.turn(0.0)
    task.fails = step
    passed(task, 3600.0)
    passed(task, 7200.0)
    assert (tmp_path / "ran").read_text().split().count("materialize") == (0 if step == "build" else 2)
    assert said == [f"warning: the features of flights are not filled again; {task.log} says why"]
    task.fails = ""
    passed(task, 10_800.0)
    assert said[1:] == ["the features of flights are filled again"]


def test_the_real_command_is_one(tmp_path: Path) -> None:
    """Verify by its own words on a workload that there is not."""
    said: list[str] = []
    task = RefillingTask(
        Settings(home=tmp_path, project=PROJECT), "nothing", said.append, filled=False, first_s=0.0
    )
    passed(task, 0.0)
    passed(task, 1.0)
    assert len(said) == 1 and "unknown workload 'nothing'" in task.log.read_text()


def test_the_interval_is_a_setting(tmp_path: Path) -> None:
    """Verify that it may be off."""
    assert settings.load({}).features_every == timedelta(hours=1)
    assert settings.load({"WINDLASS_FEATURES_EVERY": "30m"}).features_every == timedelta(minutes=30)
    never = Settings(home=tmp_path, project=PROJECT, features_every=None)
    task = Noted(never, "flights", print, filled=False, first_s=0.0)
    for now in (0.0, 1e6):
        passed(task, now)
    assert not (tmp_path / "ran").exists()


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    task = Noted(Settings(home=tmp_path, project=PROJECT), "flights", print, filled=False, first_s=0.0)
    task.turn(0.0)
    task.turn(1.0)
    assert task.pid is not None
    task.close()
    assert task.pid is None
