"""The registry on an MLflow server, as the chart runs it: what one machine registers another one finds whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from components import cache, estimator, export, signing
from components.registry import Registry, Submission
from tests.support import ports
from windlass import telemetry
from windlass.errors import UsageError, WindlassError
from windlass.operator.champions import Alias
from windlass.settings import Settings

WAIT_S = 240.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    # it is many seconds until MLflow asks for it
    held = ports.hold()
    port = held.getsockname()[1]
    # helm/windlass/templates/mlflow says the same
    words = [
        "--host=127.0.0.1",
        f"--port={port}",
        "--workers=1",
        f"--artifacts-destination={folder / 'artifacts'}",
    ]
    environment = {
        **os.environ,
        **telemetry.SWITCHES,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words, "--serve-artifacts"],
            env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[
                    -2000:
                ]
                time.sleep(0.2)
        held.close()
        yield f"http://127.0.0.1:{port}"
    finally:
        held.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def submission(folder: Path, run: str) -> Submission:
    folder.mkdir()
    linear = estimator.LinearModel((0, 0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (), 0.5)
    onnx.save(export.export(estimator.Fitted("linear", {}, linear), 2), folder / "model.onnx")
    cache.write_json(folder / "serving.json", {"format_version": 1, "model": "m", "model_file": "model.onnx"})
    cache.write_json(folder / "reference.json", {"inputs": {}})
    return Submission(
        model="m",
        run_name=run,
        folder=folder,
        extra=(),
        inputs=("a", "b"),
        example=(1.0, float(np.float32(0.5))),
        parameters={},
        metrics={"auc": 0.8},
        tags={"run": run, "trained_from": "2024-01-01", "trained_to": "2024-02-01", "offline_auc": "0.8"},
    )


@pytest.mark.slow
def test_one_machine_registers_and_another_serves(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    here = Settings(home=tmp_path / "here", project=tmp_path)
    there = Settings(home=tmp_path / "there", project=tmp_path)
    first = Registry(here).register(submission(tmp_path / "one", "run-1"), state="champion", champion=True)
    second = Registry(here).register(submission(tmp_path / "two", "run-2"), state="candidate", champion=False)
    assert Registry(there).champion("m") == first.version
    # both check bundles by one key, as a cluster does
    (there.home / "keys").mkdir(parents=True)
    pair = signing.keys(here)
    for path in (pair.public, pair.private):
        assert path is not None
        (there.home / "keys" / path.name).write_bytes(path.read_bytes())
    assert Registry(there).has_bundle("m", second.version)
    place = Registry(there).fetch_bundle("m", second.version)
    assert {p.name for p in place.iterdir()} == {"serving.json", "model.onnx", "reference.json", "model.sig"}
    assert (place / "model.onnx").read_bytes() == (
        here.bundles_dir / "m" / second.version / "model.onnx"
    ).read_bytes()
    assert not here.registry_dir.joinpath("artifacts").exists(), (
        "the server keeps artifacts, and nobody's folder"
    )
    copied = Registry(there).copy("m", first.version, {"why": "once more"})
    assert (there.bundles_dir / "m" / copied / "model.sig").is_file()
    # another client of the registry makes versions that have no bundle
    source = Registry(there)._client().get_model_version("m", first.version)
    stranger = (
        Registry(there)
        ._client()
        .create_model_version(
            "m", source=source.source, run_id=source.run_id, model_id=source.source.removeprefix("models:/")
        )
    )
    assert not Registry(there).has_bundle("m", str(stranger.version))
    with pytest.raises(
        WindlassError, match=r"does not say whether it has the bundle of version 99 of model 'm'"
    ):
        Registry(there).has_bundle("m", "99")
    Registry(there).set_champion("m", second.version)
    versions = {v.version: v for v in Registry(here).versions("m")}
    assert versions[second.version].aliases == ("champion",)
    assert versions[first.version].state == "retired"
    Alias(server).require("m", second.version)
    for unknown in ("99", "v2"):
        with pytest.raises(UsageError, match=f"knows no version {unknown} of model m"):
            Alias(server).require("m", unknown)
