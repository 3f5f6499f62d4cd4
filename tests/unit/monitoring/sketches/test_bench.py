"""`windlass bench drift` in small: it measures, holds our values to others', and shows a miss as a miss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drift import data, report
from benchmarks.drift.agreement import Agreement, between
from benchmarks.drift.rounds import PRESET, WINDLASS, Run
from windlass.errors import WindlassError

TARGETS = [
    "same statistics within 1e-9 where exact",
    "within stated bounds where sketched",
    "rows/s over Evidently's at 1 million",
    "memory flat 10→100 million",
    "peak memory, MB (< 1 GB)",
]


def bench(project: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.drift", *options],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_small_run_agrees_with_scipy_and_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    done = bench(
        project, scratch, "--rows", "1e4,3e4", "--columns", "6", "--rounds", "1",
        "--only", "windlass,cells,scipy", "--json", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((out / "drift.json").read_text())
    assert (out / "drift.png").stat().st_size and (out / "drift.svg").stat().st_size
    assert list(scratch.iterdir()) == []
    measured = {(row["name"], row["case"], row["contender"]): row["value"] for row in found["measurements"]}
    for size in ("10,000 rows", "30,000 rows"):
        for contender in ("windlass", "windlass in cells", "scipy"):
            for name in ("rows/s", "rows per CPU second", "peak memory"):
                assert measured[name, size, contender] > 0
        assert measured["exact distances", f"windlass and scipy, {size}", "windlass"] == 6
        assert measured["outside of the bounds", f"windlass in cells and scipy, {size}", "windlass"] == 0
    targets = {target["name"]: target["holds"] for target in found["targets"]}
    assert list(targets.items()) == list(zip(TARGETS, (True, True, None, None, True), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--rows", "100"], "2000 or more", id="too few rows"),
        pytest.param(
            ["--only", "pandas"], "no contender 'pandas'; there are: windlass,", id="unknown contender"
        ),
        pytest.param(["--columns", "0"], "--columns and --rounds", id="no columns"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    project: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = bench(project, tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(WindlassError, match=r"GB free and .* GB are needed .* set TMPDIR"):
        data.generate(tmp_path, [10**13], 30, 1, print)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_differs_or_lies_outside_is_counted() -> None:
    ours = {"a": [1.0, 1.0, 1.0, True], "b ks": [2.0, 1.9, 2.1, False], "c": [3.0, 2.9, 3.1, False]}
    found = between(ours, {"a": 1.5, "b ks": 2.2, "c": 2.95, "only theirs": 9.0})
    assert found == Agreement(1, 0.5, 2, 1, {"ks": pytest.approx(0.2), "default": pytest.approx(0.2)})


def runs(evidently_seconds: float, peaks: tuple[int, int]) -> list[Run]:
    def run(contender: str, rows: int, seconds: float, peak: int) -> Run:
        return Run(contender, rows, seconds, seconds, peak * 2**20, {})

    return [
        run(WINDLASS.name, 10**6, 2.0, 500),
        run(PRESET.name, 10**6, evidently_seconds, 3000),
        run(WINDLASS.name, 10**7, 5.0, peaks[0]),
        run(WINDLASS.name, 10**8, 50.0, peaks[1]),
    ]


@pytest.mark.parametrize(
    ("measured", "agreement", "holds"),
    [
        pytest.param(runs(40.0, (600, 660)), Agreement(9, 1e-10, 9, 0, {}), [True] * 5, id="all held"),
        pytest.param(runs(39.0, (600, 661)), Agreement(9, 2e-9, 9, 1, {}), [False] * 4 + [True], id="missed"),
        pytest.param(runs(40.0, (1024, 1024)), Agreement(9, 0.0, 9, 0, {}), [True] * 4 + [False], id="too large"),
        pytest.param([], Agreement(0, None, 0, 0, {}), [None] * 5, id="not measured"),
    ],
)  # fmt: skip
def test_a_missed_target_is_shown_as_missed(
    measured: list[Run], agreement: Agreement, holds: list[Any]
) -> None:
    found = report.document(measured, {"case": agreement}, {}, {})
    assert [target["name"] for target in found["targets"]] == TARGETS
    assert [target["holds"] for target in found["targets"]] == holds
    assert ("MISSED" in report.table(found)) == (False in holds)
