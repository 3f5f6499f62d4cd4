"""Verify that a baseline on disk judges as the one in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.detection import storage
from monitoring.detection.baseline import Baseline
from tests.support.detection_flights import Flights, Watch
from windlass.errors import WindlassError


def test_a_stored_baseline_judges_the_same(flights: Flights, learned: Baseline, tmp_path: Path) -> None:
    path = tmp_path / storage.FILE
    storage.save(learned, path)
    kept = storage.load(path)
    assert kept.digest == learned.digest
    week = flights.live(10)
    assert Watch(kept).look(week) == Watch(learned).look(week)


def test_a_missing_or_damaged_file_says_what_to_do(learned: Baseline, tmp_path: Path) -> None:
    path = tmp_path / storage.FILE
    with pytest.raises(WindlassError, match="is missing"):
        storage.load(path)
    storage.save(learned, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WindlassError, match="is damaged"):
        storage.load(path)
