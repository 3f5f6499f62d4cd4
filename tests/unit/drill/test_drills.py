"""Each drill, played with real processes: it ends as documented, with the documented alert, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.registry import Registry
from tests.support.patience import wait
from windlass.cli import app
from windlass.drill import catalogue, drill, orders
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.drill.traffic import Asked

DOCS = Path(__file__).parents[3] / "docs" / "drills.md"
NAMES = {
    "drifted-feature",
    "dead-feature-store",
    "corrupt-model",
    "label-outage",
    "metrics-down",
    "slow-model",
    "disk-full",
    "clock-jump",
    "poisoned-partition",
    "double-trigger",
}


@pytest.mark.slow
@pytest.mark.parametrize("played", catalogue.DRILLS, ids=lambda d: d.name)
def test_a_drill_ends_as_documented(played: Drill, folder: Path) -> None:
    """Verify every expectation of the drill, and that it followed the runbook of its alert."""
    record = drill.run(played, folder)
    assert record.passed, [step for step in record.steps if step.holds is False]
    kinds = [step.kind for step in record.steps]
    assert {"injected", "runbook", "restored"} <= set(kinds)
    told = [step.text for step in record.steps if step.kind == "runbook"]
    assert any(f"docs/runbooks/{played.alert}.md" in text for text in told)


def test_there_are_ten_drills_and_the_page_says_what_is_expected_of_each() -> None:
    """Verify the names, and that docs/drills.md holds the table that the drills themselves state."""
    assert {d.name for d in catalogue.DRILLS} == NAMES
    assert catalogue.table() in DOCS.read_text(), "put the table of `catalogue.table()` into docs/drills.md"


@pytest.mark.slow
def test_a_drill_whose_expectation_does_not_hold_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify exit code and record of a drill that injects nothing: the alert that it expects must not be found."""

    def nothing(stage: Stage, record: Record) -> None:
        from windlass.drill import orders
        from windlass.drill.alerts import Phase

        stage.up()
        stage.ask(orders.now(30, 1))
        first = stage.scrape()
        stage.ask(orders.now(30, 2))
        calm = Phase(first, stage.scrape())
        drill.rings(record, "WindlassFeatureStoreDown", calm, calm, {"model": MODEL})

    idle = Drill("idle", "nothing", "WindlassFeatureStoreDown", "as before", "nothing happened", nothing)
    monkeypatch.setattr(catalogue, "DRILLS", (idle,))
    assert app.run(["drill", "idle", "--folder", str(folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is False
    failed = [step["text"] for step in said["drills"][0]["steps"] if step["holds"] is False]
    assert failed == ["WindlassFeatureStoreDown fires with model=orders (beside it: no other)"]


@pytest.mark.slow
def test_a_drill_that_breaks_is_one_that_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that what nobody foresaw is told, the next drill is played, and none asks the user's registry."""
    played = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def broken(stage: Stage, record: Record) -> None:
        played.append(stage.folder)
        assert Registry(stage.settings).champion(MODEL) == CHAMPION
        raise LookupError("no page was seen")

    drills = tuple(Drill(name, "nothing", "-", "-", "-", broken) for name in ("first", "second"))
    monkeypatch.setattr(catalogue, "DRILLS", drills)
    assert app.run(["drill", "--all", "--folder", str(folder)]) == 1
    assert played == [folder, folder]
    record = drill.run(drills[0], folder)
    assert [s.text for s in record.steps if s.holds is False] == [
        "the drill comes to its end (it did not: LookupError: no page was seen)"
    ]


@pytest.mark.slow
def test_two_answers_of_one_name_are_not_both_stored(folder: Path) -> None:
    """Verify that counting what was kept counts answers: a store that knows a name once has lost the other."""
    from monitoring.collector.reading import Events

    stage = Stage(folder)
    stage.prepare()
    name = str(Events(stage.settings).window(MODEL).request_ids[0])
    answer = Asked(orders.now(1, 1)[0], name, 200, "1", {}, 0.0)
    for asked, kept in (([answer], True), ([answer, answer], False), ([], False)):
        record = Record("x")
        drill.kept(stage, record, asked)
        assert [step.holds for step in record.steps] == [kept]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"),
    [
        pytest.param(signal.SIGINT, "prepared", id="ctrl-c-while-the-platform-starts"),
        pytest.param(signal.SIGTERM, "injected", id="ended-in-the-middle"),
    ],
)
def test_an_interrupted_drill_leaves_no_process(folder: Path, number: int, said: str) -> None:
    """Verify it by the environment that every process of the stage has."""
    Stage(folder).prepare()
    command = [sys.executable, "-m", "windlass", "drill", "dead-feature-store", "--folder", folder, "--json"]
    # a shell's background jobs do not hear a Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        playing = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert playing.stderr is not None
    while said not in (line := playing.stderr.readline()):
        assert line, "the drill ended before it was interrupted"
    if number == signal.SIGINT:
        wait(lambda: len(processes_of(folder)) > 0, "the platform begins to start")
        # as a terminal does: to all that it started
        os.killpg(playing.pid, number)
    else:
        playing.send_signal(number)
    out, _ = playing.communicate(timeout=120)
    assert (playing.returncode, out) == (130, "")
    # `windlass down` is over a moment before the process that it asked to end
    wait(lambda: not processes_of(folder), "the last process ends")


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes whose home is the drill's."""
    found = []
    home = f"WINDLASS_HOME={folder.resolve() / 'home'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if home in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_the_drills_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify `--list`, as JSON and for people."""
    assert app.run(["drill", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["drills"]
    assert {d["name"] for d in listed} == NAMES
    assert all(d["alert"].startswith("Windlass") and d["end_state"] and d["proof"] for d in listed)
    assert app.run(["drill", "--list"]) == 0
    assert "clock-jump" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ["earthquake"], "there is no drill 'earthquake'; there are drifted-feature", id="unknown"
        ),
        pytest.param([], "name one drill", id="none"),
        pytest.param(["clock-jump", "--all"], "name one drill", id="two-things"),
    ],
)
def test_a_request_that_cannot_be_meant_says_so(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify exit code 2 and the remedy."""
    assert app.run(["drill", *words, "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]["message"]
