"""One drift, fifty alerts, the trigger killed at every boundary, Alertmanager sending again: one pipeline run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from retrain_service import MODEL, WAIT_S, Served, alert, notification

from monitoring.retrain import journal
from pipelines import submit_local
from windlass import atomic
from windlass.contract import RetrainPolicy
from windlass.journal import Journal, read
from windlass.settings import Settings

POLICY = RetrainPolicy(cooldown=timedelta(days=30))
ALERTS, TOGETHER = 50, 5
NEVER = 1_000_000
MEMORY = Path("/dev/shm")  # noqa: S108 - an fsync is a boundary here, not a matter of disks


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def killed_at(boundary: int) -> Callable[[], None]:
    """Let this process die by SIGKILL at the n-th boundary of a write or a submission."""

    def prepare() -> None:
        left = boundary

        def reached() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def around(place: Any, name: str) -> None:
            function = getattr(place, name)

            def guarded(*words: Any, **options: Any) -> Any:
                reached()
                done = function(*words, **options)
                reached()
                return done

            setattr(place, name, guarded)

        around(Journal, "append")
        around(os, "fsync")
        around(submit_local.LocalRuns, "submit")
        around(atomic, "write_text")
        around(subprocess, "Popen")

    return prepare


def drift() -> Iterator[dict[str, Any]]:
    """Fifty alerts of one drift, again and again and out of order, in notifications of five."""
    chance = random.Random(7)
    began = datetime.now(UTC) - timedelta(hours=3)
    moments = [began + timedelta(minutes=chance.choice((0, 0, 1, 5, 30, 90))) for _ in range(ALERTS)]
    alerts = [alert(moment.isoformat().replace("+00:00", "Z")) for moment in moments]
    for start in range(0, ALERTS, TOGETHER):
        yield notification(*alerts[start : start + TOGETHER])


def lived(home: Path, boundaries: Iterable[int]) -> tuple[int, list[str]]:
    """Deliver the drift to a trigger whose lives are ended at these boundaries, one after the other.

    Returns:
        How many lives it took, and the names of the runs that were executed.
    """
    with Served(home, POLICY) as served:
        ends = iter(boundaries)

        def revive() -> None:
            served.start(killed_at(next(ends, NEVER)))

        revive()
        for sent in drift():
            served.deliver(sent, revive)
        path = journal.path(Settings(home=home, project=home))
        deadline = time.monotonic() + WAIT_S
        while not any(t.finished for t in journal.history(path, MODEL)):
            assert time.monotonic() < deadline, [dict(r) for r in read(path)]
            if not served.alive():
                revive()
            time.sleep(0.005)
        lives = served.lives
    executed = [
        folder.name
        for folder in (home / "runs" / ".submitted").iterdir()
        for _ in (folder / "executed").read_text().splitlines()
    ]
    records = [r for r in read(path) if r["event"] != "clock"]
    accepted = [r for r in records if r["event"] == "accepted"]
    assert [r["id"] for r in accepted] == executed, "one signal is accepted, and its run is the one that ran"
    assert len([r for r in records if r["event"] in ("accepted", "refused")]) >= ALERTS, "none is unheard"
    assert [r["event"] for r in records if r["id"] == executed[0] and r["event"] != "refused"] == [
        "accepted",
        "submitted",
        "finished",
    ]
    return lives, executed


@pytest.mark.slow
def test_killed_at_each_boundary_there_is_one_run(memory: Path) -> None:
    """Verify that wherever the trigger dies, before or after any write, fsync or start, the drift makes one run."""
    boundary = 0
    while True:
        lives, executed = lived(memory / f"at-{boundary}", [boundary])
        assert len(executed) == 1
        if lives == 1:
            break  # it was not reached any more
        assert lives == 2, (boundary, [p.read_text() for p in memory.glob("*/died")])
        boundary += 1
    # a signal that is accepted, submitted and finished has more boundaries than this
    assert boundary > 3 * ALERTS


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_there_is_one_run(memory: Path, seed: int) -> None:
    chance = random.Random(seed)
    lives, executed = lived(memory / "home", [chance.randint(0, 50) for _ in range(30)])
    assert lives > 5 and len(executed) == 1
