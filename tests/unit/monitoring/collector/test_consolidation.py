"""From the journal into the store, whatever stops it in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from event_store import DAY, HOUR, NOON, EventStore, home, label, prediction, request, response

from monitoring.collector import consolidation, wal
from monitoring.collector.follower import lines
from monitoring.collector.place import Folder
from windlass import atomic


def test_an_event_delivered_twice_is_stored_once(store: EventStore) -> None:
    """Verify it within a batch, in a later one and after the index's merges, for lines and for CloudEvents."""
    store.add(prediction("a"), prediction("a"), request("c"), response("c"), request("c"))
    store.consolidate()
    for _ in range(3):
        store.add(prediction("a"), response("c"), prediction("b"), request("c"))
        store.consolidate()
    assert store.stored() == ["a", "b", "c"]
    counts = store.events().manifest().counts
    assert {k: v for k, v in counts.items() if k.startswith("dup")} == {
        "duplicates.prediction": 1 + 3 + 2,
        "duplicates.request": 1 + 3,
        "duplicates.response": 3,
    }


@pytest.mark.parametrize(
    ("other", "names"),
    [
        pytest.param({"version": "2"}, 2, id="another-version"),
        pytest.param({"mirrored": True}, 2, id="a-mirrored-copy"),
        pytest.param({"at": NOON + 1}, 1, id="a-retried-request"),
    ],
)
def test_what_makes_a_prediction_another_one(store: EventStore, other: dict[str, object], names: int) -> None:
    """Verify that model, version, mirrored and request id name a prediction, and nothing else does."""
    store.add(prediction("a"), prediction("a", **other))
    store.consolidate()
    assert len(store.stored()) == names


def test_partitions_are_utc_days_of_event_time(store: EventStore) -> None:
    """Verify folders, and that times are microseconds in UTC."""
    import pyarrow.parquet as pq

    store.add(
        prediction("a", at=NOON + 12 * HOUR - 1e-6), prediction("b", at=NOON + 12 * HOUR, received=NOON + DAY)
    )
    store.add(prediction("c", model="n"))
    store.consolidate()
    paths = [part.path for part in store.events().manifest().of("predictions")]
    assert sorted(Path(path).parent.as_posix() for path in paths) == [
        "predictions/model=m/date=2023-11-15",
        "predictions/model=m/date=2023-11-16",
        "predictions/model=n/date=2023-11-15",
    ]
    assert str(pq.read_schema(store.folder / paths[0]).field("at").type) == "timestamp[us, tz=UTC]"


class Crash(BaseException):
    """No handler of ours catches it, as none catches SIGKILL."""


def crash_at(place: str) -> Callable[..., None]:
    def crash(*_: object, **__: object) -> None:
        raise Crash(place)

    return crash


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("monitoring.collector.parts", "write", id="before-a-part"),
        pytest.param("monitoring.collector.commit.Committer", "_write_held", id="parts-written"),
        pytest.param("monitoring.collector.commit.Committer", "_index", id="held-written"),
        pytest.param("monitoring.collector.store.Store", "commit", id="indexes-written"),
        pytest.param("monitoring.collector.consolidation", "_remove_taken", id="before-anything-is-removed"),
        pytest.param("monitoring.collector.consolidation", "maintain", id="segments-removed"),
    ],
)
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    """Verify that the next consolidation starts from the journal, or from the manifest, and never from both."""
    store.add(prediction("a"), request("c"), label("a", 1))
    store.consolidate()
    store.add(prediction("b"), response("c"), request("d"), label("b", 0))
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", crash_at(name))
        with pytest.raises(Crash):
            store.consolidate()
    store.add(response("d"))
    store.consolidate()
    assert store.stored() == ["a", "b", "c", "d"]
    assert store.events().window("m").labels[:2].tolist() == [1.0, 0.0]
    assert wal.numbers(store.folder / "wal") == []
    named = store.events().manifest().files()
    assert set(Folder(store.folder).paths()) <= named, "what the crash left is swept"


def test_a_crash_after_the_commit_takes_nothing_twice(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that segments which are still there although they were taken are not taken again."""
    store.add(prediction("a"), label("a", 1))
    calls = iter((None,))

    def removes_once(folder: Path, until: int) -> None:
        if next(calls, "crash") == "crash":
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(consolidation, "_remove_taken", removes_once)
        with pytest.raises(Crash):
            store.consolidate()
    assert wal.numbers(store.folder / "wal") == [0]
    known = store.consolidate()
    assert (known.counts["stored.prediction"], "duplicates.prediction" in known.counts) == (1, False)


def test_a_torn_segment_gives_what_is_whole(store: EventStore) -> None:
    """Verify that a process killed while it wrote costs what it never acknowledged."""
    whole = wal.frame(lines([prediction("a")]))
    store.segment(whole + wal.frame(lines([prediction("b")]))[:-9])
    store.add(prediction("c"))
    known = store.consolidate()
    assert store.stored() == ["a", "c"]
    assert (known.counts["wal.torn"], known.counts.get("wal.damaged")) == (1, None)


def test_a_damaged_segment_is_kept_for_a_person(
    store: EventStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that damage is said aloud, and that its bytes are not thrown away."""
    frames = [wal.frame(lines([prediction(name)])) for name in "abc"]
    data = frames[0] + frames[1][:-2] + b"#\n" + frames[2]
    store.segment(data)
    known = store.consolidate()
    assert store.stored() == ["a"]
    assert known.counts["wal.damaged"] == 1
    assert (store.folder / "wal" / "000000000000.damaged").read_bytes() == data
    assert "are damaged and left out" in capsys.readouterr().err


def test_halves_wait_over_consolidations_and_not_for_ever(store: EventStore) -> None:
    """Verify that an unanswered request is stored alone in the end, and its answer too if it comes after all."""
    store.add(request("a"))
    known = store.consolidate(NOON + 60)
    assert (known.held is not None, store.stored()) == (True, [])
    known = store.consolidate(NOON + 300)
    assert (known.held, store.stored()) == (None, ["a"]), "although nothing else came"
    store.add(prediction("x"))
    store.consolidate(NOON + 310)
    assert store.events().window("m").request_ids == ("x",), (
        "without an answer there is no prediction to look at"
    )
    store.add(response("a", received=NOON + 400))
    store.consolidate(NOON + 410)
    store.consolidate(NOON + 2000)
    assert store.stored() == ["a", "a", "x"]
    assert store.events().manifest().counts["incomplete.response"] == 1


def test_lost_indexes_are_made_again(store: EventStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that a machine without the index files knows duplicates, labels and predictions as before."""
    store.add(prediction("a"), request("c"), response("c"), label("a", 1), label("early", 1))
    store.add(prediction("b", at=NOON + DAY, received=NOON + DAY))
    store.consolidate()
    for run in (store.folder / "index").glob("*/*.run"):
        run.unlink()
    store.add(prediction("a"), request("c"), response("c"), label("a", 0), label("b", 1), prediction("early"))
    store.consolidate()
    assert "making them again" in capsys.readouterr().err
    assert store.stored() == ["a", "b", "c", "early"]
    window = store.events().window("m")
    found = dict(zip(window.request_ids, window.labels.tolist(), strict=True))
    assert (found["a"], found["b"], found["early"]) == (1.0, 1.0, 1.0)
    assert store.events().contradictions()["request_id"].to_pylist() == ["a"]


def test_a_manifest_that_is_none_is_not_taken_for_an_empty_store(store: EventStore) -> None:
    """Verify that the error names the file instead of starting anew."""
    from windlass.errors import WindlassError

    store.folder.mkdir(parents=True)
    (store.folder / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(WindlassError, match="is no manifest of an event store"):
        store.consolidate()
    (store.folder / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(WindlassError, match="has format 99, and 1 is known here"):
        store.consolidate()


def test_folders_are_as_durable_as_what_lies_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that every new folder is synced in the one above it before a manifest names what it holds: after a loss
    of power a part must not be gone whose segment was removed."""
    synced: list[Path] = []
    real = atomic.sync_directory

    def sync(path: Path) -> None:
        real(path)
        synced.append(path)

    class Watched(Folder):
        def write(self, path: str, content: bytes) -> None:
            made = [p for p in store.folder.rglob("*") if p.is_dir() and p.name != "wal"]
            unsafe.extend(p for p in made if p.parent not in synced)
            super().write(path, content)

    unsafe: list[Path] = []
    monkeypatch.setattr(atomic, "sync_directory", sync)
    monkeypatch.setattr("monitoring.collector.place.Folder", Watched)
    store = EventStore(home(tmp_path / "new"))
    store.add(prediction("a"), label("a", 1), label("early", 1), request("c"))
    store.consolidate()
    assert len(synced) > 10
    assert unsafe == []


def test_what_a_store_was_told_to_be_complete_up_to_stays_as_it_was(store: EventStore) -> None:
    """Verify that rows which come in later are known later, whenever they were received: a half that was waited for in
    vain, a label that was there before its prediction, and what a clock that was set back dates."""
    import pyarrow.parquet as pq

    store.add(response("half", received=NOON, answered_by="model"), label("b", 1, at=NOON, received=NOON + 1))
    store.add(prediction("a", received=NOON + 2))
    assert store.consolidate_until(NOON + 10).until == NOON + 10
    store.add(prediction("b", received=NOON + 12), prediction("back", received=NOON + 3))
    store.add(prediction("c", received=NOON + 25), label("a", 1, at=NOON, received=NOON + 24))
    known = consolidation.consolidate(
        store.settings, store.options, store.next, now=NOON + 300, complete=NOON + 20
    )
    assert known.until == NOON + 20

    def moments(kind: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for part in known.of(kind, "m"):
            table = pq.ParquetFile(store.folder / part.path).read(["request_id", "known"])
            rows = dict(zip(table["request_id"].to_pylist(), table["known"].to_pylist(), strict=True))
            found |= {name: moment.timestamp() - NOON for name, moment in rows.items()}
            assert known.latest[part.path] == max(moment.timestamp() for moment in rows.values())
        return found

    later = pytest.approx(10.000001, abs=1e-7)
    assert moments("predictions") == {"a": 2, "b": 12, "back": later, "c": 25, "half": later}
    assert moments("labels") == {"a": 24, "b": 12}, "a label is known with its prediction"


def test_a_clock_that_was_ahead_is_set_right(store: EventStore) -> None:
    """Verify that the store is complete up to a day to come for one consolidation only, and goes back by no moment
    otherwise."""
    store.add(prediction("a"))
    assert store.consolidate_until(NOON + DAY).until == NOON + DAY
    assert store.consolidate_until(NOON + 5).until == NOON + 5
    assert store.consolidate_until(NOON + 1).until == NOON + 5
    assert store.consolidate().until == NOON + 5
