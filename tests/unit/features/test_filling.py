"""Filling the online store on a schedule: what it notes, what it refuses, and the registry that jobs share."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from windlass.clock import ManualClock
from windlass.errors import UsageError, WindlassError
from windlass.features import filling, registry_file, store
from windlass.features.stream import OnlineStream
from windlass.settings import Settings

HOUR = timedelta(hours=1)
AT = datetime(2013, 2, 10, 12, tzinfo=UTC)


@pytest.fixture
def settings(built: object, tmp_path: Path) -> Settings:
    return built.scratch(tmp_path / "home")


def test_a_run_is_noted_for_who_watches(built: object, settings: Settings) -> None:
    """Verify the note of a run: when, up to what, how many rows of each view, and how long it is good for."""
    clock = ManualClock(AT)
    assert filling.newest(settings, "flights") is None and filling.workloads(settings) == []
    filled = filling.fill(built.workload, settings, clock, stale_after=3 * HOUR)
    assert filling.newest(settings, "flights") == filled and filling.workloads(settings) == ["flights"]
    longest = max(view.ttl for view in built.workload.views)
    assert (filled.ended, filled.until) == (AT.timestamp(), AT.timestamp())
    assert filled.since == (AT - longest).timestamp() and filled.stale_after == 3 * 3600
    for view in built.workload.views:
        every = view.compute(built.prepared)["event_timestamp"]
        assert filled.rows[view.name] == ((every >= AT - longest) & (every <= AT)).sum() > 0


def test_what_nobody_bounds_is_never_stale(built: object, settings: Settings) -> None:
    filling.fill(built.workload, settings, ManualClock(AT), until=AT - HOUR, since=AT - 5 * HOUR)
    found = filling.newest(settings, "flights")
    assert found is not None and found.stale_after is None
    assert (found.since, found.until) == ((AT - 5 * HOUR).timestamp(), (AT - HOUR).timestamp())


def test_a_source_that_stands_still_is_no_success(built: object, settings: Settings) -> None:
    """Verify that a run that finds nothing valid fails, and leaves the last note as it was."""
    filled = filling.fill(built.workload, settings, ManualClock(AT), stale_after=HOUR)
    with pytest.raises(WindlassError, match=r"no feature view has an offline row from 2013-03-04.*--until"):
        filling.fill(built.workload, settings, ManualClock(AT + timedelta(days=30)), stale_after=HOUR)
    assert filling.newest(settings, "flights") == filled


@pytest.mark.parametrize(
    ("views", "since", "said"),
    [
        pytest.param(False, None, "has no feature views", id="no-views"),
        pytest.param(True, AT, "is not before", id="an-empty-span"),
    ],
)
def test_what_cannot_be_filled_is_refused(
    built: object, settings: Settings, views: bool, since: datetime | None, said: str
) -> None:
    workload = built.workload if views else replace(built.workload, views=())
    with pytest.raises(UsageError, match=said):
        filling.fill(workload, settings, ManualClock(AT), since=since)


@pytest.mark.parametrize("content", ["", "[]", '{"ended": 1}', '{"ended": "x", "stale_after": null}'])
def test_a_damaged_note_says_how_to_mend_it(settings: Settings, content: str) -> None:
    settings.materialized_dir.mkdir()
    (settings.materialized_dir / "flights.json").write_text(content)
    with pytest.raises(WindlassError, match="`windlass features materialize flights` writes it anew"):
        filling.newest(settings, "flights")


def test_two_jobs_that_fill_take_turns(
    built: object, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that a job waits while another one may write the registry and says so, that neither undoes what the other
    did, and that who only opens the store does not wait for a job that fills it for long."""
    with contextlib.closing(OnlineStream(built.workload, settings)) as online:
        filled = threading.Thread(target=online.fill, args=(AT - HOUR, AT))
        with settings.feast_registry.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            filled.start()
            said, deadline = "", time.monotonic() + 60
            while "waits until another process has written Feast's registry" not in said:
                assert filled.is_alive() and time.monotonic() < deadline, said
                time.sleep(0.01)
                said += capsys.readouterr().err
            filled.join(0.2)
            assert filled.is_alive()
            opened = threading.Thread(target=store.open_store, args=(settings,), daemon=True)
            opened.start()
            opened.join(60)
            assert not opened.is_alive()
            # the other one has materialized meanwhile: a span of its own
            _note(settings, built.workload.views[0].name, AT - 9 * HOUR)
        filled.join(60)
        assert not filled.is_alive()
    spans = _spans(settings, built.workload.views[0].name)
    assert spans == [(AT - 9 * HOUR, AT - 8 * HOUR), (AT - HOUR, AT)]


def test_the_registry_keeps_a_bounded_past(built: object, settings: Settings) -> None:
    """Verify that an hourly job does not let the registry grow for ever, and that the newest spans are those kept."""
    with contextlib.closing(OnlineStream(built.workload, settings)):
        pass
    name = built.workload.views[0].name
    for hour in range(registry_file.SPANS + 5):
        _note(settings, name, AT + hour * HOUR)
    spans = _spans(settings, name)
    assert len(spans) == registry_file.SPANS
    assert spans[-1][0] == AT + (registry_file.SPANS + 4) * HOUR


def test_a_job_that_is_killed_leaves_the_registry_whole(
    built: object, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that what is read is the old registry or the new one: an empty one would be a registry without views."""
    with contextlib.closing(OnlineStream(built.workload, settings)):
        pass
    before = settings.feast_registry.read_bytes()

    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _note(settings, built.workload.views[0].name, AT)
    assert settings.feast_registry.read_bytes() == before
    filling.fill(built.workload, settings, ManualClock(AT))


def _note(settings: Settings, view: str, start: datetime) -> None:
    """Another job's registry, with one more span of a view."""
    feast_store = _opened(settings)
    feast_store.registry.apply_materialization(
        feast_store.get_feature_view(view), feast_store.project, start, start + HOUR
    )


def _spans(settings: Settings, view: str) -> list[tuple[datetime, datetime]]:
    return list(_opened(settings).get_feature_view(view).materialization_intervals)


def _opened(settings: Settings) -> Any:
    """As `store.open_store`, whose lock a test may hold."""
    from feast import FeatureStore

    return FeatureStore(config=store._config(settings, None))
