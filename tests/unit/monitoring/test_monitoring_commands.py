"""`windlass drift`, `feedback` and `report` as they are typed, on a home made by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.cli.app import run

FIRST = 1359676800.0  # 2013-02-01
DAY = 86400.0


def windlass(*arguments: str) -> tuple[int, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run([*arguments, "--json"])
    return code, json.loads(out.getvalue())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    return tmp_path


def write_reference(home: Path, version: str = "1") -> None:
    import pandas as pd

    folder = home / "models" / "flights" / version
    folder.mkdir(parents=True)
    r = np.random.default_rng(0)
    columns = {"delay": r.exponential(10, 3000), "carrier": r.integers(0, 4, 3000).astype(float)}
    pd.DataFrame({**columns, "score": r.beta(2, 6, 3000)}).to_parquet(folder / "reference.parquet")
    kinds = {"delay": {"kind": "numeric"}, "carrier": {"kind": "categorical"}}
    (folder / "reference.json").write_text(json.dumps({"inputs": kinds}, sort_keys=True))
    labels = r.random(3000) < 0.25
    scores = np.clip(0.25 + 0.15 * labels + 0.1 * r.normal(size=3000), 0.01, 0.99)
    pd.DataFrame({"label": labels.astype(float), "score": scores}).to_parquet(folder / "evaluation.parquet")


def write_predictions(home: Path, *, longer: float = 1.0, n: int = 1500, days: float = 14.0) -> None:
    folder = home / "logs" / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    r = np.random.default_rng(1)
    with (folder / "flights-1.jsonl").open("a") as log:
        for i in range(n):
            record = {
                "request_id": f"r{i}",
                "model": "flights",
                "version": "1",
                "at": FIRST + i * days * DAY / n,
                "entities": {},
                "request": {},
                "features": [r.exponential(10) * longer, float(r.integers(0, 4))],
                "score": r.beta(2, 6),
                "latency_ms": 0.5,
                "source": "online",
                "mirrored": False,
            }
            log.write(json.dumps(record) + "\n")


def test_a_window_as_at_training_passes(home: Path) -> None:
    write_reference(home)
    write_predictions(home)
    code, found = windlass("drift", "flights")
    assert (code, found["version"], found["verdict"], found["rows"]) == (0, "1", "PASS", 1500)
    assert found["quality"]["verdict"] == "PASS"
    assert found["performance"]["verdict"] == "INCONCLUSIVE"


def test_a_moved_feature_is_named_and_evidently_agrees(home: Path) -> None:
    write_reference(home)
    write_predictions(home, longer=2.0)
    code, found = windlass("drift", "flights", "--html", str(home / "drift.html"))
    assert (code, found["verdict"]) == (0, "FAIL")
    assert [f["feature"] for f in found["features"] if f["drifted"]] == ["delay"]
    distances = {f["feature"]: f["value"] for f in [*found["features"], found["prediction"]]}
    assert found["evidently"]["values"] == pytest.approx(distances, abs=1e-9)
    assert (home / "drift.html").stat().st_size > 100_000


def test_the_window_is_the_last_two_weeks_or_the_one_asked_for(home: Path) -> None:
    write_reference(home)
    write_predictions(home, days=28.0)
    assert windlass("drift", "flights")[1]["rows"] == pytest.approx(750, abs=1)
    asked = windlass("drift", "flights", "--from", "2013-02-01", "--to", "2013-02-07")[1]
    assert (asked["from"][:10], asked["to"][:10]) == ("2013-02-01", "2013-02-08")
    assert asked["rows"] == pytest.approx(375, abs=1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("drift", "nothing"), 2, "unknown workload", id="unknown-workload"),
        pytest.param(("drift", "flights"), 1, "no prediction of flights was logged", id="nothing-logged"),
        pytest.param(
            ("drift", "flights", "--version", "9"), 1, "reference.parquet is missing", id="no-reference"
        ),
        pytest.param(("report", "--from", "nowhere"), 2, "summary.json is missing", id="no-demo-there"),
        pytest.param(("feedback", "r1"), 2, "name a request and its label", id="no-label"),
        pytest.param(("feedback", "r1", "2"), 2, "'label' is '2'", id="wrong-label"),
        pytest.param(("feedback", "--file", "nowhere.jsonl"), 2, "cannot be read", id="no-file"),
    ],
)
def test_what_cannot_be_done_is_said(home: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    got, answer = windlass(*arguments)
    assert got == code
    assert said in answer["error"]["message"]


def test_a_reversed_window_and_a_bad_time_are_refused(home: Path) -> None:
    write_reference(home)
    write_predictions(home, n=10)
    assert windlass("drift", "flights", "--from", "2013-03-01", "--to", "2013-02-01")[0] == 2
    assert windlass("drift", "flights", "--from", "yesterday")[0] == 2


def test_feedback_without_a_platform_goes_to_the_log_once_it_is_right(home: Path) -> None:
    from monitoring.labels import LabelTail

    lines = home / "labels.jsonl"
    lines.write_text(
        '{"request_id":"a","label":1}\n\n{"request_id":"b","label":0,"at":"2013-02-01T06:00:00Z"}\n'
    )
    code, found = windlass("feedback", "--file", str(lines))
    assert (code, found["accepted"]) == (0, 2)
    assert windlass("feedback", "c", "1", "--at", "2013-02-02T06:00:00Z")[1]["accepted"] == 1
    stored = LabelTail(home / "logs" / "feedback.jsonl").poll()
    assert [(s.request_id, s.label) for s in stored] == [("a", 1), ("b", 0), ("c", 1)]
    assert stored[1].at == FIRST + 6 * 3600
    lines.write_text('{"request_id":"d","label":1}\n{"request_id":"e"}\n')
    code, found = windlass("feedback", "--file", str(lines))
    assert code == 2 and "line 2.label" in found["error"]["message"]
    assert LabelTail(home / "logs" / "feedback.jsonl").poll() == stored


def test_a_report_of_a_demos_folder(home: Path, story: Any) -> None:
    folder = home / "demo"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(story.summary))
    (folder / "series.json").write_text(json.dumps(story.series))
    (folder / "decisions.jsonl").write_text("".join(json.dumps(d) + "\n" for d in story.decisions))
    code, found = windlass("report", "--from", str(folder))
    assert code == 0 and found["report"] == str(folder / "report.html")
    assert "61,975 requests" in (folder / "report.html").read_text()


def test_a_report_of_what_the_platform_has_logged(home: Path) -> None:
    write_reference(home)
    write_predictions(home, n=900)
    labels = "".join(json.dumps({"request_id": f"r{i}", "label": int(i % 4 == 0)}) + "\n" for i in range(600))
    (home / "labels.jsonl").write_text(labels)
    windlass("feedback", "--file", str(home / "labels.jsonl"))
    code, found = windlass("report", "flights")
    assert code == 0 and found["report"] == str(home / "report.html")
    text = (home / "report.html").read_text()
    assert "900 requests" in text and "Latency by day" in text and "No signals" not in text


def journaled(home: Path, *, days_ago: float, finished: bool) -> str:
    from datetime import UTC, datetime, timedelta

    from monitoring.retrain.journal import Trigger
    from monitoring.retrain.signals import Signal
    from windlass import catalog

    at = datetime.now(UTC) - timedelta(days=days_ago)
    policy = catalog.load("flights", home).retrain
    made = Trigger("flights", policy, home / "journal" / "triggers.jsonl", lambda name, signal: name)
    decision = made.offer(Signal("featureDrift", "featureDrift/1", at), at, live_release=False)
    assert decision.trigger is not None
    if finished:
        made.finished(decision.trigger, at, version="2")
    return decision.trigger


DATES = ("--from", "2013-01-01", "--to", "2013-03-31")


def test_a_person_waits_for_the_cool_down_like_anybody(home: Path) -> None:
    journaled(home, days_ago=1, finished=True)
    code, found = windlass("retrain", "flights", *DATES)
    assert (code, found["accepted"], found["rule"], found["run"]) == (0, False, "cooldown", None)
    assert "cool-down until" in found["reason"]


def test_a_run_going_on_holds_back_even_who_insists(home: Path) -> None:
    journaled(home, days_ago=400, finished=False)
    assert windlass("retrain", "flights", *DATES, "--override")[1]["rule"] == "concurrency"


def test_a_retraining_that_cannot_be_meant_leaves_no_trace(home: Path) -> None:
    code, found = windlass("retrain", "flights", "--from", "2013-03-31", "--to", "2013-01-01")
    assert code == 2 and "reversed" in found["error"]["message"]
    assert not (home / "journal").exists() or not list((home / "journal").glob("triggers.jsonl"))


def test_what_came_of_an_earlier_retraining_is_read_from_its_release(home: Path) -> None:
    from datetime import UTC, datetime

    from monitoring.retrain.following import follow
    from monitoring.retrain.journal import Trigger, history, path
    from windlass import catalog, settings
    from windlass.local.retraining.surroundings import Surroundings

    name = journaled(home, days_ago=90, finished=True)
    configured = settings.load()
    released(home, phase="RolledBack")
    workload = catalog.load("flights", home)
    made = Trigger("flights", workload.retrain, path(configured), lambda n, s: n)
    follow(made, Surroundings(configured, workload), datetime.now(UTC))
    assert [(t.id, t.helped) for t in history(path(configured), "flights")] == [(name, False)]


def test_an_older_run_that_cannot_be_asked_for_does_not_spoil_what_this_command_made(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that a trigger whose run is on another machine is complained of, and the new one is told of."""
    from dataclasses import replace
    from datetime import UTC, datetime, timedelta

    from monitoring.retrain.signals import Signal, trigger_id
    from pipelines.submit_local import OUTCOME, REQUEST, LocalRuns
    from windlass import catalog, settings
    from windlass.cli import retrain
    from windlass.contract import RetrainPolicy

    journaled(home, days_ago=400, finished=False)
    configured, workload = settings.load(), catalog.load("flights", home)
    workload = replace(workload, retrain=RetrainPolicy(cooldown=timedelta(0), concurrency=2))
    folder = LocalRuns(configured).folder(trigger_id("flights", "manual/now"))
    folder.mkdir(parents=True)
    (folder / REQUEST).write_text("{}")
    lost = {"version": "3", "passed": False, "champion": "1", "gates": [{"check": "auc", "passed": False}]}
    (folder / OUTCOME).write_text(json.dumps({"result": lost, "error": None, "seconds": 1.0}))
    result = retrain.offer(configured, workload, Signal("manual", "manual/now", datetime.now(UTC)))
    assert result["accepted"] and result["run"] == lost
    assert capsys.readouterr().err.count("was never submitted") == 2


def test_a_candidate_that_a_person_made_the_champion_has_an_outcome(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from windlass import catalog, settings
    from windlass.local.retraining.surroundings import Surroundings

    around = Surroundings(settings.load(), catalog.load("flights", home))
    monkeypatch.setattr(around, "champion", lambda: "2")
    assert around.outcome("3") is None, "its release may come yet"
    found = around.outcome("2")
    assert found is not None and found.helped and "a person" in found.reason


def released(home: Path, *, phase: str) -> None:
    """The journal of a release of version 2 that has ended."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from serving.release import spec, state
    from serving.release.journal import history
    from windlass.journal import Journal

    release = spec.loads(
        "apiVersion: windlass.dev/v1alpha1\nkind: Release\nmetadata: {name: flights-2}\n"
        "spec: {model: flights, candidate: '2', champion: '1', backend: local,\n"
        "  strategy: {type: canary, steps: [{weight: 10, minSamples: 10}]},\n"
        "  checks: [{name: errors, kind: guardrail, metric: errorRate, source: envoy, bound: 1}]}\n"
    )
    ended = replace(state.initial(release, "1"), phase=phase)
    folder = home / "journal" / "releases" / "flights"
    folder.mkdir(parents=True)
    journal = Journal(folder / "0001-flights-2.jsonl")
    now = datetime.now(UTC)
    journal.append(history.release_record(release, "1", now))
    journal.append({"kind": "decision", "seq": 1, "acts": False, "state": state.to_json(ended)})
    journal.close()
