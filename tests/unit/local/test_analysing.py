"""The scheduled analysis: when it is due, what it is told, and that the loop never waits for it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.analysis import store
from monitoring.analysis.store import Status
from windlass import settings
from windlass.errors import UsageError
from windlass.local import processes
from windlass.local.analysing import AnalysisTask
from windlass.settings import Settings

PROJECT = Path(__file__).resolve().parents[3]
WALL = 1.8e9


class Recorded(AnalysisTask):
    """Starts nothing and notes when it would have."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.started: list[float] = []

    def _start(self, now: float) -> None:
        self.started.append(now)


def turned(task: Recorded, until: float) -> list[float]:
    now = 0.0
    while now <= until:
        task.turn(now)
        now += 10.0
    return task.started


@pytest.mark.parametrize(
    ("every", "attempt", "expected"),
    [
        pytest.param(timedelta(hours=1), None, [60.0, 3660.0, 7260.0], id="first-a-minute-after-the-start"),
        pytest.param(
            timedelta(hours=1), WALL - 1800, [1800.0, 5400.0], id="goes-by-the-last-platforms-attempt"
        ),
        pytest.param(timedelta(hours=1), WALL - 86_400, [60.0, 3660.0, 7260.0], id="overdue"),
        pytest.param(
            timedelta(hours=1), WALL + 10 * 86_400, [3600.0, 7200.0], id="a-clock-that-was-set-back"
        ),
        pytest.param(None, None, [], id="off"),
    ],
)
def test_it_is_due_at_its_interval(
    tmp_path: Path, every: timedelta | None, attempt: float | None, expected: list[float]
) -> None:
    configured = Settings(home=tmp_path, project=PROJECT, analysis_every=every)
    if attempt is not None:
        store.note(configured, "flights", Status(attempt=attempt))
    task = Recorded(configured, "flights", print, wall=lambda: WALL)
    assert turned(task, 7500.0) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", timedelta(minutes=15)),
        ("2d", timedelta(days=2)),
        ("off", None),
        ("90s", timedelta(seconds=90)),
    ],
)
def test_the_interval_is_a_setting(text: str, expected: timedelta | None) -> None:
    assert settings.load({"WINDLASS_ANALYSIS_EVERY": text}).analysis_every == expected
    assert settings.load({}).analysis_every == timedelta(hours=1)


@pytest.mark.parametrize("text", ["", "h", "0h", "1.5h", "soon", "1w"])
def test_an_interval_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="WINDLASS_ANALYSIS_EVERY"):
        settings.load({"WINDLASS_ANALYSIS_EVERY": text})


def test_the_trigger_and_a_standing_clock_are_told(tmp_path: Path) -> None:
    configured = Settings(home=tmp_path, project=PROJECT)
    plain = AnalysisTask(configured, "flights", print).command()
    assert plain[plain.index("-m") + 1 :] == ["monitoring.analysis", "flights"]
    task = AnalysisTask(
        configured,
        "flights",
        print,
        as_of=datetime(2013, 2, 1, tzinfo=UTC),
        trigger=lambda: ("http://127.0.0.1:4", tmp_path / "token"),
    )
    words = task.command()[task.command().index("flights") + 1 :]
    assert words == [
        "--end", "2013-02-01T00:00:00+00:00",
        "--signals-to", "http://127.0.0.1:4/events", "--token-file", str(tmp_path / "token"),
    ]  # fmt: skip


def finished(task: AnalysisTask, now: float) -> None:
    deadline = time.monotonic() + 120
    while task.pid is not None:
        assert time.monotonic() < deadline
        task.turn(now)
        time.sleep(0.02)


def test_the_real_job_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Verify that a turn returns at once, the result appears, and a failure is said with where to look."""
    said: list[str] = []
    configured = Settings(home=tmp_path, project=PROJECT)
    task = AnalysisTask(configured, "flights", said.append, first_s=0.0)
    task.turn(0.0)
    task.turn(1.0)
    assert store.latest(configured, "flights") is None
    finished(task, 2.0)
    found = store.latest(configured, "flights")
    assert found is not None
    assert found["workload"] == "flights"
    assert said == []
    wrong = AnalysisTask(replace(configured, home=tmp_path / "other"), "nothing", said.append, first_s=0.0)
    wrong.turn(0.0)
    wrong.turn(1.0)
    finished(wrong, 2.0)
    assert said == [f"warning: the analysis of nothing failed; {wrong.log} says why"]
    assert "unknown workload 'nothing'" in wrong.log.read_text()


def test_closing_ends_one_that_runs(tmp_path: Path) -> None:
    task = AnalysisTask(Settings(home=tmp_path, project=PROJECT), "flights", print, first_s=0.0)
    task.turn(0.0)
    task.turn(1.0)
    pid = task.pid
    assert pid is not None
    task.close()
    assert task.pid is None and processes.started(pid) is None


def test_an_analysis_asks_about_a_namespace_only_where_that_is_ours() -> None:
    """Verify that a notebook's pod, which knows its namespace, asks about the models of its own machine."""
    assert settings.load({"POD_NAMESPACE": "notebooks"}).namespace is None
    assert settings.load({"WINDLASS_NAMESPACE": "team-a"}).namespace == "team-a"
