"""The steps as a cluster runs them: each in a pod of its own that shares no disk, only artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components import steps
from windlass.errors import DataError
from windlass.settings import Settings

WINDOW = ("2024-01-01", "2024-02-05")


def test_steps_need_nothing_but_the_artifacts_they_are_given(
    tmp_path: Path, new_project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_PROJECT", str(new_project(tmp_path).project))
    out = {
        name: str(tmp_path / "artifacts" / name)
        for name in ("rows", "training", "model", "evaluation", "version")
    }

    def pod(name: str) -> None:
        monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "pods" / name))
        monkeypatch.chdir(tmp_path)

    pod("1")
    steps.validate("tiny", *WINDOW, "", out["rows"])
    pod("2")
    steps.training_set("tiny", *WINDOW, "", out["rows"], out["training"])
    pod("3")
    steps.tune_and_train("tiny", 3, out["training"], out["model"])
    pod("4")
    steps.evaluate_and_gate("tiny", out["training"], out["model"], out["evaluation"])
    assert steps.metrics_of(out["evaluation"])["passed"] == 1.0
    pod("5")
    steps.register("tiny", *WINDOW, "run", *out.values())
    result = json.loads((Path(out["version"]) / "result.json").read_text())
    assert (result["version"], result["passed"]) == ("1", True)
    # the bundle leaves with the artifact, since the pod's own disk goes with it
    assert {p.name for p in (Path(out["version"]) / "bundle").iterdir()} == {
        "serving.json", "model.sig", "export.json", "model.onnx",
        "reference.json", "reference.parquet", "evaluation.parquet",
    }  # fmt: skip
    assert not (tmp_path / ".windlass").exists()


def test_a_failure_is_written_down_for_whoever_started_the_run(
    tmp_path: Path, new_project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_project(tmp_path)
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_RUN_ERROR", str(tmp_path / "error.json"))
    with pytest.raises(DataError, match="at least 200 are needed"):
        steps.validate("tiny", "2024-01-01", "2024-01-02", "", str(tmp_path / "out"))
    told = json.loads((tmp_path / "error.json").read_text())
    assert (told["type"], told["exit_code"]) == ("DataError", 2)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_as_such(
    tmp_path: Path, new_project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_project(tmp_path)
    path = settings.project / "workloads" / "tiny" / "workload.py"
    full = "frame.to_csv('/dev/full'); frame = frame.copy()"
    path.write_text(path.read_text().replace("frame = frame.copy()", full))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_RUN_ERROR", str(tmp_path / "error.json"))
    with pytest.raises(OSError, match="No space left"):
        steps.validate("tiny", *WINDOW, "", str(tmp_path / "out"))
    told = json.loads((tmp_path / "error.json").read_text())
    assert told["exit_code"] == 1
    assert told["message"].startswith("no space left on the device")


def test_the_compiled_file_names_the_steps_that_there_are() -> None:
    compiled = Path(steps.__file__).parents[1] / "pipelines" / "compiled" / "training.yaml"
    pipeline, _ = yaml.safe_load_all(compiled.read_text())
    assert set(pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]) == set(steps.STEPS)
