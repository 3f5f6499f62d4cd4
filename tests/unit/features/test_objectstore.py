"""Files on S3, against a real S3 server's protocol (moto's) on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import s3_server

from windlass.errors import UsageError, WindlassError
from windlass.features import offline, partitions
from windlass.features import store as feature_store
from windlass.objectstore import ObjectStore
from windlass.settings import Settings


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server.running() as address:
        yield address


@pytest.fixture
def remote(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose object store is an empty prefix of a bucket."""
    s3_server.make_bucket(endpoint, "windlass-test", monkeypatch)
    return Settings(
        home=tmp_path / "home",
        project=tmp_path,
        object_store=f"s3://windlass-test/{tmp_path.name}",
        s3_endpoint=endpoint,
    )


def test_a_file_comes_back_as_it_went(remote: Settings, tmp_path: Path) -> None:
    """Verify upload, existence, listing, reading and download."""
    store = ObjectStore(remote)
    path = tmp_path / "rows.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    assert not store.exists("a/rows.bin")
    store.upload(path, "a/rows.bin")
    assert store.exists("a/rows.bin")
    assert list(store.keys()) == ["a/rows.bin"]
    store.download("a/rows.bin", tmp_path / "again" / "rows.bin")
    assert (tmp_path / "again" / "rows.bin").read_bytes() == store.read("a/rows.bin") == path.read_bytes()


def test_folders_are_brought_in_step(remote: Settings, tmp_path: Path) -> None:
    """Verify that only what differs is sent, in both directions."""
    store = ObjectStore(remote)
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "deep").mkdir(parents=True)
    (here / "one").write_text("1")
    (here / "deep" / "two").write_text("22")
    assert store.sync_up(here, "logs") == 2
    assert store.sync_up(here, "logs") == 0
    (here / "one").write_text("longer")
    assert store.sync_up(here, "logs") == 1
    assert store.sync_down("logs", there) == 2
    assert store.sync_down("logs", there) == 0
    assert (there / "deep" / "two").read_text() == "22"
    assert (there / "one").read_text() == "longer"


def test_a_fresh_machine_fetches_what_another_published(
    built: object, remote: Settings, tmp_path: Path
) -> None:
    """Verify that the partitions travel by content hash, byte for byte."""
    mine = replace(remote, home=tmp_path / "mine")
    said: list[str] = []
    first = offline.build(built.workload, mine, data=built.data, progress=said.append)
    assert not first.reused
    assert any("published" in line for line in said)

    fresh = replace(remote, home=tmp_path / "fresh")
    second = offline.build(built.workload, fresh, data=built.data, progress=said.append)
    assert (second.reused, second.content_hash, dict(second.rows)) == (
        True,
        first.content_hash,
        dict(first.rows),
    )
    assert "fetched" in said[-1]
    for view in built.workload.views:
        names = {p.name: p.read_bytes() for p in partitions.folder(mine, view.name).iterdir()}
        assert names == {p.name: p.read_bytes() for p in partitions.folder(fresh, view.name).iterdir()}


def test_a_published_file_that_was_changed_is_refused(
    built: object, remote: Settings, tmp_path: Path
) -> None:
    """Verify that a partition is checked against the hash in its manifest before anything trusts it."""
    mine = replace(remote, home=tmp_path / "mine")
    content_hash = offline.build(built.workload, mine, data=built.data).content_hash
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    ObjectStore(remote).upload(other, f"features/flights/{content_hash}/tail_turn/2013-02.parquet")
    fresh = replace(remote, home=tmp_path / "fresh")
    with pytest.raises(WindlassError, match="SHA-256 differs") as caught:
        offline.build(built.workload, fresh, data=built.data)
    assert "tail_turn/2013-02.parquet" in str(caught.value)
    assert not (fresh.offline_dir / "flights.json").exists()


def test_what_the_bucket_no_longer_has_is_computed(built: object, remote: Settings, tmp_path: Path) -> None:
    """Verify that rows which a rule of the bucket is deleting cost a computation and no failure."""
    mine = replace(remote, home=tmp_path / "mine")
    content_hash = offline.build(built.workload, mine, data=built.data).content_hash
    ObjectStore(remote).remove(f"features/flights/{content_hash}/tail_turn/2013-02.parquet")
    said: list[str] = []
    fresh = replace(remote, home=tmp_path / "fresh")
    again = offline.build(built.workload, fresh, data=built.data, progress=said.append)
    assert (again.content_hash, again.reused) == (content_hash, False)
    assert "no longer whole: 1 of its partitions" in said[0]
    for view in built.workload.views:
        names = {p.name: p.read_bytes() for p in partitions.folder(mine, view.name).iterdir()}
        assert names == {p.name: p.read_bytes() for p in partitions.folder(fresh, view.name).iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"object_store": "s3://no-such-bucket/x"}, "no-such-bucket.*create the bucket", id="no-bucket"
        ),
        pytest.param(
            {"s3_endpoint": "http://127.0.0.1:9"},
            "check that WINDLASS_S3_ENDPOINT answers",
            id="nobody",
        ),
    ],
)
def test_a_failure_names_address_and_remedy(
    remote: Settings, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    """Verify what a person reads when the store cannot be reached, and that no file is left behind."""
    store = ObjectStore(replace(remote, **change))
    path = tmp_path / "rows.bin"
    path.write_bytes(b"x")
    with pytest.raises(WindlassError, match=message):
        store.upload(path, "a")
    with pytest.raises(WindlassError, match="cannot download s3://"):
        store.download("a", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_without_credentials_the_error_says_which_variables(
    remote: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify the commonest mistake of all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(WindlassError, match="AWS_ACCESS_KEY_ID"):
        ObjectStore(remote).exists("a")


@pytest.mark.parametrize("address", [None, "s3://", "s3:///prefix"])
def test_an_address_without_a_bucket_is_a_usage_error(remote: Settings, address: str | None) -> None:
    """Verify that such settings are refused before anything is sent."""
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        ObjectStore(replace(remote, object_store=address))


def test_a_feature_server_reads_the_registry_that_a_job_published(
    built: object, remote: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify, by Feast's own reader of registries on S3, that the published one knows every view and service."""
    from feast.infra.registry.registry import Registry
    from feast.repo_config import RegistryConfig

    settings = replace(built.settings, home=remote.home, object_store=None, s3_endpoint=remote.s3_endpoint)
    feature_store.open_store(settings)
    address = f"{remote.object_store}/shared/registry.db"
    feature_store.publish_registry(settings, address)
    monkeypatch.setenv("FEAST_S3_ENDPOINT_URL", str(remote.s3_endpoint))
    there = Registry("windlass", RegistryConfig(path=address), None)
    assert {view.name for view in built.workload.views} <= {
        v.name for v in there.list_feature_views("windlass")
    }
    assert built.workload.feature_service in {s.name for s in there.list_feature_services("windlass")}


@pytest.mark.parametrize(
    "address", ["registry.db", "s3://registry.db", "s3://bucket/prefix/", "gs://bucket/a"]
)
def test_a_registry_has_an_address_of_an_object(built: object, address: str) -> None:
    with pytest.raises(UsageError, match=r"use s3://bucket/prefix/registry\.db"):
        feature_store.publish_registry(built.settings, address)
