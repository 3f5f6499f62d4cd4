"""Compaction, retention and what a reader sees meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from event_store import DAY, HOUR, NOON, EventStore, home, label, prediction

from monitoring.collector.options import Options
from monitoring.collector.place import Folder
from windlass.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(home(tmp_path), compact_parts=3, keep_predictions_days=10, keep_labels_days=20)


def test_small_files_become_one_with_the_same_rows(store: EventStore) -> None:
    """Verify rows, order, types that differ between files, and that duplicates are known beyond a compaction."""
    store.add(prediction("a", at=NOON + 3, request={"distance": 1, "seat": "4A"}))
    store.consolidate()
    store.add(prediction("b", at=NOON + 2, request={"distance": "far"}, version="2", features=[1.0, 2.0]))
    store.consolidate()
    before = store.events().manifest()
    store.add(prediction("c", at=NOON + 1, request={}), label("a", 1))
    store.consolidate()
    (part,) = store.events().manifest().of("predictions", "m")
    assert (part.rows, part.since, part.until, part.versions) == (3, NOON + 1, NOON + 3, ("1", "2"))
    window = store.events().window("m")
    assert window.request_ids == ("c", "b", "a")
    assert window.columns["request.distance"].tolist()[1:] == ["far", "1"]
    assert window.columns["request.seat"].tolist() == [None, None, "4A"]
    assert window.labels[2] == 1.0
    for old in before.of("predictions"):
        assert Folder(store.folder).local(old.path).exists(), "whoever reads the old manifest may go on"
    store.add(prediction("a", at=NOON + 3))
    store.consolidate(NOON + HOUR)
    assert store.stored() == ["a", "b", "c"]
    for old in before.of("predictions"):
        assert not Folder(store.folder).local(old.path).exists()


def test_partitions_past_their_time_go(store: EventStore) -> None:
    """Verify that days are counted from the model's newest but one, so that a replay of old data stays."""
    store.add(prediction("old", at=NOON - 11 * DAY), prediction("kept", at=NOON - 9 * DAY), prediction("new"))
    store.add(prediction("newer", at=NOON + DAY))
    store.add(prediction("replay", model="n", at=NOON - 3000 * DAY), label("old", 1), label("kept", 1))
    known = store.consolidate()
    assert (store.stored(), store.stored("n")) == (["kept", "new", "newer"], ["replay"])
    assert known.counts["expired.rows"] == 1
    assert [p.date for p in known.of("labels", "m")] == ["2023-11-04", "2023-11-06"]
    store.add(prediction("much newer", at=NOON + 10 * DAY), prediction("newest", at=NOON + 11 * DAY))
    known = store.consolidate(NOON + 11 * DAY)
    assert store.stored() == ["much newer", "newer", "newest"]
    assert [p.date for p in known.of("labels", "m")] == ["2023-11-06"]
    assert store.events().window("m").request_ids == ("newer", "much newer", "newest")


def test_a_clock_that_is_wrong_for_a_moment_takes_nothing(store: EventStore) -> None:
    """Verify that one day years ahead ages neither the predictions before it nor what is known of them."""
    store.add(prediction("a", at=NOON - DAY), prediction("b"), label("b", 1))
    store.consolidate()
    ahead = NOON + 3000 * DAY
    store.add(prediction("astray", at=ahead, received=ahead), label("astray", 1, at=ahead, received=ahead))
    store.consolidate(ahead)
    store.add(prediction("a", at=NOON - DAY), prediction("c", at=NOON + DAY), label("b", 0))
    assert store.consolidate(NOON + DAY).counts["labels.contradicted"] == 1
    assert store.events().window("m").request_ids == ("a", "b", "c", "astray")
    assert store.events().window("m").labels[1] == 1.0


def test_what_nothing_names_is_swept(store: EventStore) -> None:
    """Verify that leftovers of a crash go, and files of others stay."""
    store.add(prediction("a"))
    store.consolidate()
    leftovers = [
        "predictions/model=m/date=2023-11-15/g000000099.parquet",
        "predictions/model=m/date=2023-11-15/.g000000100.parquet.x1",
        "held/g000000099.jsonl",
        "index/seen/g000000099.run",
    ]
    for name in leftovers:
        (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (store.folder / name).write_bytes(b"half a file")
    note = store.folder / "README"
    note.write_text("mine")
    store.consolidate()
    assert not any((store.folder / name).exists() for name in leftovers)
    assert note.exists()
    assert store.stored() == ["a"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"keep_predictions_days": 0}, "keep_predictions_days is 0; use 2 or more", id="no-day"),
        pytest.param({"late_days": -1}, "late_days is -1; use more than 0", id="backwards"),
        pytest.param({"late_days": float("nan")}, "late_days is nan", id="no-number"),
        pytest.param({"wal_bytes": 0}, "wal_bytes is 0", id="no-journal"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(options: dict[str, int], said: str) -> None:
    """Verify that a wrong limit is an error at the start, not a surprise later."""
    with pytest.raises(UsageError, match=said):
        Options(**options)  # type: ignore[arg-type]
