"""Ten thousand random schedules of signals, crashes and clock jumps: the policy holds in every one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from retrain_schedules import Schedule

from monitoring.retrain import clock, decision
from monitoring.retrain.journal import Trigger
from windlass import atomic

BLOCK = 1000
MEMORY = Path("/dev/shm")  # noqa: S108 - the journals need no disk


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def broken(folder: Path, seeds: range) -> str | None:
    """The first invariant that one of the schedules breaks."""
    for seed in seeds:
        try:
            Schedule(seed, folder).run()
        except Exception as error:
            return f"schedule {seed}: {type(error).__name__}: {error}"
        for path in folder.iterdir():
            path.unlink()
    return None


@pytest.mark.parametrize("block", range(10))
def test_a_thousand_random_schedules_never_break_the_policy(folder: Path, block: int) -> None:
    """Verify that one cause makes one run, that every distance, budget and blackout is kept, and nothing is lost."""
    assert broken(folder, range(block * BLOCK, (block + 1) * BLOCK)) is None


def test_the_schedules_have_crashes_and_jumps_in_them(folder: Path) -> None:
    lives = [Schedule(seed, folder) for seed in range(50)]
    for life in lives:
        life.run()
    assert sum(life.crashes for life in lives) > 50
    assert sum(life.jumps for life in lives) > 50


def nothing(*_: Any, **__: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("place", "name", "mistake", "said"),
    [
        pytest.param(decision, "_duplicate", nothing, "a second run of one cause", id="no-duplicate-rule"),
        pytest.param(decision, "_cooldown", nothing, "within the cool-down", id="no-cool-down"),
        pytest.param(decision, "_budgets", nothing, "over the budget of the day", id="no-budget"),
        pytest.param(decision, "_concurrency", nothing, "more at a time", id="no-limit-of-runs"),
        pytest.param(decision, "_blackout", nothing, "a release was live", id="no-blackout"),
        pytest.param(decision, "_quality", nothing, "data quality fails", id="broken-data-does-not-hold"),
        pytest.param(decision, "_escalation", nothing, "a person must decide", id="no-escalation"),
        pytest.param(decision, "_stale", nothing, "is no champion", id="no-stale-rule"),
        pytest.param(clock, "jump", lambda *_: timedelta(0), "a jump", id="jumps-are-not-seen"),
        pytest.param(Trigger, "recover", lambda *_: (), "accepted and never run", id="no-recovery"),
        pytest.param(Trigger, "reconsider", lambda *_, **__: (), "held for ever", id="held-is-forgotten"),
        pytest.param(atomic, "cut_torn_tail", nothing, "cannot be read", id="torn-lines-stay"),
    ],
)
def test_a_mistake_in_the_trigger_breaks_a_schedule(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    mistake: Callable[..., Any],
    said: str,
) -> None:
    """Verify that the schedules above can fail: each rule that is taken out is missed by one of them."""
    monkeypatch.setattr(place, name, mistake)
    found = (broken(folder, range(start, start + 20)) for start in range(0, 400, 20))
    assert any(said in text for text in found if text is not None)
