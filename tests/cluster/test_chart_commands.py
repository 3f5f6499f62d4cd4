"""What the chart starts does start: each container's command and environment are run here, and its probes asked.

Paths and ports are put where a test may write and listen; everything else is as rendered. No container and no read-only
root is around them: the node tier has those.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis_server
import yaml

from components import bundle as bundles
from manifests.generate import ROOT, documents, render
from serving.release.envoy.process import free_port
from serving.runtime.bundle import load as load_bundle
from serving.runtime.features.redis_reader import RedisReader
from tests.cluster.charts import EVERYTHING
from tests.cluster.tools.build import BUILD_S
from windlass import catalog
from windlass.contract import Workload
from windlass.features import asof
from windlass.settings import Settings

pytestmark = pytest.mark.timeout(2 * BUILD_S)

STARTS_S = 120.0
ENDS_S = 60.0


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first container of each Deployment and StatefulSet by its name, all of a CronJob in their order, and `store`,
    the feature server's file."""
    values = yaml.safe_load(EVERYTHING.read_text()) | {"objectStore": {}, "kubeflow": {"url": ""}}
    values["mlflow"] = {"url": "", "enabled": True}
    values["featureServer"] = {"enabled": True, "registry": "/var/lib/windlass/registry.db"}
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    found: dict[str, Any] = {}
    for key, document in documents(render(file)).items():
        if key.kind in ("Deployment", "StatefulSet"):
            found[key.name.removeprefix("windlass-")] = document["spec"]["template"]["spec"]["containers"][0]
        elif key.kind == "CronJob":
            spec = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            found[key.name.removeprefix("windlass-")] = [*spec.get("initContainers", ()), *spec["containers"]]
        elif (key.kind, key.name) == ("ConfigMap", "windlass-features"):
            found["store"] = document["data"]
    return found


def as_process(
    container: Mapping[str, Any], folder: Path, secrets: Mapping[str, str], ports: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The container's words and its environment, with paths under `folder` and the ports that `ports` names."""
    moved = {
        "/var/lib/windlass": str(folder),
        "/var/run/windlass": str(folder / "run"),
        "/etc/windlass": str(folder),
        **ports,
    }

    def here(text: str) -> str:
        for old, new in moved.items():
            text = text.replace(old, new)
        return text

    env = {
        e["name"]: here(e["value"]) if "value" in e else secrets.get(e["name"], "a")
        for e in container.get("env", ())
    }
    env |= {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    env |= {"WINDLASS_PROJECT": str(ROOT), "PYTHONPATH": str(ROOT)}
    words = [here(word) for word in (*container["command"], *container["args"])]
    words = [word.replace("$(REDIS_PASSWORD)", env.get("REDIS_PASSWORD", "")) for word in words]
    if words[0] == "redis-server":
        words[0] = redis_server.program()
    return words, env


@contextlib.contextmanager
def started(container: Mapping[str, Any], folder: Path, secrets: Mapping[str, str]) -> Iterator[int]:
    """The container's process; yields its port, and sees that SIGTERM ends it in order."""
    # none that the kernel gives to clients: a program may be half a minute on its way to it
    port = free_port()
    ports = {str(container["ports"][0]["containerPort"]): str(port)}
    words, env = as_process(container, folder, secrets, ports)
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(words, env=env, cwd=folder, stdout=output, stderr=output)
    try:
        ends = time.monotonic() + STARTS_S
        while not answers(container["readinessProbe"], port):
            assert process.poll() is None and time.monotonic() < ends, log.read_text()[-3000:]
            time.sleep(0.1)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_S) in (0, -signal.SIGTERM), log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def answers(probe: Mapping[str, Any], port: int) -> bool:
    """As the kubelet asks: with the pod's address for a host, not a name. Who does not listen yet does not answer."""
    if "tcpSocket" in probe:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 30):
            return True
        return False
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{probe['httpGet']['path']}", headers={"Host": f"10.244.0.7:{port}"}
    )
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a loopback address
        return bool(answer.status == 200)
    return False


def mounted(folder: Path) -> None:
    """Put what a pod has mounted under `folder`, and an account of a cluster that is not there."""
    secrets = folder / "run"
    for path, content in (("retrain/token", "secret"), ("privacy/key", "0123456789abcdef")):
        (secrets / path).parent.mkdir(parents=True)
        (secrets / path).write_text(content)
    # nobody is there: whoever asks the API server waits for it, and answers meanwhile
    cluster = {
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "current-context": "a",
    }
    cluster |= {
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}],
    }
    (folder / ".kube").mkdir()
    (folder / ".kube" / "config").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **cluster})
    )


@pytest.mark.parametrize("name", ["collector", "analysis-metrics", "retrain", "redis"])
def test_it_starts_answers_and_ends(containers: dict[str, Any], tmp_path: Path, name: str) -> None:
    """Verify that the arguments are understood and that the three probes ask what there is."""
    mounted(tmp_path)
    container = containers[name]
    with started(container, tmp_path, {"POD_NAMESPACE": "windlass"}) as port:
        for probe in ("startupProbe", "livenessProbe"):
            assert probe not in container or answers(container[probe], port)


@pytest.mark.slow
def test_a_persons_command_in_the_triggers_pod_reaches_it(containers: dict[str, Any], tmp_path: Path) -> None:
    """Verify that `kubectl exec … windlass retrain` is heard by the trigger that runs there, with nothing said of where
    it is, and trains nothing beside it."""
    mounted(tmp_path)
    container = containers["retrain"]
    with started(container, tmp_path, {"POD_NAMESPACE": "windlass"}) as port:
        ports = {str(container["ports"][0]["containerPort"]): str(port)}
        _, env = as_process(container, tmp_path, {}, ports)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "windlass",
                "retrain",
                "flights",
                "--give-up",
                "retrain-flights-0",
                "--json",
            ],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2, done
    said = json.loads(done.stdout)["error"]["message"]
    assert said.startswith(f"trigger http://127.0.0.1:{port}: ") and "is not open; open: none" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_registry_starts_and_knows_its_name(containers: dict[str, Any], tmp_path: Path) -> None:
    """Verify that MLflow takes requests for its Service's name, and none that name another host."""

    def asked(port: int, host: str) -> int:
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/search?max_results=1"
        request = urllib.request.Request(address, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a loopback address
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code

    with started(containers["mlflow"], tmp_path, {}) as port:
        # the list of hosts has the port as well, which is another one here
        for host in ("windlass-mlflow", "windlass-mlflow.windlass", f"windlass-mlflow.windlass.svc:{port}"):
            assert asked(port, host) == 200, host
        assert asked(port, "evil.example.com") == 403
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_the_feature_server_reads_the_redis_of_the_secret(containers: dict[str, Any], tmp_path: Path) -> None:
    """Verify that the address of the Secret becomes Feast's own form, and that the server comes up with it."""
    (tmp_path / "feature_store.yaml").write_text(
        containers["store"]["feature_store.yaml"].replace("/var/lib/windlass", str(tmp_path))
    )
    with (
        redis_server.running(tmp_path) as url,
        started(containers["features"], tmp_path, {"WINDLASS_REDIS_URL": url}),
    ):
        pass


@pytest.mark.slow
def test_features_are_kept_fresh_by_the_jobs_containers(containers: dict[str, Any], tmp_path: Path) -> None:
    """Verify that a run leaves offline rows in the collector's home, and in the online store what they say then, that
    the next one computes nothing anew and changes nothing, and that the collector shows when it was."""
    job = containers["materialize-flights"]
    home = Settings(home=tmp_path, project=ROOT)
    workload = catalog.load("flights", ROOT)
    until = datetime(2013, 4, 1, tzinfo=UTC)
    with redis_server.running(tmp_path) as url:
        built, filled = (_run(c, tmp_path, url) for c in job)
        assert (built["reused"], filled["until"]) == (False, until.isoformat())
        assert min(filled["rows"].values()) > 0
        asked = _keys(workload, until)
        names = [feature for view in workload.views for feature in view.features]
        known = asof.lookup(workload, home, asked)[names].to_numpy()
        # of most keys most is known
        assert np.isfinite(known).mean() > 0.7
        np.testing.assert_array_equal(_served(tmp_path, workload, url, asked, until), known)
        files = {p: p.stat().st_mtime_ns for p in home.offline_dir.rglob("*.parquet")}
        built, again = (_run(c, tmp_path, url) for c in job)
        assert built["reused"] is True and again["rows"] == filled["rows"]
        assert files == {p: p.stat().st_mtime_ns for p in home.offline_dir.rglob("*.parquet")}
        np.testing.assert_array_equal(_served(tmp_path, workload, url, asked, until), known)
    (tmp_path / "run" / "privacy").mkdir(parents=True)
    (tmp_path / "run" / "privacy" / "key").write_text("0123456789abcdef")
    with (
        started(containers["collector"], tmp_path, {}) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer,
    ):
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    assert float(lines['windlass_features_stale_after_seconds{model="flights"}']) == 3 * 3600
    ended = float(lines['windlass_features_materialized_timestamp_seconds{model="flights"}'])
    assert 0 <= time.time() - ended < 300


def _run(container: Mapping[str, Any], folder: Path, url: str) -> dict[str, Any]:
    """Let the container's process end, and return what it says."""
    words, env = as_process(container, folder, {"WINDLASS_REDIS_URL": url}, {})
    done = subprocess.run(
        words, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _keys(workload: Workload, at: datetime) -> pd.DataFrame:
    """Entities of flights of the day before, all asked for at one time."""
    flights = workload.prepare(workload.source.load(None))
    day = flights[(flights["event_timestamp"] < at) & (flights["event_timestamp"] > at - timedelta(days=1))]
    asked = day[list(workload.entities)].sample(200, random_state=0).reset_index(drop=True)
    asked["event_timestamp"] = pd.Timestamp(at).as_unit("us")
    return asked


def _served(
    folder: Path, workload: Workload, url: str, asked: pd.DataFrame, at: datetime
) -> np.ndarray[Any, Any]:
    """What a model server reads for these entities at that time."""
    model = folder / "bundle" / bundles.MODEL_FILE
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(b"no model is run here")
    document = bundles.manifest(
        workload, dict.fromkeys(workload.model_inputs), hashlib.sha256(model.read_bytes()).hexdigest()
    )
    (model.parent / bundles.MANIFEST).write_text(json.dumps({**document, "version": "1"}))
    reader = RedisReader(url, load_bundle(model.parent), budget_s=60.0)
    try:
        rows = asked[list(workload.entities)].astype(str).to_dict("records")
        return np.array([reader.read({str(k): v for k, v in keys.items()}, at.timestamp()) for keys in rows])
    finally:
        reader.close()
