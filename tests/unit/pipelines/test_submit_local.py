"""Runs by name on this machine: started once, found by whoever asks, started again where their process died."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.registry import Registry
from pipelines import submit_local, submitted
from pipelines.submit_local import Finished, LocalRuns
from windlass.errors import WindlassError
from windlass.settings import Settings

WAIT_S = 120.0
NAME = "retrain-tiny-1"
PROGRAM = """
import json, os, pathlib, sys, time
folder, lock = pathlib.Path(sys.argv[1]), int(sys.argv[2])
os.set_inheritable(lock, False)
with open(folder / "executed", "a") as seen:
    seen.write(str(os.getpid()) + "\\n")
while not (folder / "go").exists():
    time.sleep(0.005)
(folder / ".o").write_text(json.dumps({"result": {"version": "4"}, "error": None, "seconds": 2.0}))
(folder / ".o").rename(folder / "outcome.json")
"""
WORKER = (sys.executable, "-S", "-E", "-c", PROGRAM)


def runs(home: Path) -> LocalRuns:
    return LocalRuns(Settings(home=home, project=home), worker=WORKER)


def executed(made: LocalRuns, name: str, count: int) -> list[int]:
    """Process ids that carried the run out, once there are so many."""
    path = made.folder(name) / "executed"
    deadline = time.monotonic() + WAIT_S
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return [int(line) for line in path.read_text().splitlines()]


def ended(made: LocalRuns, name: str) -> Finished:
    (made.folder(name) / "go").touch()
    deadline = time.monotonic() + WAIT_S
    while (found := made.find(name)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_a_run_that_is_asked_for_again_is_found(tmp_path: Path) -> None:
    made = runs(tmp_path)
    assert made.submit("t1", "flights", {"trials": 2}) == "local:t1"
    executed(made, "t1", 1)
    for other in (made, runs(tmp_path), runs(tmp_path)):
        other.submit("t1", "flights", {"trials": 9})
        assert other.find("t1") is None
    assert ended(runs(tmp_path), "t1") == Finished({"version": "4"}, None, 2.0)
    runs(tmp_path).submit("t1", "flights", {})
    assert len(executed(made, "t1", 1)) == 1, "one process"
    assert json.loads((made.folder("t1") / "request.json").read_text())["detail"] == {"trials": 2}


def test_a_run_whose_process_was_killed_goes_on_under_its_name(tmp_path: Path) -> None:
    made = runs(tmp_path)
    made.submit("t1", "flights", {})
    os.kill(executed(made, "t1", 1)[0], signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while len((made.folder("t1") / "executed").read_text().splitlines()) < 2:
        # another process than the one that started it
        assert runs(tmp_path).find("t1") is None and time.monotonic() < deadline
        time.sleep(0.005)
    assert ended(made, "t1").result == {"version": "4"}


def test_what_was_never_submitted_is_said_and_not_started(tmp_path: Path) -> None:
    made = runs(tmp_path)
    with pytest.raises(WindlassError, match="run t9 was never submitted"):
        made.find("t9")
    assert not made.folder("t9").exists()


def test_what_somebody_else_trained_under_the_name_is_its_result(tmp_path: Path) -> None:
    made = runs(tmp_path)
    (tmp_path / "runs" / "t1").mkdir(parents=True)
    (tmp_path / "runs" / "t1" / "result.json").write_text('{"version": "7", "seconds": 3.5}')
    assert made.find("t1") == Finished({"version": "7", "seconds": 3.5}, None, 3.5)


def test_a_run_that_is_killed_again_and_again_has_failed(tmp_path: Path) -> None:
    folder = tmp_path / "t1"
    folder.mkdir()
    request = {"name": "t1", "workload": "flights", "detail": {}, "starts": submit_local.MOST_STARTS}
    (folder / "request.json").write_text(json.dumps(request))
    outcome = submitted.carry_out(folder)
    assert outcome["result"] is None and "was killed 5 times" in outcome["error"]
    assert json.loads((folder / "outcome.json").read_text()) == outcome


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        pytest.param({"from": "2024-02-05", "to": "2024-01-01"}, "reversed", id="dates-that-cannot-be-meant"),
        pytest.param({"data_version": "ffff"}, "no data version", id="data-that-is-not-there"),
    ],
)
def test_a_run_that_cannot_be_meant_ends_with_the_reason(
    tmp_path: Path,
    new_project: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    detail: dict[str, Any],
    said: str,
) -> None:
    settings = new_project(tmp_path / "project")
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    folder = tmp_path / "t1"
    folder.mkdir()
    request = {"name": "t1", "workload": "tiny", "detail": detail, "starts": 0}
    (folder / "request.json").write_text(json.dumps(request))
    assert said in submitted.carry_out(folder)["error"]


@pytest.mark.slow
def test_the_real_pipeline_is_killed_and_makes_one_version(
    tmp_path: Path, new_project: Callable[..., Settings]
) -> None:
    """Verify that a run whose process is killed while it trains ends, under its name, with one registered version."""
    settings = new_project(tmp_path / "project")
    made = LocalRuns(settings)
    detail = {"from": "2024-01-01", "to": "2024-02-05", "trials": 1}
    made.submit(NAME, "tiny", detail)
    log = made.folder(NAME) / "log.txt"
    deadline = time.monotonic() + WAIT_S
    while "training-set" not in log.read_text():
        assert time.monotonic() < deadline and made.find(NAME) is None, log.read_text()
        time.sleep(0.02)
    child = made._children[NAME]
    child.kill()
    child.wait()
    said: list[str] = []
    found = LocalRuns(settings).wait(NAME, said.append)
    assert found.error is None and found.result is not None, log.read_text()
    assert found.result["run_id"] == NAME
    assert [v.version for v in Registry(settings).versions("tiny")] == [found.result["version"]] == ["1"]
    assert any("version 1 of tiny is champion" in line for line in said)
    request = json.loads((made.folder(NAME) / "request.json").read_text())
    assert request["starts"] == 2
    assert (request["span"]["start"], request["span"]["end"]) == ("2024-01-01", "2024-02-05")
