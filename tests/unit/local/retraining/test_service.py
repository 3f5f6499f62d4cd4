"""The service as it is started: what it refuses, which workloads it watches, and where it finds Kubeflow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import planes
import pytest
from retrain_service import TOKEN, Served, alert, notification

from windlass.contract import RetrainPolicy
from windlass.errors import UsageError
from windlass.local.plane import token
from windlass.local.retraining.__main__ import address, main, workloads
from windlass.settings import Settings

POLICY = "kind: RetrainPolicy\nspec: {workload: tumours, cooldown: 1h}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param([], "nobody says who may send signals", id="no-token"),
        pytest.param(["--token-file", "/nowhere"], "token file /nowhere", id="no-file"),
        pytest.param(
            ["--insecure-no-auth", "--host", "0.0.0.0"],  # noqa: S104
            "could start retrainings",
            id="everybody-on-every-address",
        ),
    ],
)
def test_it_does_not_start_where_anybody_could_send(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.delenv("WINDLASS_RETRAIN_TOKEN_FILE", raising=False)
    assert main(["--port", "1", *words]) == 2
    assert said in capsys.readouterr().err


def test_kubeflow_is_found_by_settings(tmp_path: Path) -> None:
    assert address({}, tmp_path) is None
    found = address(
        {
            "WINDLASS_KFP_HOST": "http://ml-pipeline.kubeflow:8888/",
            "WINDLASS_KFP_NAMESPACE": "team-a",
            "WINDLASS_KFP_TOKEN_FILE": str(tmp_path / "token"),
            "WINDLASS_KFP_EXPERIMENT": "nightly",
        },
        tmp_path,
    )
    assert found is not None
    assert (found.host, found.namespace) == ("http://ml-pipeline.kubeflow:8888", "team-a")
    assert (found.token_file, found.experiment) == (tmp_path / "token", "nightly")
    with pytest.raises(UsageError, match="is no address"):
        address({"WINDLASS_KFP_HOST": "ml-pipeline"}, tmp_path)


def test_what_a_namespaces_pods_get_is_compiled_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("image: ours:1\nnodeSelector: {pool: training}\n")
    env = {"WINDLASS_KFP_HOST": "http://kfp", "WINDLASS_PIPELINE_CONFIG": str(config)}
    for image, expected in (("", "ours:1"), ("ours@sha256:0f", "ours@sha256:0f")):
        found = address({**env, "WINDLASS_PIPELINE_IMAGE": image}, tmp_path / "run")
        assert found is not None
        text = found.package.read_text()
        assert f"image: {expected}\n" in text and "pool: training" in text
    config.write_text("nodes: {}\n")
    with pytest.raises(UsageError, match=r"nodes = .*unknown field"):
        address(env, tmp_path / "run")


def test_a_policy_names_its_workload(tmp_path: Path) -> None:
    place = planes.make(tmp_path)
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(POLICY)
    two.write_text(POLICY)
    (found,) = workloads(place.settings, [planes.MODEL], [one])
    assert found.retrain.cooldown == timedelta(hours=1)
    assert {w.name for w in workloads(place.settings, [], [])} >= {"flights", planes.MODEL}
    broken = place.settings.project / "workloads" / "broken"
    broken.mkdir()
    (broken / "workload.py").write_text("WORKLOAD = 7\n")
    assert "broken" not in {w.name for w in workloads(place.settings, [], [])}
    with pytest.raises(UsageError, match="states no WORKLOAD"):
        workloads(place.settings, ["broken"], [])
    with pytest.raises(UsageError, match="has a policy already"):
        workloads(place.settings, [], [one, two])
    with pytest.raises(UsageError, match="unknown workload 'trains'"):
        workloads(place.settings, ["trains"], [])


def test_a_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, project=tmp_path)
    path = token(settings)
    made = path.read_text()
    assert len(made.strip()) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert token(settings).read_text() == made
    assert [p.name for p in path.parent.iterdir()] == ["retrain-token"]


@contextlib.contextmanager
def started(tmp_path: Path, place: planes.Place, words: list[str], **environment: str) -> Iterator[Served]:
    """The real process, until SIGTERM, which it has to obey in order."""
    served = Served(tmp_path, RetrainPolicy())
    command = [sys.executable, "-m", "windlass.local.retraining", planes.MODEL, "--port", str(served.port)]
    environment = {
        **place.environment, "WINDLASS_RETRAIN_TOKEN_FILE": str(tmp_path / "token"), **environment
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, *words], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + planes.WAIT_S
        while True:
            with contextlib.suppress(OSError):
                if served.ask("GET", "/ready")[0] == 200:
                    break
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
        yield served
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(planes.WAIT_S) == 0, (tmp_path / "log").read_text()


def drifted(**labels: str) -> bytes:
    told = notification(alert(datetime.now(UTC).isoformat(), model=planes.MODEL, version="1", **labels))
    return json.dumps(told).encode()


BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_it_takes_a_signal_and_ends_in_order(tmp_path: Path) -> None:
    """Verify the real process: a champion of the registry, a token, a signal that is held, and SIGTERM."""
    place = planes.make(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY.replace("cooldown: 1h", "signals: [predictionDrift]"))
    with started(tmp_path, place, ["--policy", str(tmp_path / "policy.yaml")]) as served:
        assert served.ask("POST", "/alertmanager", drifted())[0] == 401
        status, answer = served.ask("POST", "/alertmanager", drifted(), BEARER)
        (decided,) = json.loads(answer)["signals"]
        assert (status, decided["rule"], decided["cause"]) == (200, "kind", "featureDrift/1")
    assert TOKEN not in (tmp_path / "log").read_text()
    journaled = (place.settings.journal_dir / "triggers.jsonl").read_text()
    assert TOKEN not in journaled and '"rule":"kind"' in journaled


def test_on_a_cluster_it_is_the_trigger_of_one_namespace(tmp_path: Path) -> None:
    """Verify that the real process refuses the drift of another team's model of the same name, before it asks anybody,
    and does ask the cluster (which is not there) about its own."""
    place = planes.make(tmp_path)
    cluster = {"server": "http://127.0.0.1:9"}
    (tmp_path / "kubeconfig").write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "none", "cluster": cluster}],
                "users": [{"name": "none", "user": {}}],
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
                "current-context": "none",
            }
        )
    )
    pod = {"WINDLASS_NAMESPACE": "team-a", "KUBECONFIG": str(tmp_path / "kubeconfig")}
    with started(tmp_path, place, [], **pod) as served:
        status, answer = served.ask("POST", "/alertmanager", drifted(namespace="team-b"), BEARER)
        assert status == 400 and b"this is the trigger of namespace 'team-a'" in answer
        assert served.ask("POST", "/alertmanager", drifted(namespace="team-a"), BEARER)[0] == 503
    assert "featureDrift" not in (place.settings.journal_dir / "triggers.jsonl").read_text()


def test_in_a_notebooks_pod_it_is_this_machines_trigger(tmp_path: Path) -> None:
    """Verify that a namespace that every pod may be told makes no cluster: alerts of this machine name none."""
    place = planes.make(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY.replace("cooldown: 1h", "signals: [predictionDrift]"))
    with started(
        tmp_path, place, ["--policy", str(tmp_path / "policy.yaml")], POD_NAMESPACE="notebooks"
    ) as served:
        status, answer = served.ask("POST", "/alertmanager", drifted(), BEARER)
        assert status == 200, answer
