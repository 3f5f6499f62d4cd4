"""The job on a home of real flights: one file a window, what it says over weeks, and its metrics."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from analysis_home import answers, write_bundle, write_logs
from local_http import serving
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from real_flights import Flights, flights

from monitoring.analysis import exporter, job, memories, signals, store
from monitoring.analysis.exporter import FAMILIES, AnalysisCollector
from monitoring.analysis.gathering import Moment
from monitoring.analysis.inputs import AnalysisPolicy
from monitoring.analysis.job import Told
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

CUT, END = "2013-05-25", "2013-06-01"


@pytest.fixture(scope="module")
def year() -> Flights:
    return flights(CUT)


def made(year: Flights, folder: Path) -> Settings:
    """Three weeks of answers; from the second on the temperature is 3 sd higher than it is."""
    write_bundle(folder, year, "2013-01-01", CUT, END)
    inputs = year.inputs.copy()
    hot = year.names.index("weather_temp")
    late = year.between("2013-06-08", "2014-01-01")
    inputs[late, hot] += 3 * np.nanstd(inputs[:, hot])
    write_logs(folder, answers(year, year.between(END, "2013-06-22"), inputs))
    return Settings(home=folder, project=Path(__file__).resolve().parents[4])


@pytest.fixture
def home(year: Flights, tmp_path: Path) -> Settings:
    return made(year, tmp_path)


DAYS = (8, 12, 16, 20)


@dataclass(frozen=True)
class Weeks:
    """A home with its analyses of `DAYS`, one after the other."""

    home: Settings
    documents: tuple[Any, ...]


@pytest.fixture(scope="module")
def weeks(year: Flights, tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    settings = made(year, tmp_path_factory.mktemp("weeks"))
    return Weeks(settings, tuple(job.run(settings, "flights", at(day)).document for day in DAYS))


def at(day: int, hour: int = 6) -> Moment:
    return Moment.at(datetime(2013, 6, day, hour, 20, tzinfo=UTC))


def verdict(document: Any, name: str) -> str:
    return next(c["verdict"] for c in document["versions"][0]["checks"] if c["name"] == name)


def test_drift_is_one_incident_from_its_first_day_on(weeks: Weeks) -> None:
    """Verify that it is seen after it began and not before, carried on with its beginning, and reported once."""
    found = weeks.documents
    assert verdict(found[0], "featureDrift") != "FAIL"
    assert verdict(found[-1], "featureDrift") == "FAIL"
    began = [[i for i in d["incidents"] if i["kind"] == "featureDrift"] for d in found]
    assert began[0] == []
    first = next(i for i, incidents in enumerate(began) if incidents)
    assert {i["since"] for incidents in began[first:] for i in incidents} == {
        f"2013-06-{DAYS[first]:02d}T06:00:00+00:00"
    }
    pages = [d["evidently"] for d in found]
    assert [p is not None for p in pages] == [i == first for i in range(len(DAYS))]
    page = (weeks.home.home / str(pages[first])).read_text()
    assert "weather_temp" in page
    assert "Share of Drifted Columns" in page


def test_an_old_window_is_judged_as_it_would_have_been_then(weeks: Weeks) -> None:
    """Verify that going back writes the same file again, and changes neither the newest one nor what is remembered."""
    newest = store.latest(weeks.home, "flights")
    remembered = memories.load(weeks.home, "flights", "1")
    back = job.run(weeks.home, "flights", at(DAYS[0]))
    assert back.path.name == "20130608T060000Z.json"
    assert dict(back.document) == weeks.documents[0] == json.loads(back.path.read_text())
    assert store.latest(weeks.home, "flights") == newest
    assert memories.load(weeks.home, "flights", "1").looked == remembered.looked


def test_twice_is_once_and_a_failed_attempt_costs_no_result(home: Settings) -> None:
    """Verify that a second start says the same in the same file, and that a third that fails leaves it, and is told."""
    first = job.run(home, "flights", at(8))
    again = job.run(home, "flights", at(8))
    assert first == again
    folder = first.path.parent
    assert sorted(p.name for p in folder.glob("*.json")) == [
        "20130608T060000Z.json", "latest.json", "status.json",
    ]  # fmt: skip
    good = store.status(home, "flights")
    (folder / "latest.json").write_text("{")
    with pytest.raises(WindlassError, match="damaged"):
        job.run(home, "flights", at(9))
    bad = store.status(home, "flights")
    assert bad.success == good.success
    assert "damaged" in (bad.error or "")
    assert (bad.attempt or 0) > (good.attempt or 0)


def test_what_a_clock_that_was_ahead_left_gives_way(home: Settings) -> None:
    """Verify that a window of the future is shown until the next analysis, and its look ends no later one."""
    ahead = datetime.now(UTC) + timedelta(days=400)
    job.run(home, "flights", Moment(ahead, ahead))
    assert store.latest(home, "flights")["end"] == ahead.timestamp()  # type: ignore[index]
    result = job.run(home, "flights", at(9))
    assert store.latest(home, "flights") == result.document
    assert (memories.load(home, "flights", "1").looked or 0) <= at(9).end.timestamp()


def test_an_end_waits_for_a_trigger_that_is_down(home: Settings, tmp_path: Path) -> None:
    """Verify that the trigger hears that data are in order again though it was down when they became so."""

    class Trigger(BaseHTTPRequestHandler):
        taken: ClassVar[list[dict[str, Any]]] = []

        def do_POST(self) -> None:
            self.taken.extend(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    first = job.run(home, "flights", at(8))
    since = "2013-06-07T06:00:00+00:00"
    began = signals.Incident("flights", "dataQuality", "1", since, None, True, "broken")
    document = {**first.document, "incidents": signals.document([began])}
    store.write(home, "flights", document["end"], document)
    down = job.run(home, "flights", at(9), told=Told("http://127.0.0.1:9/events"))
    assert [(i["kind"], i["ended"]) for i in down.document["incidents"]] == [
        ("dataQuality", "2013-06-09T06:00:00+00:00")
    ]
    assert "does not answer" in down.warnings[-1]
    with serving(Trigger) as address:
        for day in (10, 11):
            job.run(home, "flights", at(day), told=Told(f"{address}/events"))
    told = [e for e in Trigger.taken if e["data"]["kind"] == "dataQuality"]
    assert [(e["data"]["at"], e["data"].get("ended")) for e in told] == [(since, "2013-06-09T06:00:00+00:00")]


def test_events_of_another_model_of_that_name_are_judged_in_nothing(year: Flights, tmp_path: Path) -> None:
    """Verify that scores alone, which fit any model, are not held to this version's evaluation."""
    write_bundle(tmp_path, year, "2013-01-01", CUT, END)
    rows = answers(year, year.between(END, "2013-06-08"))
    write_logs(tmp_path, replace(rows, features=rows.features[:, :3]))
    settings = Settings(home=tmp_path, project=Path(__file__).resolve().parents[4])
    (version,) = job.run(settings, "flights", at(8), report=True).document["versions"]
    checks = {c["name"]: c for c in version["checks"]}
    assert {c["verdict"] for c in checks.values()} == {"INCONCLUSIVE"}
    for name in ("featureDrift", "dataQuality", "performanceDecay", "estimatedDecay"):
        assert "logged 3 inputs" in checks[name]["reason"]


def test_a_bundle_that_is_damaged_costs_what_needs_it_alone(home: Settings) -> None:
    (home.home / "models" / "flights" / "1" / "reference.parquet").write_bytes(b"PAR1 torn")
    result = job.run(home, "flights", at(8), report=True)
    checks = {c["name"]: c["verdict"] for c in result.document["versions"][0]["checks"]}
    assert checks["featureDrift"] == checks["dataQuality"] == "INCONCLUSIVE"
    assert "cannot be read" in result.warnings[0]
    assert result.document["evidently"] is None


def test_an_unknown_workload_is_refused_before_anything_is_written(home: Settings) -> None:
    with pytest.raises(UsageError, match="unknown workload"):
        job.run(home, "trains", at(8))
    assert not (home.home / "analysis" / "trains").exists()


def test_more_rows_than_are_held_are_thinned_evenly(weeks: Weeks, home: Settings) -> None:
    """Verify that a version with many rows is judged by every k-th, and that all are counted and measured."""
    whole = weeks.documents[0]
    thin = job.run(home, "flights", at(DAYS[0]), policy=AnalysisPolicy(most_rows=700)).document
    judged, all_of_them = thin["versions"][0], whole["versions"][0]
    assert judged["detection"]["rows"] == pytest.approx(all_of_them["detection"]["rows"] / 2, rel=0.02)
    assert judged["rows"] == all_of_them["rows"] == judged["distances"]["rows"]
    assert judged["distances"] == all_of_them["distances"]
    slow = [next(c for c in d["checks"] if c["name"] == "slo") for d in (whole, thin)]
    requests = [s["evidence"]["budgets"][1]["requests"] for s in slow]
    assert requests[0] == pytest.approx(requests[1], rel=0.01)
    volume = [
        next(c for c in d["checks"] if c["name"] == "volume")["evidence"]["rows"] for d in (whole, thin)
    ]
    assert volume[0] == volume[1]


def scraped(settings: Settings) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(settings))
    text = generate_latest(registry).decode()
    return {
        family.name: [(dict(s.labels), s.value) for s in family.samples]
        for family in text_string_to_metric_families(text)
    }


def test_metrics_are_what_the_newest_analysis_says(weeks: Weeks) -> None:
    document = weeks.documents[-1]
    found = scraped(weeks.home)
    assert set(found) == set(FAMILIES)
    mine = {"model": "flights", "version": "1"}
    said = {(labels["check"], labels["verdict"]) for labels, value in found["windlass_verdict"] if value == 1}
    checks = [*document["checks"], *document["versions"][0]["checks"]]
    assert said == {(c["name"], c["verdict"]) for c in checks}
    assert ({**mine, "kind": "feature"}, 1.0) in found["windlass_drift_alarm"]
    drift = {labels["column"]: value for labels, value in found["windlass_drift_lower"]}
    threshold = {labels["column"]: value for labels, value in found["windlass_drift_threshold"]}
    assert drift["weather_temp"] > threshold["weather_temp"]
    judged = document["versions"][0]["detection"]["columns"]
    counted = {(labels["kind"], labels["verdict"]): n for labels, n in found["windlass_drift_columns"]}
    assert {kind for kind, _ in counted} == {column["kind"] for column in judged} > {"feature"}
    for (kind, verdict_), n in counted.items():
        assert n == sum((c["kind"], c["verdict"]) == (kind, verdict_) for c in judged)
    assert counted["feature", "FAIL"] > 0 and sum(counted.values()) == len(judged)
    kinds = {labels["kind"] for labels, _ in found["windlass_performance"]}
    assert kinds == {"baseline", "measured", "estimated"}
    assert len(found["windlass_slice_loss"]) == 10
    assert found["windlass_analysis_last_success_timestamp_seconds"][0][1] > 1.7e9


def test_what_is_unknown_has_no_series(home: Settings) -> None:
    """Verify it for a version without a bundle, and that a damaged file costs its own workload alone."""
    (home.home / "models" / "flights" / "1" / "reference.parquet").unlink()
    (home.home / "models" / "flights" / "1" / "evaluation.parquet").unlink()
    job.run(home, "flights", at(20))
    other = home.home / "analysis" / "other"
    other.mkdir()
    (other / "status.json").write_text('{"success": 1.0}')
    whole = store.latest(home, "flights") or {}
    cut = {**whole, "versions": [{**whole["versions"][0], "skew": "none"}]}
    for damaged in ("{", "[]", "7", json.dumps(cut)):
        (other / "latest.json").write_text(damaged)
        assert all(labels["model"] == "flights" for said in scraped(home).values() for labels, _ in said)
    found = scraped(home)
    for name in ("drift_alarm", "drift_score", "slice_loss", "skew_mismatch_ratio", "volume_ratio"):
        assert found[f"windlass_{name}"] == [], name
    assert {v["kind"] for v, _ in found["windlass_performance"]} == {"measured"}
    assert ("featureDrift", "INCONCLUSIVE") in {
        (labels["check"], labels["verdict"]) for labels, _ in found["windlass_verdict"]
    }


def test_an_alert_goes_on_while_nobody_can_tell(home: Settings) -> None:
    """Verify that what failed shows as failing until an analysis says the contrary: its end lets retraining go on."""
    first = job.run(home, "flights", at(8))
    since = "2013-06-07T06:00:00+00:00"
    began = [
        signals.Incident("flights", kind, "1", since, None, True, "broken")
        for kind in ("featureDrift", "dataQuality")
    ]
    store.write(
        home, "flights", at(8).end.timestamp(), {**first.document, "incidents": signals.document(began)}
    )
    (home.home / "models" / "flights" / "1" / "reference.parquet").unlink()
    blind = job.run(home, "flights", at(9)).document
    assert {verdict(blind, c) for c in ("featureDrift", "predictionDrift", "dataQuality")} == {"INCONCLUSIVE"}
    found = scraped(home)
    said = {labels["check"]: labels["verdict"] for labels, _ in found["windlass_verdict"]}
    assert (said["featureDrift"], said["predictionDrift"], said["dataQuality"]) == (
        "FAIL", "INCONCLUSIVE", "FAIL",
    )  # fmt: skip
    assert [(labels["kind"], value) for labels, value in found["windlass_drift_alarm"]] == [("feature", 1.0)]


def test_when_features_were_materialized_is_shown(tmp_path: Path) -> None:
    """Verify that the note of a run shows with its bound, and that a damaged one costs its own workload alone."""
    home = Settings(home=tmp_path, project=tmp_path)
    home.materialized_dir.mkdir(parents=True)
    note = {"ended": 1000.5, "since": 0.0, "until": 500.0, "rows": {"a": 3}, "stale_after": 10800.0}
    for name, content in (
        ("flights", note),
        ("payments", {**note, "stale_after": None}),
        ("broken", {**note, "rows": 3}),
    ):
        (home.materialized_dir / f"{name}.json").write_text(json.dumps(content))
    found = scraped(home)
    assert found["windlass_features_materialized_timestamp_seconds"] == [
        ({"model": "flights"}, 1000.5),
        ({"model": "payments"}, 1000.5),
    ]
    assert found["windlass_features_stale_after_seconds"] == [({"model": "flights"}, 10800.0)]


def test_no_home_no_series(tmp_path: Path) -> None:
    found = scraped(Settings(home=tmp_path, project=tmp_path))
    assert set(found) == set(FAMILIES)
    assert all(samples == [] for samples in found.values())


def test_the_metrics_are_served(weeks: Weeks) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop = exporter.serve(weeks.home, port)
    try:
        with pytest.raises(WindlassError, match="choose another port"):
            exporter.serve(weeks.home, port)
        with pytest.raises(WindlassError, match="choose another port"):
            exporter.serve(weeks.home, 70_000)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b'windlass_window_rows{model="flights",version="1"}' in answer.read()
    finally:
        stop()


def test_the_command_prints_one_object_or_says_what_is_wrong(tmp_path: Path) -> None:
    project = Path(__file__).resolve().parents[4]
    environment = {**os.environ, "WINDLASS_HOME": str(tmp_path), "WINDLASS_PROJECT": str(project)}

    def windlass(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "monitoring.analysis", *words]
        return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True)

    done = windlass("flights", "--now", "2013-06-08T06:20", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["to"] == "2013-06-08T06:00:00+00:00"
    told = windlass("flights", "--now", "2013-06-08T06:20")
    assert "freshness        INCONCLUSIVE" in told.stdout
    wrong = windlass("flights", "--now", "soon")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--now 'soon' is not a date" in wrong.stderr
    for words, what in (
        (("--now", "2062-06-08"), "lies in the future"),
        (("--now", "0001-01-01"), "is not a date"),
        (("--now", "2013-06-08", "--end", "2013-06-09"), "lies after 2013-06-08"),
    ):
        early = windlass("flights", *words)
        assert early.returncode == 2 and what in early.stderr
