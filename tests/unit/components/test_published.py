"""Bundles in a real S3 store: whole or not taken, left alone where they are there, and what KServe fetches of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from components import bundle, cache, estimator, export, signing
from components.published import Published
from monitoring import bundles
from serving.release.cluster import serving_options
from serving.runtime.trust.verify import Policy, verify
from tests.support import s3_server
from windlass.errors import UsageError, WindlassError
from windlass.objectstore import bundle_prefix
from windlass.settings import Settings

BUCKET = "platform"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server.running() as address:
        yield address


@pytest.fixture
def settings(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    s3_server.make_bucket(endpoint, BUCKET, monkeypatch)
    return Settings(
        home=tmp_path / "home",
        project=tmp_path,
        object_store=f"s3://{BUCKET}/{tmp_path.name}",
        s3_endpoint=endpoint,
    )


@pytest.fixture
def client(endpoint: str, settings: Settings) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def made(settings: Settings, version: str, slope: float = 1.0) -> Path:
    """A version's signed bundle in the home."""
    source = settings.project / f"source-{version}-{slope}"
    source.mkdir()
    linear = estimator.LinearModel((0, 0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (slope, 2.0), (), 0.5)
    onnx.save(export.export(estimator.Fitted("linear", {}, linear), 2), source / "model.onnx")
    cache.write_json(source / "serving.json", {"format_version": 1, "model": "m", "model_file": "model.onnx"})
    (source / "code").mkdir()
    np.save(source / "code" / "table.npy", np.arange(4.0))
    return bundle.publish(settings.bundles_dir, "m", version, source, signing.keys(settings))


def put(settings: Settings, version: str, folder: Path) -> None:
    Published(settings).put("m", version, folder, signing.keys(settings).public)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fetched(client: Any, settings: Settings, uri: str, place: Path) -> Path:
    """What KServe 0.20's storage initializer makes of an address: every object whose key begins with its path."""
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    for item in client.list_objects_v2(Bucket=bucket, Prefix=path)["Contents"]:
        target = place / item["Key"].removeprefix(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, item["Key"], str(target))
    return place


def test_what_kserve_fetches_for_a_version_is_its_bundle_and_verifies(
    settings: Settings, client: Any, tmp_path: Path
) -> None:
    """Verify it where one version's number begins the other's, with the server's own reader."""
    made_of = {version: made(settings, version) for version in ("1", "12")}
    for version, folder in made_of.items():
        put(settings, version, folder)
    options = serving_options.parse({"storage": f"{settings.object_store}/models/{{model}}/{{version}}"})
    for version, folder in made_of.items():
        uri = options.storage_uri("m", version)
        assert uri == f"{settings.object_store}/{bundle_prefix('m', version)}"
        place = fetched(client, settings, uri, tmp_path / f"fetched-{version}")
        assert contents(place) == contents(folder)
        report = verify(place, Policy(signing.keys(settings).public, require_signature=True))
        assert report.signed and set(report.files) == {"serving.json", "model.onnx", "code/table.npy"}


def test_a_bundle_that_is_there_is_not_written_again(settings: Settings, client: Any) -> None:
    """Verify it by the bucket's own versions, also where it was signed anew: a server may be fetching it."""
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    folder = made(settings, "1")
    put(settings, "1", folder)
    signing.sign(folder, signing.keys(settings))
    put(settings, "1", folder)
    prefix = f"{settings.project.name}/{bundle_prefix('m', '1')}"
    assert len(client.list_object_versions(Bucket=BUCKET, Prefix=prefix)["Versions"]) == 4


def test_a_bundle_that_was_cut_short_is_refused_and_then_made_whole(
    settings: Settings, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify each moment at which a writer may die: what is there has no signature that holds until all is there."""
    first, second = made(settings, "1"), made(settings, "2", slope=3.0)
    put(settings, "1", first)
    store = Published(settings)._store
    uri = f"{settings.object_store}/{bundle_prefix('m', '1')}"
    store.write(f"{bundle_prefix('m', '1')}half-written.tmp", b"x")
    other = tmp_path / "other"
    shutil.copytree(second, other)  # another content of the same version, as of a run that trained anew
    left = 0
    for allowed in range(8):
        done = 0

        def counted(act: Any, allowed: int = allowed) -> Any:
            def acting(self: Any, *words: Any) -> Any:
                nonlocal done
                if done >= allowed:
                    raise KeyboardInterrupt
                done += 1
                return act(self, *words)

            return acting

        with monkeypatch.context() as patch:
            for name in ("upload", "remove"):
                patch.setattr(type(store), name, counted(getattr(type(store), name)))
            try:
                put(settings, "1", other)
                break
            except KeyboardInterrupt:
                left += 1
        place = fetched(client, settings, uri, tmp_path / f"after-{allowed}")
        with pytest.raises(UsageError):
            verify(place, Policy(signing.keys(settings).public, require_signature=True))
    # each attempt goes on from what the last one left
    assert left == 4
    assert contents(fetched(client, settings, uri, tmp_path / "whole")) == contents(other)


def test_who_judges_a_version_gets_its_bundle_whole(settings: Settings, tmp_path: Path) -> None:
    """Verify that another home has what was registered, once, and does not ask again."""
    folder = made(settings, "1")
    put(settings, "1", folder)
    there = Settings(
        tmp_path / "there", tmp_path, object_store=settings.object_store, s3_endpoint=settings.s3_endpoint
    )
    shutil.copytree(settings.home / "keys", there.home / "keys")
    assert contents(bundles.bring(there, "m", "1")) == contents(folder)
    nowhere = Settings(there.home, tmp_path, object_store="s3://gone", s3_endpoint="http://127.0.0.1:9")
    assert bundles.bring(nowhere, "m", "1") == there.bundles_dir / "m" / "1"
    alone = Settings(tmp_path / "alone", tmp_path)
    assert not bundles.bring(alone, "m", "1").exists()


def test_a_bundle_that_is_not_there_or_not_ours_is_not_taken(settings: Settings, tmp_path: Path) -> None:
    """Verify the reasons, and that nothing of it stays."""
    there = Settings(
        tmp_path / "there", tmp_path, object_store=settings.object_store, s3_endpoint=settings.s3_endpoint
    )
    put(settings, "1", made(settings, "1"))
    with pytest.raises(
        WindlassError, match=r"models/m/1/ is not taken: nobody says by which key.*windlass-verify-key"
    ):
        bundles.bring(there, "m", "1")
    nowhere = replace(there, s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(WindlassError, match="nobody says by which key"):
        bundles.bring(nowhere, "m", "1")  # that is known without asking a store
    signing.keys(there)  # a pair of its own, which signed nothing
    with pytest.raises(WindlassError, match=r"no bundle of version 7 of m at s3://.*`windlass fetch m 7`"):
        bundles.bring(there, "m", "7")
    with pytest.raises(WindlassError, match=r"models/m/1/ is not taken: .*'model.sig' names the key"):
        bundles.bring(there, "m", "1")
    shutil.copytree(settings.home / "keys", there.home / "keys", dirs_exist_ok=True)
    store = Published(settings)._store
    store.write(f"{bundle_prefix('m', '1')}model.onnx", b"another model")
    with pytest.raises(WindlassError, match=r"not taken: .*'model.onnx' has SHA-256 .* it was changed"):
        bundles.bring(there, "m", "1")
    put(settings, "2", made(settings, "2"))
    for name in contents(settings.bundles_dir / "m" / "2"):
        store.write(f"{bundle_prefix('m', '3')}{name}", store.read(f"{bundle_prefix('m', '2')}{name}"))
    with pytest.raises(WindlassError, match="holds the bundle of version '2' of 'm'"):
        bundles.bring(there, "m", "3")
    assert list((there.bundles_dir / "m").iterdir()) == []


def test_what_a_killed_process_left_is_swept(settings: Settings, tmp_path: Path) -> None:
    """Verify that folders go which nobody writes to any more, and no others."""
    put(settings, "1", made(settings, "1"))
    there = replace(settings, home=tmp_path / "there")
    shutil.copytree(settings.home / "keys", there.home / "keys")
    place = there.bundles_dir / "m"
    for name in (".1-abcd_123", ".2-abcdefgh", ".3-abcdefgh", ".snapshot", "4-abcdefgh"):
        (place / name / "folder").mkdir(parents=True)
        (place / name / "folder" / "model.onnx").write_bytes(b"half")
        old = time.time() - 2 * bundles.LEFT_S
        for path in (place / name / "folder" / "model.onnx", place / name / "folder", place / name):
            os.utime(path, (old, old))
    os.utime(place / ".3-abcdefgh" / "folder" / "model.onnx")
    bundles.bring(there, "m", "1")
    assert sorted(path.name for path in place.iterdir()) == [".3-abcdefgh", ".snapshot", "1", "4-abcdefgh"]


def test_without_credentials_it_says_which_secret_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Verify boto's own word, of a pod that has an address and no keys."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(
        WindlassError, match=r"Unable to locate credentials; .*Secret windlass-s3 of their namespace"
    ):
        Published(settings).reach("m")
