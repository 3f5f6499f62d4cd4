"""The registry in a real MLflow database: who is champion, what a version is, what survives a crash."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from components import bundle, cache, estimator, export
from components.published import Published
from components.registry import Registry, Submission
from tests.support import s3_server
from windlass.errors import UsageError, WindlassError
from windlass.objectstore import ObjectStore
from windlass.settings import Settings


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an empty database: making its tables takes seconds, so it is made once and copied."""
    home = tmp_path_factory.mktemp("registry")
    Registry(Settings(home=home, project=home))._client()
    return home


@pytest.fixture
def settings(empty: Path, tmp_path: Path) -> Iterator[Settings]:
    home = tmp_path / "home"
    shutil.copytree(empty, home)
    yield Settings(home=home, project=tmp_path)


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    folder = tmp_path / "bundle"
    folder.mkdir()
    linear = estimator.LinearModel((0, 0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (), 0.5)
    onnx.save(export.export(estimator.Fitted("linear", {}, linear), 2), folder / "model.onnx")
    cache.write_json(folder / "serving.json", {"format_version": 1, "model": "m", "model_file": "model.onnx"})
    cache.write_json(folder / "reference.json", {"inputs": {}})
    (tmp_path / "model.json").write_text("{}")
    return Submission(
        model="m",
        run_name="run-1",
        folder=folder,
        extra=(tmp_path / "model.json",),
        inputs=("a", "b"),
        example=(1.0, float("nan")),
        parameters={"C": "0.5"},
        metrics={"auc": 0.8},
        tags={"run": "run-1", "trained_from": "2024-01-01", "trained_to": "2024-02-01", "offline_auc": "0.8"},
    )


def another(submission: Submission, run: str) -> Submission:
    return replace(submission, run_name=run, tags={**submission.tags, "run": run})


def test_an_empty_registry_has_no_champion(tmp_path: Path) -> None:
    registry = Registry(Settings(home=tmp_path, project=tmp_path))
    assert registry.champion("m") is None
    assert registry.versions("m") == ()
    with pytest.raises(UsageError, match="model 'm' has no version '1'; it has: none"):
        registry.info("m", "1")


def test_a_version_is_registered_with_its_bundle_and_all_that_is_known(
    settings: Settings, submission: Submission
) -> None:
    info = Registry(settings).register(submission, state="champion", champion=True)
    assert (info.version, info.state, info.aliases, info.offline_auc) == ("1", "champion", ("champion",), 0.8)
    assert (info.trained_from, info.trained_to, info.run_id) == ("2024-01-01", "2024-02-01", "run-1")
    place = settings.bundles_dir / "m" / "1"
    assert json.loads((place / "serving.json").read_text())["version"] == "1"
    assert {p.name for p in place.iterdir()} == {"serving.json", "model.onnx", "reference.json", "model.sig"}
    assert [p.name for p in (settings.bundles_dir / "m").iterdir()] == ["1"]


def test_mlflow_itself_loads_and_describes_the_model(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    import mlflow

    model = mlflow.pyfunc.load_model("models:/m@champion")
    rows = np.array([[0.0, 0.0], [1.0, np.nan]], dtype=np.float32)
    assert model.predict(rows)["probability"] == pytest.approx(
        [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-1.5))]
    )
    assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 2)
    assert model.metadata.saved_input_example_info is not None
    version = registry._client().get_model_version("m", "1")
    run = registry._client().get_run(version.run_id)
    assert run.data.metrics == {"auc": 0.8}
    assert run.data.params == {"C": "0.5"}
    kept = {a.path for a in registry._client().list_artifacts(version.run_id, "windlass")}
    assert kept == {"windlass/bundles", "windlass/model.json"}
    published = {a.path for a in registry._client().list_artifacts(version.run_id, "windlass/bundles/1")}
    assert {p.rsplit("/", 1)[1] for p in published} == {
        "serving.json",
        "model.onnx",
        "reference.json",
        "model.sig",
    }


@pytest.mark.parametrize("before", [None, "sqlite:///somebody.db"], ids=["unset", "set"])
def test_what_a_process_starts_after_a_registration_is_told_of_no_server(
    settings: Settings, submission: Submission, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """Verify that mlflow leaves nothing in the environment: an operator would not start with a database for an
    address."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    for name in names:
        monkeypatch.setenv(name, str(before))
        if before is None:
            monkeypatch.delenv(name)
    Registry(settings).register(submission, state="candidate", champion=False)
    assert [os.environ.get(name) for name in names] == [before] * 2


def test_a_candidate_waits_until_it_is_made_champion(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    second = registry.register(another(submission, "run-2"), state="candidate", champion=False)
    assert second.aliases == ("candidate",)
    assert registry.champion("m") == "1"
    registry.set_champion("m", "2")
    # another process sees the same
    states = {v.version: (v.state, v.aliases) for v in Registry(settings).versions("m")}
    assert states == {"1": ("retired", ()), "2": ("champion", ("champion",))}


def test_a_rejected_version_is_registered_and_never_champion(
    settings: Settings, submission: Submission
) -> None:
    registry = Registry(settings)
    info = registry.register(submission, state="rejected", champion=False)
    assert (info.state, info.aliases) == ("rejected", ())
    assert registry.champion("m") is None


def test_one_run_registers_once_however_often_it_is_repeated(
    settings: Settings, submission: Submission
) -> None:
    registry = Registry(settings)
    first = registry.register(submission, state="candidate", champion=False)
    assert registry.register(submission, state="candidate", champion=False).version == first.version
    assert len(registry.versions("m")) == 1


def test_a_registration_cut_short_is_invisible_and_repaired(
    settings: Settings, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(settings)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.register(submission, state="champion", champion=True)
    assert Registry(settings).versions("m") == ()
    info = Registry(settings).register(submission, state="champion", champion=True)
    assert info.version == "1"
    assert Registry(settings).champion("m") == "1"


def test_a_change_by_another_client_is_seen(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    registry.register(another(submission, "run-2"), state="candidate", champion=False)
    reader = Registry(settings)
    assert reader.champion("m") == "1"
    assert reader._client_ is None, "an unchanged registry is answered without importing mlflow"
    registry._client().set_registered_model_alias("m", "champion", "2")
    assert Registry(settings).champion("m") == "2"


def test_a_database_put_back_under_a_running_process_is_the_one_that_is_read(
    settings: Settings, submission: Submission, tmp_path: Path
) -> None:
    """Verify what a restore does, and each drill: the file at the path is another one, and it counts."""
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    kept = tmp_path / "kept"
    shutil.copytree(settings.registry_dir, kept)
    second = registry.register(another(submission, "run-2"), state="champion", champion=True)
    assert registry.champion("m") == second.version
    shutil.rmtree(settings.registry_dir)
    shutil.copytree(kept, settings.registry_dir)
    (settings.registry_dir / "snapshot.json").unlink()
    assert Registry(settings).champion("m") == "1"
    assert [v.version for v in registry.versions("m")] == ["1"]


def test_a_damaged_snapshot_is_made_again(settings: Settings, submission: Submission) -> None:
    Registry(settings).register(submission, state="champion", champion=True)
    (settings.registry_dir / "snapshot.json").write_text('{"stamp": [')
    assert Registry(settings).champion("m") == "1"


def test_a_copy_is_a_new_version_of_the_same_artifacts(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    copied = registry.copy("m", "1", {"note": "again"})
    info = registry.info("m", copied)
    assert (copied, info.state, info.tags["copied_from"], info.tags["note"]) == (
        "2",
        "candidate",
        "1",
        "again",
    )
    first, second = (settings.bundles_dir / "m" / v for v in ("1", "2"))
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
    assert json.loads((second / "serving.json").read_text())["version"] == "2"
    assert registry.champion("m") == "1"


def test_a_lost_bundle_comes_back_from_the_registry(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    copied = registry.copy("m", "1", {})
    places = [settings.bundles_dir / "m" / v for v in ("1", copied)]
    before = [{p.name: p.read_bytes() for p in place.iterdir()} for place in places]
    shutil.rmtree(settings.bundles_dir)
    for version, place, content in zip(("1", copied), places, before, strict=True):
        assert registry.fetch_bundle("m", version) == place
        assert {p.name: p.read_bytes() for p in place.iterdir()} == content


def test_a_bundle_changed_in_the_registry_does_not_come_back(
    settings: Settings, submission: Submission
) -> None:
    """Verify that who may write to the artifacts cannot have a bundle of theirs served, or signed by us."""
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    shutil.rmtree(settings.bundles_dir)
    (kept,) = (settings.registry_dir / "artifacts").rglob("bundles/1/model.onnx")
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(UsageError, match=r"model 'm' version '1' .* does not hold .* for 'model\.onnx'"):
        registry.fetch_bundle("m", "1")
    assert list((settings.bundles_dir / "m").iterdir()) == []


def test_versions_are_found_by_their_content(settings: Settings, submission: Submission) -> None:
    registry = Registry(settings)
    tagged = replace(submission, tags={**submission.tags, "content": "abc"})
    registry.register(tagged, state="candidate", champion=False)
    registry.copy("m", "1", {})
    found = registry.by_content("m", "abc")
    assert found is not None and found.version == "1"
    assert registry.by_content("m", "other") is None


def test_a_database_half_made_by_a_killed_process_is_not_taken_for_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    leftover = home / "registry" / ".making-dead"
    leftover.mkdir(parents=True)
    sqlite3.connect(leftover / "mlflow.db").execute("create table half (x)")
    assert Registry(Settings(home=home, project=home)).champion("m") is None


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server.running() as address:
        yield address


@pytest.fixture
def stored(empty: Path, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with an object store."""
    # set first, so that what mlflow is told of this server ends with the test
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", endpoint)
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL")
    s3_server.make_bucket(endpoint, "registered", monkeypatch)
    home = tmp_path / "s3-home"
    shutil.copytree(empty, home)
    where = f"s3://registered/{tmp_path.name}"
    return Settings(home=home, project=tmp_path, object_store=where, s3_endpoint=endpoint)


def keys_of(settings: Settings) -> list[str]:
    return list(ObjectStore(settings).keys())


def test_artifacts_and_bundles_lie_in_the_object_store_where_one_is_set(
    stored: Settings, submission: Submission
) -> None:
    registry = Registry(stored)
    registry.register(submission, state="champion", champion=True)
    names = {"model.onnx", "serving.json", "reference.json", "model.sig"}
    assert {k for k in keys_of(stored) if k.startswith("models/")} == {f"models/m/1/{n}" for n in names}
    assert names <= {k.rsplit("/", 1)[1] for k in keys_of(stored) if k.startswith("registry/")}
    assert not (stored.registry_dir / "artifacts").exists()
    before = (stored.bundles_dir / "m" / "1" / "model.onnx").read_bytes()
    shutil.rmtree(stored.bundles_dir)
    assert (registry.fetch_bundle("m", "1") / "model.onnx").read_bytes() == before
    copied = registry.copy("m", "1", {"why": "once more"})
    assert json.loads(ObjectStore(stored).read(f"models/m/{copied}/serving.json"))["version"] == copied


def test_a_version_of_which_the_store_has_no_bundle_is_not_seen(
    stored: Settings, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify an upload that fails after the version was made, and that the same run makes it whole under its number."""
    import boto3

    bucket = boto3.resource("s3", endpoint_url=stored.s3_endpoint).Bucket("registered")
    put = Published.put

    def without_bucket(self: Published, *words: Any) -> None:
        bucket.objects.all().delete()
        bucket.delete()
        put(self, *words)

    registry = Registry(stored)
    with monkeypatch.context() as patch:
        patch.setattr(Published, "put", without_bucket)
        with pytest.raises(
            WindlassError, match=r"s3://registered/.*/models/m/1/.*NoSuchBucket.*create the bucket"
        ):
            registry.register(submission, state="candidate", champion=False)
    assert registry.versions("m") == ()
    bucket.create()
    assert registry.register(submission, state="candidate", champion=False).version == "1"
    assert [v.version for v in registry.versions("m")] == ["1"]
    assert "models/m/1/model.sig" in keys_of(stored)


def test_a_store_that_cannot_be_written_is_found_before_a_version_is_made(
    stored: Settings, submission: Submission
) -> None:
    registry = Registry(replace(stored, object_store="s3://nobody-made-it/x"))
    with pytest.raises(WindlassError, match=r"NoSuchBucket.*create the bucket, or name another"):
        registry.register(submission, state="candidate", champion=False)
    assert registry._client().search_registered_models() == []


def test_a_bundle_is_placed_where_model_servers_load_it(stored: Settings, submission: Submission) -> None:
    """Verify it for a version whose run put it into the registry alone, as pods without the store's address do."""
    registry = Registry(stored)
    registry.register(submission, state="candidate", champion=False)
    store = ObjectStore(stored)
    for key in [k for k in keys_of(stored) if k.startswith("models/")]:
        store.remove(key)
    shutil.rmtree(stored.bundles_dir)
    folder = registry.place("m", "1")
    assert folder == stored.bundles_dir / "m" / "1" and (folder / "model.sig").is_file()
    assert {k for k in keys_of(stored) if k.startswith("models/")} == {
        f"models/m/1/{p.name}" for p in folder.iterdir()
    }


def test_two_that_fetch_one_bundle_both_have_it(
    settings: Settings, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify a second process that is quicker, and a folder that nobody can write to."""
    registry = Registry(settings)
    registry.register(submission, state="candidate", champion=False)
    shutil.rmtree(settings.bundles_dir)
    restore = bundle.restore

    def slower(*words: Any) -> Path:
        with monkeypatch.context() as patch:
            # the other one has just looked, too, and found nothing
            patch.setattr(Path, "exists", lambda self: False)
            restore(*words)
            return restore(*words)

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "restore", slower)
        place = registry.fetch_bundle("m", "1")
    assert place.parent.is_dir() and [p.name for p in place.parent.iterdir()] == ["1"]
    shutil.rmtree(settings.bundles_dir)
    settings.bundles_dir.write_text("no folder")
    with pytest.raises(WindlassError, match=r"version 1 of model 'm' cannot be written to .*models/m/1: "):
        registry.fetch_bundle("m", "1")


def test_who_holds_the_alias_is_the_champion_whoever_moved_it(
    settings: Settings, submission: Submission
) -> None:
    """Verify what a cluster's operator leaves behind, which moves the alias and no tag of ours."""
    registry = Registry(settings)
    registry.register(submission, state="champion", champion=True)
    registry.register(another(submission, "run-2"), state="candidate", champion=False)
    registry._client().set_registered_model_alias("m", "champion", "2")
    states = {v.version: v.state for v in Registry(settings).versions("m")}
    assert states == {"1": "retired", "2": "champion"}


def test_a_champion_of_somebody_else_s_is_no_empty_place(settings: Settings, submission: Submission) -> None:
    """Verify that a version that was registered by hand is not replaced by the next one that passes its gates."""
    registry = Registry(settings)
    registry.register(submission, state="candidate", champion=False)
    client = registry._client()
    client.create_model_version("m", source=str(submission.folder))
    client.set_registered_model_alias("m", "champion", "2")
    assert Registry(settings).champion("m") == "2"
    with pytest.raises(WindlassError, match=r"bundle of version 2 of model 'm'.*move the alias champion"):
        Registry(settings).fetch_bundle("m", "2")


def test_a_run_that_registers_again_undoes_nothing(settings: Settings, submission: Submission) -> None:
    """Verify a step that its cluster starts a second time, after what it registered was released."""
    registry = Registry(settings)
    registry.register(submission, state="candidate", champion=False)
    registry.set_champion("m", "1")
    assert registry.register(submission, state="candidate", champion=False).aliases == ("champion",)
    registry.register(another(submission, "run-2"), state="candidate", champion=False)
    registry.set_champion("m", "2")
    registry.set_state("m", "1", "rolled_back")
    assert registry.register(submission, state="candidate", champion=False).state == "rolled_back"
