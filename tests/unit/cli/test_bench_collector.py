"""`windlass bench collector`: one JSON object, and a target that was missed is shown as missed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.collector import __main__ as bench


def test_a_small_run_holds_what_it_can_and_says_what_it_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify the report of one kill over a thousand events: nothing lost, and far from two million of them."""
    words = ["--json", "--only", "chaos", "--events", "1200", "--kills", "1", "--out", str(tmp_path)]
    cores = os.sched_getaffinity(0)
    assert bench.main(words) == 0
    assert os.sched_getaffinity(0) == cores, "whoever called it has its cores again"
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert "chaos: kill 1/1" in said.err
    held = {target["name"]: target["holds"] for target in result["targets"]}
    assert held == {
        "kill -9: events acknowledged, of 2 million": False,
        "kill -9: times": False,
        "kill -9: acknowledged and lost": True,
        "kill -9: stored twice": True,
        "kill -9: stored without their other half": True,
    }
    stored = [m for m in result["measurements"] if m["name"] == "in parquet"]
    assert [(m["value"], m["unit"]) for m in stored] == [(1000.0, "predictions")]
    assert json.loads((tmp_path / "collector.json").read_text())["bench"] == "collector"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ["--only", "speed"], "no part 'speed'; there are: throughput, release, chaos, disk", id="no-part"
        ),
        pytest.param(["--events", "0"], "--events is 0; give 1 or more", id="nothing-to-send"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify exit code and message."""
    assert bench.main(words) == 2
    assert said in capsys.readouterr().err
