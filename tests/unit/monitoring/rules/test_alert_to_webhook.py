"""From an analysis's file to the trigger's journal through a real Prometheus and a real Alertmanager, and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import retrain_service
from retrain_service import MODEL, Served

from monitoring.analysis import exporter, store
from monitoring.analysis.store import Status
from monitoring.retrain import journal
from monitoring.rules.watch import Watch, watching
from windlass.contract import RetrainPolicy
from windlass.journal import read
from windlass.settings import Settings

TOOLS = Path(__file__).parents[4] / ".tools"
WAIT_S = 60.0


def wait(for_: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := for_()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def found_by_analysis(settings: Settings, *, drifted: bool) -> None:
    """Keep an analysis in which features have drifted, or have not, as the job keeps one."""
    now = time.time()
    check = {"check": "featureDrift", "verdict": "FAIL" if drifted else "PASS", "alarm": drifted}
    version = {
        "version": "3",
        "rows": 900,
        "checks": [{"name": "featureDrift", "verdict": check["verdict"], "reason": "", "evidence": {}}],
        "detection": {"columns": [], "checks": [check], "quality": []},
        "faults": [],
        "performance": [],
        "label_coverage": 0.9,
        "label_age_seconds": 60.0,
        "slices": {"worse": [], "highest": []},
        "skew": None,
    }
    whole = {"freshness": {"age_seconds": 60.0}, "volume": {"ratio": 1.0}, "slo": {"budgets": []}}
    checks = [
        {"name": n, "verdict": "PASS", "reason": "", "evidence": evidence} for n, evidence in whole.items()
    ]
    store.write(settings, MODEL, now, {"end": now, "checks": checks, "versions": [version]})
    store.note(settings, MODEL, Status(now, now, 1.0))


@pytest.fixture
def analysed(tmp_path: Path) -> Iterator[tuple[Settings, str]]:
    """A home with an analysis that found nothing, and where its metrics are."""
    settings = Settings(home=tmp_path / "home", project=tmp_path)
    found_by_analysis(settings, drifted=False)
    port = retrain_service.free_port()
    stop = exporter.serve(settings, port)
    try:
        yield settings, f"127.0.0.1:{port}"
    finally:
        stop()


@contextlib.contextmanager
def watched(folder: Path, page: str, trigger: Served, token: Path) -> Iterator[Watch]:
    with watching(
        folder,
        {"windlass-analysis": [page], "windlass-retrain": [f"127.0.0.1:{trigger.port}"]},
        webhook=f"http://127.0.0.1:{trigger.port}/alertmanager",
        token_file=token,
        interval_ms=250,
        tools=TOOLS,
    ) as watch:
        up = 'count(up{job=~"windlass.*"} == 1)'
        wait(lambda: any(found["value"][1] == "2" for found in watch.query(up)), "scrapes of both pages")
        yield watch


def of_drift(settings: Settings) -> list[dict[str, Any]]:
    """What the trigger journaled about drifted features."""
    path = journal.path(settings)
    return [r for r in read(path) if r.get("kind") == "featureDrift"] if path.exists() else []


def test_a_drift_found_by_the_analysis_starts_one_run_and_ends(
    tmp_path: Path, analysed: tuple[Settings, str]
) -> None:
    """Verify the way of a drift: file, metric, rule, route, webhook with its token, journal, run; and of its end."""
    settings, page = analysed
    policy = RetrainPolicy()
    with Served(settings.home, policy) as trigger:
        trigger.start()
        with watched(tmp_path / "watch", page, trigger, settings.home / "token") as watch:
            assert "WindlassFeatureDrift" not in watch.alerts()
            assert of_drift(settings) == []

            found_by_analysis(settings, drifted=True)
            accepted = wait(
                lambda: [r for r in of_drift(settings) if r["event"] == "accepted"], "the trigger's decision"
            )
            assert [r["cause"] for r in accepted] == ["featureDrift/3"]
            assert accepted[0]["detail"]["labels"] == {
                "alertname": "WindlassFeatureDrift",
                "model": MODEL,
                "version": "3",
                "severity": "info",
                "signal": "featureDrift",
            }
            # (a page that was late for a scrape has no series until the next one)
            ringing = wait(lambda: watch.alerts().get("WindlassFeatureDrift"), "the alert in Prometheus")
            assert ringing["model"] == MODEL
            runs = settings.runs_dir
            wait(lambda: list(runs.rglob("executed")), "the run")

            # it goes on ringing, and is told again and again
            told = 'sum(windlass_retrain_webhook_requests_total{result="accepted"})'
            wait(
                lambda: any(float(f["value"][1]) >= 1 for f in watch.query(told)),
                "the count of notifications",
            )

            found_by_analysis(settings, drifted=False)
            wait(lambda: "WindlassFeatureDrift" not in watch.alerts(), "the end of the alert")
            ended = wait(
                lambda: [r for r in of_drift(settings) if r["event"] == "cleared"], "the journaled end"
            )
            assert ended[-1]["champion"] == "3"
            assert [r["event"] for r in of_drift(settings)].count("accepted") == 1
            (executed,) = runs.rglob("executed")
            assert executed.read_text() == "once\n"


def test_alerts_with_a_strangers_token_start_nothing(tmp_path: Path, analysed: tuple[Settings, str]) -> None:
    """Verify that the trigger takes no notification without its token, counts it and journals nothing."""
    settings, page = analysed
    (tmp_path / "other").write_text("not-the-token")
    with Served(settings.home, RetrainPolicy()) as trigger:
        trigger.start()
        with watched(tmp_path / "watch", page, trigger, tmp_path / "other") as watch:
            found_by_analysis(settings, drifted=True)
            refused = 'windlass_retrain_webhook_requests_total{result="unauthorized"} > 0'
            wait(lambda: watch.query(refused), "a refused notification")
            held = wait(lambda: watch.held().get("WindlassFeatureDrift"), "the alert in Alertmanager")
            assert held == ("nobody", "retrain-trigger")
            assert of_drift(settings) == []
