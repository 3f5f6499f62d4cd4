"""The compiled pipeline is its source, byte for byte, and runs where a cluster's pods may run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from components import steps
from pipelines import compile as compiling
from pipelines import pods, training
from windlass import __version__
from windlass.cli import app
from windlass.errors import WindlassError


@pytest.fixture(scope="module")
def compiled() -> str:
    return compiling.render()


def documents(text: str) -> tuple[Any, Any]:
    """The pipeline, and what its pods get."""
    pipeline, platform = yaml.safe_load_all(text)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def executors(text: str) -> dict[str, Any]:
    found: dict[str, Any] = documents(text)[0]["deploymentSpec"]["executors"]
    return {name: e["container"] for name, e in found.items()}


def tasks(text: str) -> dict[str, Any]:
    """Tasks by name, those inside the exit handler among them."""
    pipeline = documents(text)[0]
    inside = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    outside = pipeline["root"]["dag"]["tasks"]
    assert set(outside) == {"exit-handler-1", "report"}
    return {**inside, "report": outside["report"]}


def test_another_process_compiles_the_same_bytes(compiled: str) -> None:
    code = "from pipelines import compile as c, sys; sys.stdout.write(c.render())".replace(
        " c, sys", " c; import sys"
    )
    # another hash seed: an order that depends on it would show
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "4711", "PATH": "/usr/bin"},
        cwd=Path(compiling.__file__).parents[1],
    )
    assert other.stdout == compiled


def test_the_kept_file_is_up_to_date(compiled: str) -> None:
    assert (compiling.COMPILED / compiling.FILE).read_text() == compiled


def test_every_step_runs_our_image_of_this_version_and_installs_nothing(compiled: str) -> None:
    steps = executors(compiled)
    assert set(steps) == {f"exec-{n}" for n in pods.EVERY}
    for container in steps.values():
        assert container["image"] == f"windlass/training:{__version__}"
        assert "pip" not in " ".join(container["command"][:-1])


def test_no_step_depends_on_a_condition(compiled: str) -> None:
    """Verify that no gate is a branch: KFP's local runner runs or skips these wrongly."""
    found = tasks(compiled)
    last = found.pop("report")
    assert all("triggerPolicy" not in task and "componentRef" in task for task in found.values())
    # it runs whatever became of the others, and is told what did
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert last["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}


def test_only_steps_whose_inputs_are_all_that_they_read_are_taken_from_kfps_cache(compiled: str) -> None:
    """Verify that neither a source's new rows nor another champion is overlooked because the arguments are the same."""
    found = {n for n, task in tasks(compiled).items() if task["cachingOptions"].get("enableCache")}
    assert found == {"training-set", "tune-and-train"}


def test_the_steps_work_on_what_the_first_found_not_on_what_was_left_out(compiled: str) -> None:
    for name in ("training-set", "register"):
        given = tasks(compiled)[name]["inputs"]["parameters"]
        for argument in ("start", "end"):
            assert given[argument]["taskOutputParameter"]["producerTask"] == "validate"
    inputs = documents(compiled)[0]["root"]["inputDefinitions"]["parameters"]
    assert [n for n, p in inputs.items() if not p.get("isOptional")] == ["workload"]


def test_a_recurring_runs_version_is_named_by_kubeflows_own_id(compiled: str) -> None:
    for name in ("register", "report"):
        job = tasks(compiled)[name]["inputs"]["parameters"]["job"]
        assert job == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_parameters_are_plain_strings_and_numbers(compiled: str) -> None:
    inputs = documents(compiled)[0]["root"]["inputDefinitions"]["parameters"]
    kinds = {name: p["parameterType"] for name, p in inputs.items()}
    assert kinds == {
        "workload": "STRING", "start": "STRING", "end": "STRING", "run_id": "STRING", "data": "STRING",
        "trials": "NUMBER_INTEGER",
    }  # fmt: skip


def test_the_image_is_an_argument() -> None:
    text = compiling.render(replace(pods.DEFAULT, image="registry.example/team/training:7"))
    assert {c["image"] for c in executors(text).values()} == {"registry.example/team/training:7"}


def test_check_tells_an_old_file_from_a_current_one(
    tmp_path: Path, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "training.yaml"
    assert app.run(["pipeline", "compile", "--check", "--out", str(path)]) == 1
    assert "is missing; run `windlass pipeline compile`" in capsys.readouterr().err
    assert app.run(["pipeline", "compile", "--out", str(path)]) == 0
    assert path.read_text() == compiled
    assert app.run(["pipeline", "compile", "--check", "--out", str(path)]) == 0
    path.write_text(compiled.replace(__version__, "0.0.1"))
    with pytest.raises(WindlassError, match=r"is not what pipelines/training\.py compiles to"):
        compiling.check(path)


def test_the_image_has_a_numeric_user_and_kfps_python_first() -> None:
    text = (Path(compiling.__file__).parents[1] / "docker" / "training.Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["65532"]
    stated = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    # first on PATH is the folder that has kfp; a link into it from elsewhere would lose the environment
    (made,) = re.findall(r"python3 -m venv (\S+)", stated)
    assert re.findall(r"PATH=(\S+)", stated) == [f"{made}/bin:${{PATH}}"]
    assert "ln -s" not in stated
    assert stated.index(f"PATH={made}") < stated.index("pip install")
    installs = re.findall(r"pip install (.*)$", stated, re.MULTILINE)
    assert "--require-hashes" in installs[0]
    # our own wheel brings nothing that is not in the lock, and its build downloads nothing
    assert all("--no-deps" in i for i in installs)
    assert "--no-build-isolation" in installs[1]
    assert stated.index("USER 65532") > stated.rindex("pip install")


def test_a_cluster_gets_the_same_dag_as_the_local_runner(tmp_path: Path, compiled: str) -> None:
    """Verify that what is added for a cluster changes no step's code, and nothing of what it is given."""
    path = tmp_path / "bare.yaml"
    compiler.Compiler().compile(training.build(), str(path))
    (bare,) = yaml.safe_load_all(path.read_text())
    whole = documents(compiled)[0]
    for name in steps.STEPS:
        code = [d["deploymentSpec"]["executors"][f"exec-{name}"]["container"] for d in (bare, whole)]
        assert code[0]["command"] == code[1]["command"] and code[0]["args"] == code[1]["args"]
        assert bare["components"][f"comp-{name}"] == whole["components"][f"comp-{name}"]
        alone, inside = bare["root"]["dag"]["tasks"][name], tasks(compiled)[name]
        assert alone.get("dependentTasks") == inside.get("dependentTasks")
        # a pipeline's own arguments have another name inside a group
        shown = json.dumps(inside["inputs"]).replace("pipelinechannel--", "")
        assert json.loads(shown) == alone["inputs"]
