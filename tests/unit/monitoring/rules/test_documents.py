"""The rules have one source: what lies in the project is what it writes, and says what an alert must say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from monitoring.rules import document
from monitoring.rules.__main__ import PLACES, main, written
from monitoring.rules.objectives import Objectives
from monitoring.rules.rule import Alert
from windlass.contract import RetrainPolicy

ALERTS = document.alerts()
SIGNALS = {
    "WindlassFeatureDrift": "featureDrift",
    "WindlassPredictionDrift": "predictionDrift",
    "WindlassPerformanceDecay": "performanceDecay",
    "WindlassDataQuality": "dataQuality",
}
OTHERS = {
    "WindlassLabelDrift",
    "WindlassEstimatedDecay",
    "WindlassDataStale",
    "WindlassFeaturesStale",
    "WindlassVolumeAnomaly",
    "WindlassSkew",
    "WindlassLabelsMissing",
    "WindlassAnalysisAbsent",
    "WindlassMetricsAbsent",
    "WindlassErrorBudgetBurnFast",
    "WindlassErrorBudgetBurnSlow",
    "WindlassLatencyBudgetBurnFast",
    "WindlassLatencyBudgetBurnSlow",
    "WindlassFeatureStoreDown",
    "WindlassModelFailing",
    "WindlassQueueFull",
    "WindlassCollectorStorage",
    "WindlassCollectorBackpressure",
    "WindlassClockJump",
    "WindlassTrainingDataRefused",
    "WindlassRetrainEscalated",
    "WindlassRetrainStuck",
    "WindlassRetrainCost",
    "WindlassPipelineFailed",
    "WindlassOperatorIdle",
    "WindlassOperatorFailing",
    "WindlassReleaseWaits",
    "WindlassInconclusive",
}


@pytest.mark.parametrize("place", PLACES)
def test_files_are_what_the_source_writes(project: Path, place: str) -> None:
    """Verify that nobody edited a rendered file, or forgot to render it."""
    assert (project / place).read_text() == written(Objectives(), document.RUNBOOKS)[place]


def test_the_custom_resource_holds_the_same_rules(project: Path) -> None:
    """Verify that a cluster watches exactly what a Prometheus on a machine watches."""
    plain, resource = (yaml.safe_load((project / place).read_text()) for place in PLACES)
    assert resource["kind"] == "PrometheusRule" and resource["apiVersion"] == "monitoring.coreos.com/v1"
    assert resource["spec"] == plain
    assert len(plain["groups"]) > 5


def test_prometheus_takes_the_file(project: Path, promtool: Path) -> None:
    """Verify that promtool finds each expression valid."""
    ended = subprocess.run([promtool, "check", "rules", project / PLACES[0]], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    total = sum(len(group.rules) for group in document.groups())
    assert f"{total} rules found" in ended.stdout


def test_prometheus_takes_the_configuration(project: Path, promtool: Path) -> None:
    """Verify that the configuration to copy is valid, with its rules, and that its jobs are watched by them."""
    file = project / "monitoring" / "rules" / "prometheus.yml"
    ended = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 rule files found" in ended.stdout
    jobs = [job["job_name"] for job in yaml.safe_load(file.read_text())["scrape_configs"]]
    assert len(jobs) == 5 and all(re.fullmatch("windlass.*", job) for job in jobs)


def test_alerts_are_the_agreed_ones() -> None:
    """Verify the names that runbooks, drills and the trigger know."""
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names))
    assert set(names) == OTHERS | set(SIGNALS)
    assert {alert.name: alert.signal for alert in ALERTS if alert.signal} == SIGNALS
    assert set(SIGNALS.values()) <= set(RetrainPolicy().signals)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_to_do(alert: Alert) -> None:
    """Verify that each alert has a severity, a summary in a line, a next command and its runbook."""
    stated = alert.document("https://example.org/books/")
    assert stated["labels"]["severity"] in ("page", "ticket", "info")
    always = re.sub(r"\{\{ with .*?\{\{ end \}\}", "", alert.summary)
    assert "\n" not in alert.summary and len(always) < 120
    assert re.search(r"Next: `[^`]+`", alert.description)
    assert stated["annotations"]["runbook_url"] == f"https://example.org/books/{alert.name}"
    if alert.signal:  # what the trigger needs to name the incident
        assert alert.expr.startswith("max by (namespace, model, version)")


def test_another_objective_moves_the_limits(tmp_path: Path) -> None:
    """Verify that a platform with other promises gets rules of its own."""
    assert main(["--out", str(tmp_path), "--set", "availability=0.999", "--set", "retrain_within=2h"]) == 0
    text = (tmp_path / PLACES[0]).read_text()
    assert "ratio_rate1h > 0.0144 and" in text  # 14.4 times 0.1 %
    assert "windlass_retrain_queue_age_seconds) > 7200" in text
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            "availabilty=1", "'availabilty' is no objective; there are availability, fast", id="unknown"
        ),
        pytest.param("data_within=soon", "'soon' is no duration; give a whole number", id="no-duration"),
        pytest.param("shed=many", "could not convert string to float", id="no-number"),
        pytest.param("fast_seconds=0.07", "has no such bucket; choose one of 0.0001", id="no-bucket"),
        pytest.param("availability", "--set availability: ", id="no-value"),
    ],
)
def test_an_objective_that_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    """Verify that a wrong limit is named, and nothing is written: an alert that can never ring is worse than none."""
    assert main(["--out", str(tmp_path), "--set", change]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_hurried_rules_differ_in_their_waiting_only() -> None:
    """Verify that a drill runs the real conditions, only sooner."""
    usual, hurried = document.groups(), document.hurried(document.groups(), wait="1s", interval="1s")
    for one, other in zip(usual, hurried, strict=True):
        assert other.interval == "1s"
        for a, b in zip(one.rules, other.rules, strict=True):
            assert a.expr == b.expr and a.name == b.name
            assert not isinstance(b, Alert) or (b.wait, b.keep) == ("1s", "0m")
