"""The store on S3, against moto's server of the real protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import s3_server
from event_store import NOON, EventStore, home, label, prediction, request, response

from monitoring.collector import wal
from monitoring.collector.follower import lines
from monitoring.collector.journal import Journal
from monitoring.collector.options import Options
from monitoring.collector.place import place
from monitoring.collector.reading import Events
from monitoring.release_evidence import question
from monitoring.release_evidence.live import Releases
from windlass.errors import WindlassError
from windlass.settings import Settings


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server.running() as address:
        yield address


@pytest.fixture
def store(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventStore:
    s3_server.make_bucket(endpoint, "events-test", monkeypatch)
    settings = replace(
        home(tmp_path / "one"), object_store=f"s3://events-test/{tmp_path.name}", s3_endpoint=endpoint
    )
    return EventStore(settings, compact_parts=3, grace_s=0.0)


def test_parts_and_manifest_lie_in_the_bucket_and_are_read_from_anywhere(
    store: EventStore, tmp_path: Path
) -> None:
    """Verify storing, deduplication, joining, compaction and removal, read by a machine that has nothing."""
    store.add(prediction("a"), request("c"), label("a", 1))
    store.consolidate()
    for name in ("b", "d", "e"):
        store.add(prediction("a"), prediction(name), response("c"))
        store.consolidate()
    elsewhere = Events(replace(store.settings, home=tmp_path / "two"))
    window = elsewhere.window("m")
    assert sorted(window.request_ids) == ["a", "b", "c", "d", "e"]
    assert dict(zip(window.request_ids, window.labels.tolist(), strict=True))["a"] == 1.0
    assert elsewhere.newest("m") == NOON
    assert all(path.is_relative_to(tmp_path / "two") for path in elsewhere.parts("m"))
    assert len(elsewhere.parts("m")) < 4, "small parts were joined"
    assert not list((tmp_path / "one" / "events").rglob("*.parquet"))
    from windlass.objectstore import ObjectStore

    stored = {key for key in ObjectStore(store.settings).keys("events/") if key.endswith(".parquet")}
    assert stored == {f"events/{part.path}" for part in elsewhere.manifest().parts}


def test_a_new_machine_goes_on_from_the_bucket(store: EventStore, tmp_path: Path) -> None:
    """Verify that what was stored is known where neither journal nor indexes are, and segment numbers go on."""
    from monitoring.collector.journal import recovered

    store.add(prediction("a"), label("a", 1), {"type": "offsets", "of": "feedback", "files": {"f": [1, 2]}})
    store.add(prediction("b"))
    store.consolidate()
    other = EventStore(replace(store.settings, home=tmp_path / "two"), compact_parts=3, grace_s=0.0)
    (other.folder / "wal").mkdir(parents=True)
    known, first, offsets, since = recovered(other.settings, other.folder / "wal", 0.0)
    assert (known.counts["stored.prediction"], first, offsets, since) == (
        2,
        2,
        {"feedback": {"f": [1, 2]}},
        {},
    )
    other.next = first
    other.add(prediction("a"), prediction("z"), label("a", 1))
    other.consolidate()
    assert other.events().window("m").request_ids == ("a", "b", "z")
    assert other.events().manifest().counts["labels.repeated"] == 1


def test_copies_of_one_store_are_none_of_another(store: EventStore, tmp_path: Path) -> None:
    """Verify that a machine that reads two stores, whose files have the same names, reads each of them."""
    other = EventStore(
        replace(store.settings, home=tmp_path / "two", object_store=f"{store.settings.object_store}-b")
    )
    for filled, name in ((store, "a"), (other, "b")):
        filled.add(prediction(name))
        filled.consolidate()
    for filled, name in ((store, "a"), (other, "b")):
        reader = Events(replace(filled.settings, home=tmp_path / "reader"))
        assert reader.window("m").request_ids == (name,)


def test_a_home_that_changes_its_store_keeps_what_no_store_took(store: EventStore) -> None:
    """Verify that segments written for one store are not taken for those that another has already."""
    here = replace(store.settings, object_store=None)

    async def life(settings: Settings, name: str, *, stored: bool) -> None:
        journal = Journal(settings, Options())
        await journal.append(lines([prediction(name)]))
        assert not stored or await journal.consolidate()
        journal.commits.close()

    asyncio.run(life(here, "a", stored=True))
    asyncio.run(life(store.settings, "b", stored=False))
    asyncio.run(life(here, "c", stored=True))
    assert Events(here).window("m").request_ids == ("a", "b", "c")


def test_an_index_of_another_machine_is_not_taken_for_one_s_own(store: EventStore, tmp_path: Path) -> None:
    """Verify that what was stored is known although this home has index files of its own from another store."""
    store.add(prediction("a"))
    store.consolidate()
    elsewhere = EventStore(replace(store.settings, home=tmp_path / "two", object_store=None))
    elsewhere.add(prediction("z"))
    elsewhere.consolidate()
    elsewhere.settings = replace(store.settings, home=tmp_path / "two")
    elsewhere.add(prediction("a"), prediction("b"))
    elsewhere.consolidate()
    assert Events(store.settings).window("m").request_ids == ("a", "b")


def test_what_a_killed_upload_left_is_swept(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a part on its way to the bucket lies where the next consolidation removes it."""
    from windlass.objectstore import ObjectStore

    def files() -> set[Path]:
        return {path for path in store.settings.home.rglob("*") if path.is_file()}

    def killed(self: ObjectStore, path: Path, key: str) -> None:
        path.with_name(path.name + "-left").write_bytes(
            path.read_bytes()
        )  # what a kill would not have removed
        raise KeyboardInterrupt

    store.add(prediction("a"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ObjectStore, "upload", killed)
        store.consolidate()
    assert any(path.name.endswith("-left") for path in files())
    store.consolidate()
    assert not any(path.name.endswith("-left") for path in files())


def test_a_bucket_that_does_not_answer_costs_nothing(store: EventStore) -> None:
    """Verify that the journal keeps what the bucket did not take, until it does."""
    store.add(prediction("a"))
    settings, store.settings = store.settings, replace(store.settings, s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(WindlassError, match="check that WINDLASS_S3_ENDPOINT answers"):
        store.consolidate()
    assert wal.numbers(store.folder / "wal") == [0]
    store.settings = settings
    store.consolidate()
    assert store.events().window("m").request_ids == ("a",)
    assert wal.numbers(store.folder / "wal") == []


def test_a_new_machine_sums_up_a_release_without_fetching_what_is_older(
    store: EventStore, tmp_path: Path
) -> None:
    """Verify evidence out of the bucket: the same for two machines, and of files from the release's beginning on."""
    store.add(prediction("old", received=NOON - 60))
    store.consolidate_until(NOON - 30)
    store.add(prediction("a", version="2", received=NOON + 1), label("a", 1, at=NOON, received=NOON + 2))
    store.consolidate_until(NOON + 10)
    described: dict[str, Any] = {
        "model": "m", "candidate": "2", "champion": "1", "strategy": {"type": "canary", "steps": [{"weight": 50}]},
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2},
            {"name": "worth", "kind": "guardrail", "metric": "reward", "source": "feedback", "margin": 0.1},
        ],
    }  # fmt: skip
    release = {"kind": "Release", "metadata": {"name": "r"}, "spec": described}
    since = datetime.fromtimestamp(NOON, UTC).isoformat()
    asked = question.read({"release": release, "champion": "1", "since": since}, now=NOON + 20)
    found = []
    for machine in ("one", "two"):
        there = replace(store.settings, home=tmp_path / machine)
        releases = Releases(place(there), clock=lambda: 0.0, now=lambda: NOON + 20)
        found.append(releases.answer(asked))
        fetched = list((tmp_path / machine / "cache").rglob("*.parquet"))
        assert len(fetched) == 2, "a file of predictions and one of labels"
    assert found[0] == found[1]
    assert found[0]["arms"]["2"]["outcomes"] == {"worth": {"n": 1, "y": 1.0, "yy": 1.0}}
