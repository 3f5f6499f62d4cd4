"""Where a platform's clock stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from windlass.features import history, partitions


def test_recorded_data_are_served_at_their_end(built: object) -> None:
    """Verify that a replayed year stands where every pushed view still has rows."""
    stands = history.standing_clock(built.workload, built.settings)
    assert stands is not None
    ends = {v.name: partitions.newest(built.settings, v) for v in built.workload.views}
    assert stands == min(end for name, end in ends.items() if name != "dest_history")
    assert stands.tzinfo is not None


def test_data_that_go_on_are_served_on_the_clock(built: object) -> None:
    """Verify that no clock stands while a view's newest row is still valid, to the last moment."""
    newest = max(partitions.newest(built.settings, v) + v.ttl for v in built.workload.views)
    assert history.standing_clock(built.workload, built.settings, newest) is None
    assert history.standing_clock(built.workload, built.settings, newest + timedelta(seconds=1)) is not None


def test_without_rows_there_is_nothing_to_stand_at(built: object, tmp_path: Path) -> None:
    """Verify a workload without feature views, or not built yet."""
    assert history.standing_clock(built.workload, replace(built.settings, home=tmp_path)) is None
    assert (
        history.standing_clock(replace(built.workload, views=()), built.settings, datetime.now(UTC)) is None
    )
