"""`windlass pipeline submit` and `schedule`: what is asked of Kubeflow Pipelines, said on stdout, and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server
import pytest
import yaml
from kfp_server import KfpServer

from windlass.cli import app


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, project: Path) -> Iterator[KfpServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WINDLASS_PROJECT", str(project))
    for name in ("HOST", "NAMESPACE", "TOKEN_FILE", "SERVICE_ACCOUNT"):
        monkeypatch.delenv(f"WINDLASS_KFP_{name}", raising=False)
    with kfp_server.running() as made:
        yield made


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints with --json."""
    assert app.run(["pipeline", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_is_named_by_the_day_and_submitted_once(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("submit", "flights", "--from", "2013-01-01", "--to", "2013-06-30", "--host", server.url)
    first = said(capsys, *words)
    assert (first["id"], first["found"]) == ("r1", False)
    again = said(capsys, *words)
    assert again == {**first, "found": True} and len(server.runs) == 1
    (run,) = server.runs
    assert run["display_name"] == first["run"] and first["run"].startswith("flights-20")
    assert run["runtime_config"]["parameters"] == {
        "workload": "flights", "start": "2013-01-01", "end": "2013-06-30", "run_id": first["run"],
    }  # fmt: skip
    assert server.experiments[0]["display_name"] == "windlass-flights"


def test_what_is_left_out_is_left_to_the_run(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    said(
        capsys,
        "submit",
        "flights",
        "--name",
        "n",
        "--data-version",
        "3f2a",
        "--trials",
        "9",
        "--host",
        server.url,
    )
    parameters = server.runs[0]["runtime_config"]["parameters"]
    assert parameters == {"workload": "flights", "run_id": "n", "data": "data-version:3f2a", "trials": 9}


def test_a_namespaces_file_and_an_image_are_compiled_into_the_run(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "team-a.yaml"
    config.write_text("image: ours:1\nnodeSelector: {pool: training}\n")
    words = ("submit", "flights", "--name", "n", "--host", server.url, "--namespace-config", str(config))
    said(capsys, *words, "--image", "ours:2")
    spec = server.runs[0]["pipeline_spec"]
    executors = spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"ours:2"}
    pods = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert all(pod["nodeSelector"]["labels"] == {"pool": "training"} for pod in pods.values())


def test_a_multi_user_deployment_is_reached_by_settings(
    server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tokens = {"ours": {"team-a"}}
    (tmp_path / "token").write_text("ours")
    monkeypatch.setenv("WINDLASS_KFP_HOST", server.url)
    monkeypatch.setenv("WINDLASS_KFP_NAMESPACE", "team-a")
    refused = said(capsys, "submit", "flights", code=1)
    assert "answers 401" in refused["error"]["message"] and not server.runs
    monkeypatch.setenv("WINDLASS_KFP_TOKEN_FILE", str(tmp_path / "token"))
    assert said(capsys, "submit", "flights", "--service-account", "editor")["id"] == "r1"
    assert server.runs[0]["service_account"] == "editor"
    assert server.experiments[0]["namespace"] == "team-a"


@pytest.mark.parametrize(
    ("state", "code"), [pytest.param("SUCCEEDED", 0, id="succeeded"), pytest.param("FAILED", 1, id="failed")]
)
def test_waiting_ends_with_the_runs_word(
    server: KfpServer, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    said(capsys, "submit", "flights", "--name", "n", "--host", server.url)
    server.runs[0] |= {"state": state, "finished_at": "2026-01-01T00:05:00Z"}
    told = said(capsys, "submit", "flights", "--name", "n", "--host", server.url, "--wait", code=code)
    if code == 0:
        assert (told["state"], told["seconds"]) == ("SUCCEEDED", 300.0)
    else:
        assert "says FAILED (run r1); give --name for another try" in told["error"]["message"]


def test_a_schedule_is_stated_listed_switched_and_removed(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def schedule(*words: str) -> dict[str, Any]:
        return said(capsys, "schedule", *words, "--host", server.url)

    made = schedule("flights", "--cron", "0 3 * * 1")
    assert made == {
        "name": "windlass-flights", "id": "j1", "cron": "0 0 3 * * 1", "enabled": True, "done": "created"
    }  # fmt: skip
    assert server.recurring_runs[0]["runtime_config"]["parameters"] == {"workload": "flights"}
    assert schedule("flights", "--cron", "0 3 * * 1")["done"] == "unchanged"
    assert schedule("flights", "--disable")["done"] == "disabled"
    assert schedule("flights", "--disable")["done"] == "unchanged"
    assert schedule("flights", "--list")["recurring"] == [
        {"name": "windlass-flights", "id": "j1", "cron": "0 0 3 * * 1", "enabled": False}
    ]
    assert schedule("flights", "--enable")["done"] == "enabled"
    assert schedule("flights", "--cron", "0 4 * * 1")["done"] == "replaced"
    assert schedule("flights", "--delete")["done"] == "deleted"
    assert schedule("--list", "--experiment", "windlass-flights")["recurring"] == []


@pytest.mark.parametrize(
    ("words", "said_"),
    [
        pytest.param(["submit", "flights"], "nobody says where Kubeflow Pipelines is", id="no-host"),
        pytest.param(["submit", "flights", "--host", "ml-pipeline:8888"], "is no address", id="no-scheme"),
        pytest.param(["submit", "nobody", "--host", "http://x"], "unknown workload 'nobody'", id="workload"),
        pytest.param(
            ["submit", "flights", "--host", "http://x", "--from", "2013-06-01", "--to", "2013-01-01"],
            "reversed",
            id="dates",
        ),
        pytest.param(["submit", "flights", "--host", "http://x", "--trials", "0"], "--trials 0", id="trials"),
        pytest.param(
            ["submit", "flights", "--host", "http://x", "--within", "soon"], "--within", id="within"
        ),
        pytest.param(["schedule", "--list", "--host", "http://x"], "name the workload", id="nothing-to-list"),
        pytest.param(
            ["schedule", "flights", "--host", "http://x"], "one of the arguments --cron", id="no-action"
        ),
        pytest.param(
            ["schedule", "flights", "--host", "http://x", "--cron", "often"], "is no schedule", id="cron"
        ),
        pytest.param(
            ["schedule", "flights", "--host", "http://x", "--cron", "0 3 * * 1", "--concurrency", "0"],
            "--concurrency 0",
            id="concurrency",
        ),
        pytest.param(["compile", "--check", "--namespace-config", "f"], "leave out --image", id="check"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    server: KfpServer, capsys: pytest.CaptureFixture[str], words: list[str], said_: str
) -> None:
    assert said_ in said(capsys, *words, code=2)["error"]["message"]
    assert not server.asked


def test_a_namespaces_pipeline_is_written_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "out.yaml"
    config.write_text("steps: {tune-and-train: {memoryLimit: 32Gi}}\n")
    said(capsys, "compile", "--namespace-config", str(config), "--out", str(out))
    pipeline, _ = yaml.safe_load_all(out.read_text())
    trained = pipeline["deploymentSpec"]["executors"]["exec-tune-and-train"]["container"]["resources"]
    assert trained["resourceMemoryLimit"] == "32Gi"
