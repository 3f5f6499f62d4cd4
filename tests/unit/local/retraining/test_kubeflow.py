"""A retraining on Kubeflow ends, for us, where its version's bundle is where model servers load it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import kfp_server
import numpy as np
import onnx
import planes
import pytest
import s3_server
from kfp_server import KfpServer

from components import cache, estimator, export
from components.registry import Registry, Submission
from monitoring.retrain import journal
from monitoring.retrain.following import follow
from monitoring.retrain.signals import Signal
from pipelines.submit_kfp import Address, KfpRuns
from serving.release.journal import mailbox
from windlass import catalog
from windlass.cli import app
from windlass.errors import WindlassError
from windlass.local.retraining.surroundings import OnKubeflow, Surroundings
from windlass.objectstore import ObjectStore
from windlass.settings import Settings

NOW = datetime(2013, 3, 1, tzinfo=UTC)
NAMES = {"serving.json", "model.onnx", "reference.json", "model.sig"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with kfp_server.running() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "workloads" / planes.MODEL
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text(planes.WORKLOAD)
    return Settings(home=tmp_path / "home", project=tmp_path)


def submission(folder: Path, run: str, **tags: str) -> Submission:
    folder.mkdir()
    linear = estimator.LinearModel((0, 0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (), 0.5)
    onnx.save(export.export(estimator.Fitted("linear", {}, linear), 2), folder / "model.onnx")
    document = {"format_version": 1, "model": planes.MODEL, "model_file": "model.onnx"}
    cache.write_json(folder / "serving.json", document)
    cache.write_json(folder / "reference.json", {"inputs": {}})
    return Submission(
        model=planes.MODEL,
        run_name=run,
        folder=folder,
        extra=(),
        inputs=("a", "b"),
        example=(1.0, float(np.float32(0.5))),
        parameters={},
        metrics={"auc": 0.8},
        tags={
            "run": run,
            "trained_from": "2013-01-01",
            "trained_to": "2013-02-01",
            "offline_auc": "0.8",
            **tags,
        },
    )


@pytest.mark.slow
def test_a_release_waits_for_the_bundle_and_finds_it(
    settings: Settings, server: KfpServer, tmp_path: Path
) -> None:
    """Verify it where the registry's artifacts cannot be read for a while: nothing is journaled, and nothing lost."""
    workload = catalog.load(planes.MODEL, settings.project)
    plan = {
        "strategy": {"type": "canary", "steps": [{"weight": 50}]},
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 0.01}
        ],
    }
    workload = replace(workload, release=plan)
    said: list[str] = []
    kubeflow = OnKubeflow(settings, workload, KfpRuns(Address(server.url)), said.append)
    around = Surroundings(settings, workload, kubeflow)
    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(settings), around.submit)
    registry = Registry(settings)
    registry.register(submission(tmp_path / "one", "first"), state="champion", champion=True)
    assert trigger.offer(Signal("manual", "m", NOW), NOW, live_release=False).accepted
    (run,) = server.runs
    (past,) = trigger.history()
    # what the run's pods do, which write the registry and not this home
    made = submission(tmp_path / "two", past.id, compared_with="1")
    registry.register(made, state="candidate", champion=False)
    shutil.rmtree(settings.bundles_dir)
    run |= {"state": "SUCCEEDED", "finished_at": "2026-01-01T00:10:00Z"}
    artifacts = settings.registry_dir / "artifacts"
    away = artifacts.rename(artifacts.with_name("away"))
    for _ in range(2):
        with pytest.raises(WindlassError, match=r"bundle of version 2 of model 'tumours' cannot be fetched"):
            follow(trigger, around, NOW)
        (past,) = trigger.history()
        assert not past.finished and not list(mailbox.submissions(mailbox.inbox(settings)))
    away.rename(artifacts)
    follow(trigger, around, NOW)
    (past,) = trigger.history()
    assert past.finished and past.version == "2"
    for version in ("1", "2"):  # the champion's servers are begun as well
        assert {p.name for p in (settings.bundles_dir / planes.MODEL / version).iterdir()} == NAMES
    assert said == []
    ((_, letter),) = mailbox.submissions(mailbox.inbox(settings))
    assert letter.candidates == ("2",)


@pytest.mark.slow
def test_a_champion_from_before_the_object_store_comes_there_with_its_candidate(
    settings: Settings, server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify an upgrade that moves bundles, and that one which the registry has not is named and waited for by none."""
    workload = catalog.load(planes.MODEL, settings.project)
    registry = Registry(settings)
    registry.register(submission(tmp_path / "one", "first"), state="champion", champion=True)
    runs = KfpRuns(Address(server.url))
    with s3_server.running() as endpoint:
        s3_server.make_bucket(endpoint, "moved", monkeypatch)
        stored = replace(settings, object_store="s3://moved/data", s3_endpoint=endpoint)
        said: list[str] = []
        kubeflow = OnKubeflow(stored, workload, runs, said.append)
        kubeflow.submit("r-1", Signal("manual", "m", NOW))
        (run,) = server.runs
        run |= {"state": "SUCCEEDED", "finished_at": "2026-01-01T00:10:00Z"}
        made = submission(tmp_path / "two", "r-1", compared_with="1")
        registry.register(made, state="candidate", champion=False)
        store = ObjectStore(stored)

        def there(version: str) -> set[str]:
            return {k.rpartition("/")[2] for k in store.keys(f"models/{planes.MODEL}/{version}/")}

        assert not there("1") and not there("2")
        ended = kubeflow.run("r-1")
        assert ended is not None and ended.result is not None and ended.result["version"] == "2"
        assert there("1") == there("2") == NAMES and said == []

        for name in NAMES:
            store.remove(f"models/{planes.MODEL}/1/{name}")
        shutil.rmtree(settings.bundles_dir / planes.MODEL / "1")
        (kept,) = (settings.registry_dir / "artifacts").rglob("bundles/1")
        away = kept.rename(tmp_path / "away")
        ended = kubeflow.run("r-1")
        assert ended is not None and ended.result is not None and ended.result["passed"]
        (sentence,) = said
        assert (
            "no bundle of version 1, the champion" in sentence
            and "s3://moved/data/models/tumours/1/" in sentence
        )
        # one that does not hold is no reason to go on: its servers would refuse it
        away.rename(kept)
        (kept / "model.onnx").write_bytes(b"another model")
        with pytest.raises(WindlassError, match=r"signature of model 'tumours' version '1' .* does not hold"):
            kubeflow.run("r-1")
        assert there("1") == set()


@pytest.mark.slow
def test_a_trigger_without_the_key_says_which_object_it_misses(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that it makes no pair of its own, by which every bundle would be a stranger's."""
    Registry(settings).register(submission(tmp_path / "one", "first"), state="champion", champion=True)
    shutil.rmtree(settings.bundles_dir)
    keys = settings.home / "keys"
    away = keys.rename(tmp_path / "keys")
    for _ in range(2):
        with pytest.raises(WindlassError, match=r"nobody says by which key .* ConfigMap windlass-verify-key"):
            Registry(settings).place(planes.MODEL, "1")
        assert not keys.exists() and not list(settings.bundles_dir.rglob("model.onnx"))
    monkeypatch.setenv("WINDLASS_VERIFY_KEY", str(tmp_path / "gone.pem"))
    with pytest.raises(
        WindlassError, match=r"gone\.pem is missing; .* name another file in WINDLASS_VERIFY_KEY"
    ):
        Registry(settings).place(planes.MODEL, "1")
    monkeypatch.setenv("WINDLASS_VERIFY_KEY", str(away / "verify.pem"))
    assert {p.name for p in Registry(settings).place(planes.MODEL, "1").iterdir()} == NAMES


@pytest.mark.slow
def test_a_person_brings_a_version_by_a_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify both places, that it may be repeated, and what is said where there is nothing to bring."""
    Registry(settings).register(submission(tmp_path / "one", "first"), state="champion", champion=True)
    shutil.rmtree(settings.bundles_dir)
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    here = settings.bundles_dir / planes.MODEL / "1"
    assert app.run(["fetch", planes.MODEL]) == 0
    assert capsys.readouterr().out == f"{here}\n" and {p.name for p in here.iterdir()} == NAMES
    with s3_server.running() as endpoint:
        s3_server.make_bucket(endpoint, "fetched", monkeypatch)
        monkeypatch.setenv("WINDLASS_OBJECT_STORE", "s3://fetched/team")
        monkeypatch.setenv("WINDLASS_S3_ENDPOINT", endpoint)
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", endpoint)
        for _ in range(2):
            assert app.run(["fetch", planes.MODEL, "1", "--json"]) == 0
            # the store says that it starts
            places = json.loads(capsys.readouterr().out.splitlines()[-1])["places"]
            assert places == [str(here), "s3://fetched/team/models/tumours/1/"]
        stored = replace(settings, object_store="s3://fetched/team", s3_endpoint=endpoint)
        assert {k.rpartition("/")[2] for k in ObjectStore(stored).keys("models/tumours/1/")} == NAMES
    assert app.run(["fetch", planes.MODEL, "9"]) == 2
    assert "has no version '9'; it has: 1" in capsys.readouterr().err
    assert app.run(["fetch", "nothing"]) == 2
    assert "'nothing' has no champion; name a version" in capsys.readouterr().err
