"""A whole pipeline on KFP's local runner: trained, judged, registered, reused, refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from components import export
from components.registry import Registry
from pipelines import local
from windlass.cli import app
from windlass.errors import DataError, UsageError, WindlassError
from windlass.settings import Settings

pytestmark = pytest.mark.slow

START, END = "2024-01-01", "2024-02-05"


def quiet(_: str) -> None:
    """Progress is not looked at."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Settings]) -> Settings:
    return new_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def first(settings: Settings) -> dict[str, Any]:
    return local.train(settings, local.Request("tiny", START, END, trials=3, run_id="first"), quiet)


@pytest.fixture(scope="module")
def second(settings: Settings, first: dict[str, Any]) -> dict[str, Any]:
    return local.train(settings, local.Request("tiny", START, END, trials=3, run_id="second"), quiet)


def test_the_first_model_that_passes_is_champion_at_once(settings: Settings, first: dict[str, Any]) -> None:
    assert (first["version"], first["state"], first["passed"], first["champion"]) == (
        "1",
        "champion",
        True,
        None,
    )
    assert Registry(settings).champion("tiny") == "1"
    assert first["release"] is None
    assert first["metrics"]["auc"] > 0.7
    low, high = first["metrics"]["auc_interval"]
    assert low < first["metrics"]["auc"] < high
    assert {c["check"] for c in first["gates"]} == {
        "minimumAuc", "championNonInferiority", "slices", "calibration", "latency",
    }  # fmt: skip
    assert (first["trained_from"][:10], first["trained_to"][:10]) == ("2024-01-01", "2024-02-01")


def test_the_result_is_kept_with_the_run_and_nothing_else_of_it(
    settings: Settings, first: dict[str, Any]
) -> None:
    folder = settings.runs_dir / "first"
    assert json.loads((folder / "result.json").read_text()) == first
    assert {p.name for p in folder.iterdir()} == {"result.json", "log.txt"}


def test_the_bundle_scores_like_the_reference_says(settings: Settings, first: dict[str, Any]) -> None:
    folder = settings.bundles_dir / "tiny" / first["version"]
    document = json.loads((folder / "serving.json").read_text())
    assert [i["name"] for i in document["inputs"]] == ["size", "kind", "weight"]
    assert document["inputs"][1]["categories"] == ["red", "green", "blue"]
    sample = pd.read_parquet(folder / "reference.parquet")
    rows = np.ascontiguousarray(sample[["size", "kind", "weight"]].to_numpy(dtype=np.float32))
    scores = export.score(export.load(folder / "model.onnx"), rows)
    assert scores == pytest.approx(sample["score"].to_numpy(), abs=1e-9)
    assert sample["size"].isna().any()
    assert sample["event_timestamp"].max() < pd.Timestamp(first["trained_to"])


def test_an_identical_call_reuses_every_step_and_says_so(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert first["reused"] == []
    assert second["reused"] == ["validate", "training-set", "tune-and-train", "evaluate-and-gate", "register"]
    assert second["version"] == first["version"]
    same = ("metrics", "gates", "champion", "trained_to", "state", "slices", "export")
    assert {k: second[k] for k in same} == {k: first[k] for k in same}


def test_a_finished_run_is_returned_and_not_run_again(settings: Settings, second: dict[str, Any]) -> None:
    told: list[str] = []
    again = local.train(settings, local.Request("tiny", START, END, trials=3, run_id="second"), told.append)
    assert again == second
    assert told == ["run second has finished before"]


def test_a_longer_window_is_a_new_version_that_is_compared_and_asks_for_release(
    settings: Settings, second: dict[str, Any]
) -> None:
    third = local.train(
        settings, local.Request("tiny", START, "2024-02-09T12:00:00", trials=3, run_id="third"), quiet
    )
    assert (third["version"], third["champion"]) == ("2", "1")
    compared = {c["check"]: c for c in third["gates"]}["championNonInferiority"]
    assert "DeLong, paired, one-sided" in compared["detail"]
    assert third["window"]["to"] == "2024-02-09T12:00:00+00:00"
    assert third["passed"], third["gates"]
    assert third["state"] == "candidate"
    assert Registry(settings).champion("tiny") == "1"
    release = yaml.safe_load(Path(third["release"]).read_text())
    assert release["spec"]["candidate"] == "2" and release["spec"]["champion"] == "1"
    assert release["spec"]["strategy"]["type"] == "canary"


def test_a_candidate_that_loses_is_registered_as_rejected(
    tmp_path: Path,
    new_project: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = new_project(tmp_path, minimum_auc=0.99)
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    code = app.run(["train", "tiny", "--from", START, "--to", END, "--trials", "3", "--json"])
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    # the command did what it is for: 1 would mean that the run failed
    assert code == 0
    assert (result["passed"], result["state"], result["release"]) == (False, "rejected", None)
    failed = [c for c in result["gates"] if not c["passed"]]
    assert [(c["check"], c["bound"]) for c in failed] == [("minimumAuc", 0.99)]
    assert "minimumAuc: FAILED" in captured.err
    assert Registry(settings).champion("tiny") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["nobody", "--from", START, "--to", END], "unknown workload 'nobody'", id="unknown-workload"
        ),
        pytest.param(["tiny", "--from", END, "--to", START], "is reversed or empty", id="reversed"),
        pytest.param(["tiny", "--from", "2023-12-01", "--to", END], "lies before the data", id="too-early"),
        pytest.param(["tiny", "--from", START, "--to", "2025-01-01"], "lies after the data", id="too-late"),
        pytest.param(
            ["tiny", "--from", START, "--to", END, "--data", "no.csv"], "there is no such file", id="no-file"
        ),
        pytest.param(
            ["tiny", "--from", START, "--to", END, "--trials", "0"], "--trials 0 leaves nothing", id="trials"
        ),
        pytest.param(
            ["tiny", "--from", START, "--to", END, "--run-id", "../x"], "is no name of a folder", id="run-id"
        ),
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_leaves_nothing(
    settings: Settings,
    first: dict[str, Any],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    before = {p.name for p in settings.runs_dir.iterdir()}
    versions = Registry(settings).versions("tiny")
    assert app.run(["train", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert {p.name for p in settings.runs_dir.iterdir()} == before
    assert Registry(settings).versions("tiny") == versions


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda f: f.drop(columns=["kind"]), "column 'kind' is missing", id="missing-column"),
        pytest.param(lambda f: f.assign(size="wide"), "column 'size' holds 'wide'", id="wrong-type"),
        pytest.param(lambda f: f.assign(size=np.nan), "column 'size' is empty in all", id="all-null"),
        pytest.param(
            lambda f: pd.concat([f, f.tail(3)]), "key ('id',) occurs twice in 3 rows", id="duplicates"
        ),
        pytest.param(lambda f: f.iloc[:0], "holds no row", id="empty"),
    ],
)
def test_a_broken_file_is_a_data_error_that_names_it(
    settings: Settings,
    rows: pd.DataFrame,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "broken.parquet"
    spoil(rows.copy()).to_parquet(path, index=False)
    with pytest.raises(DataError) as caught:
        local.train(settings, local.Request("tiny", START, END, path, run_id="broken"), quiet)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"data file {path}")
    assert not (settings.runs_dir / "broken").exists()


def test_a_step_that_crashes_is_an_error_that_names_the_log(
    tmp_path: Path, new_project: Callable[..., Settings]
) -> None:
    settings = new_project(tmp_path)
    path = settings.project / "workloads" / "tiny" / "workload.py"
    path.write_text(path.read_text().replace("frame = frame.copy()", "raise RuntimeError('spilled')"))
    with pytest.raises(WindlassError, match=r"RuntimeError: spilled; the log is .*log.txt") as caught:
        local.train(settings, local.Request("tiny", START, END, run_id="crash"), quiet)
    assert not isinstance(caught.value, UsageError)
    assert "spilled" in (settings.runs_dir / "crash" / "log.txt").read_text()
    assert not (settings.runs_dir / "crash" / "result.json").exists()
    assert not (settings.runs_dir / "crash" / "tmp").exists()


def test_the_environment_is_as_it_was(settings: Settings, first: dict[str, Any]) -> None:
    before = dict(os.environ)
    with local._environment(settings, Path("/x/error"), Path("/x/tmp")):
        assert os.environ["WINDLASS_HOME"] == str(settings.home)
    assert dict(os.environ) == before


def test_a_run_killed_in_the_middle_is_finished_by_the_next_call(
    tmp_path: Path, new_project: Callable[..., Settings]
) -> None:
    """Verify that a killed search leaves a home which the same command completes."""
    settings = new_project(tmp_path)
    # so many that the search goes on for seconds after its first trial: who hears of that may be slow to kill it
    trials = 20
    command = [
        sys.executable,
        "-m",
        "windlass",
        "train",
        "tiny",
        "--from",
        START,
        "--to",
        END,
        "--trials",
        str(trials),
        "--run-id",
        "r",
    ]
    environment = {
        **os.environ,
        "WINDLASS_HOME": str(settings.home),
        "WINDLASS_PROJECT": str(settings.project),
    }
    with subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("trial 1"):
                break
        os.killpg(process.pid, 9)
    assert not (settings.runs_dir / "r" / "result.json").exists()
    result = local.train(settings, local.Request("tiny", START, END, trials=trials, run_id="r"), quiet)
    assert (result["version"], result["state"]) == ("1", "champion")
    assert result["reused"] == ["validate", "training-set"]


def test_callers_of_one_run_take_turns_and_leave_no_lock(tmp_path: Path) -> None:
    """Verify mutual exclusion although each holder takes the lock's name away."""
    settings = Settings(home=tmp_path, project=tmp_path)
    inside: list[int] = []
    most: list[int] = []

    def call(number: int) -> None:
        for _ in range(20):
            with local._claimed(settings, "run"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.001)
                inside.remove(number)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (120, 1)
    assert list((settings.runs_dir / ".locks").iterdir()) == []


def test_what_a_recurring_run_leaves_out_is_found_by_its_first_step(
    tmp_path: Path, new_project: Callable[..., Settings]
) -> None:
    """Verify the DAG with a workload and nothing else: ends from the data, the version named by KFP's id of the run."""
    settings = new_project(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    result = local._run(settings, local.Request("tiny", "", "", trials=1), "", folder, quiet)
    assert (result["window"]["from"][:10], result["window"]["to"][:10]) == ("2024-01-01", "2024-02-10")
    assert result["run_id"] and "{{" not in result["run_id"]
    (version,) = Registry(settings).versions("tiny")
    assert version.run_id == result["run_id"]
