"""Each drill, played with real processes: it ends as documented, with the documented alert, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from windlass.cli import app
from windlass.drill import catalogue, drill
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import MODEL, Stage

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
