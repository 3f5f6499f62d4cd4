"""A person's own model, from a file to a prediction and back, where no packet can leave the machine.

One run of the whole path serves two promises: that `windlass new` needs no line of the engine changed, and that nothing
of it, ours or a dependency's, reports home.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import airgap
import numpy as np
import pandas as pd
import psutil
import pytest

WINDLASS = str(Path(sys.executable).parent / "windlass")
ROWS = 3000

SCRIPT = """
set -euo pipefail
"$W" new orders --data orders.csv --label returned --time at --entity shop --positive yes --json > new.json
"$W" train orders --from 2026-01-01 --to 2026-03-31 --json > train.json
"$W" train orders --from 2026-01-01 --to 2026-03-31 --json > again.json
trap '"$W" down' EXIT
"$W" up orders --detach --json > named.json
"$W" down
"$W" up --detach --json > up.json
"$W" predict orders --entity shop=3 --field price=20 colour=red --request-id mine --json > predict.json
"$W" predict orders --entity shop=never-seen --field price=20 --json > unknown.json
"$W" feedback mine 1 --json > feedback.json
"$W" status --json > status.json
"$W" doctor --json > doctor.json
"$W" report orders --out report.html --json > report.json
"$W" drift orders --html drift.html --json > drift.json
"$W" down --json > down.json
trap - EXIT
"""


def orders() -> pd.DataFrame:
    """Three months of orders whose return rate depends on the shop, the price and the colour."""
    draw = np.random.default_rng(1)
    shop = draw.integers(0, 30, ROWS)
    price = draw.gamma(3, 10, ROWS).round(2)
    colour = draw.choice(["red", "green", "blue"], ROWS)
    rate = np.linspace(0.05, 0.6, 30)[shop]
    logit = np.log(rate / (1 - rate)) + 0.03 * (price - 30) + 0.7 * (colour == "red")
    minutes = np.sort(draw.integers(0, 90 * 24 * 60, ROWS))
    returned = draw.random(ROWS) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "order_id": np.arange(ROWS),
            "shop": shop,
            "at": (pd.Timestamp("2026-01-01") + pd.to_timedelta(minutes, "m")).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "price": price,
            "colour": colour,
            "returned": np.where(returned, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, airgap.Watched]]:
    project = tmp_path_factory.mktemp("own")
    orders().to_csv(project / "orders.csv", index=False)
    # a CI variable silences some reporters by itself: what a person's machine would send is the question
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("WINDLASS_", "CI", "GITHUB_", "PYTEST_"))
    }
    for name in airgap_switches():
        environment.pop(name, None)
    environment |= {
        "W": WINDLASS,
        "WINDLASS_PROJECT": str(project),
        "HOME": str(project),
        # a name that is looked up must not hold the run up
        "RES_OPTIONS": "timeout:1 attempts:1",
    }
    watched = airgap.watch(["bash", "-c", SCRIPT], env=environment, cwd=project, timeout=800)
    yield project, watched
    # whatever a failed run left behind must not outlive the test
    for process in of_project(project):
        process.kill()


def of_project(project: Path) -> list[psutil.Process]:
    """Processes that run for the project; one that has ended and that nobody waits for does not run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(project) in " ".join(process.cmdline()):
                found.append(process)
    return found


def airgap_switches() -> list[str]:
    from windlass import telemetry

    return list(telemetry.SWITCHES)


def answer(project: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((project / f"{name}.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_of_ones_own_trains_and_serves(run: tuple[Path, airgap.Watched]) -> None:
    """Verify the path from a CSV file to a prediction, its label and the report, without touching the engine."""
    project, watched = run
    assert watched.returncode == 0, watched.stderr
    train = answer(project, "train")
    assert train["passed"]
    assert train["version"] == "1"
    assert float(train["metrics"]["auc"]) > 0.6  # type: ignore[index]
    assert answer(project, "again")["reused"], "an identical call must reuse what is unchanged"
    prediction = answer(project, "predict")
    assert 0.0 < float(prediction["prediction"]) < 1.0  # type: ignore[arg-type]
    assert (prediction["version"], prediction["request_id"]) == ("1", "mine")
    assert answer(project, "unknown")["prediction"] is not None, (
        "a key never seen is served with missing features"
    )
    assert answer(project, "doctor")["ok"]
    assert (project / "report.html").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_of_it_reports_home(run: tuple[Path, airgap.Watched]) -> None:
    """Verify that no packet, not even a name lookup, was meant for another machine, and no identifier was left."""
    project, watched = run
    assert watched.strangers == []
    assert not (project / ".cache" / "Microsoft").exists(), "onnxruntime made its telemetry identifier"
    assert not (project / ".config" / "evidentlyai").exists(), "evidently made its telemetry identifier"
    if not watched.whole:
        pytest.skip(
            "this system lets nobody make a network namespace: Python was watched, native code was not"
        )


@pytest.mark.slow
def test_nothing_is_left_running(run: tuple[Path, airgap.Watched]) -> None:
    """Verify that `windlass down` ended every process of the home."""
    project, _ = run
    assert of_project(project) == []
