"""Where a version comes from and what became of it: from journals, registry and a run's result, both ways."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.registry import VersionInfo
from monitoring.retrain import journal
from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import Signal
from serving.release import spec, state
from serving.release.journal import history
from windlass.cli import app
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError
from windlass.journal import Journal
from windlass.local import lineage
from windlass.settings import Settings

NOW = datetime(2013, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODEL = "flights"
DRIFT = Signal(
    "featureDrift", "featureDrift/1", NOW, {"share": 0.4, "worst": {"dep_delay": 0.31}}, champion="1"
)
VAIN = Signal("performanceDecay", "performanceDecay/2", NOW + 50 * HOUR, {"auc": 0.61}, champion="2")
GATES = [
    {"check": "minimumAuc", "passed": True, "value": 0.76, "bound": 0.7, "detail": ""},
    {"check": "calibration", "passed": True, "value": 0.02, "bound": 0.1, "detail": ""},
]


def known(version: str, run: str, **tags: str) -> VersionInfo:
    aliases = ("champion",) if version == "3" else ()
    trained = ("2013-01-01T00:00:00+00:00", "2013-05-25T00:00:00+00:00")
    return VersionInfo(
        MODEL, version, "champion" if aliases else "retired", *trained, 0.76, run, aliases, tags
    )


def released(settings: Settings, number: int, candidate: str, champion: str, phase: str) -> None:
    release = spec.loads(
        f"apiVersion: windlass.dev/v1alpha1\nkind: Release\nmetadata: {{name: flights-{candidate}}}\n"
        f"spec: {{model: flights, candidate: '{candidate}', champion: '{champion}', backend: local,\n"
        "  strategy: {type: canary, steps: [{weight: 10, minSamples: 10}]},\n"
        "  checks: [{name: errors, kind: guardrail, metric: errorRate, source: envoy, bound: 1}]}\n"
    )
    ended = replace(
        state.initial(release, champion),
        phase=phase,  # type: ignore[arg-type]
    )
    folder = settings.journal_dir / "releases" / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    kept = Journal(folder / f"{number:04d}-flights-{candidate}.jsonl")
    at = NOW + (number * 10) * HOUR
    kept.append(history.release_record(release, champion, at))
    decided = {"kind": "decision", "seq": 1, "acts": False, "state": state.to_json(ended)}
    kept.append({**decided, "at": (at + HOUR).isoformat(), "reason": "all checks hold", "check": None})
    kept.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Version 1, drift, version 2 promoted over it, a vain retraining, then version 3 by hand over version 2."""
    settings = Settings(home=tmp_path, project=tmp_path)
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    trigger = Trigger(MODEL, RetrainPolicy(cooldown=HOUR), journal.path(settings), lambda n, _: f"local:{n}")
    made = trigger.offer(DRIFT, NOW, live_release=False).trigger
    assert made is not None
    trigger.offer(DRIFT, NOW + HOUR, live_release=False)
    trigger.finished(made, NOW + 2 * HOUR, version="2", seconds=90.0)
    trigger.resolved(made, NOW + 20 * HOUR, helped=True, reason="release flights-2: Promoted", version="2")
    vain = trigger.offer(VAIN, NOW + 50 * HOUR, live_release=False).trigger
    assert vain is not None
    trigger.resolved(vain, NOW + 51 * HOUR, helped=False, reason="the run failed: no rows", error="no rows")
    folder = settings.runs_dir / made
    folder.mkdir(parents=True)
    window = {"from": "2013-01-01T00:00:00+00:00", "to": "2013-06-01T00:00:00+00:00"}
    (folder / "result.json").write_text(json.dumps({"version": "2", "gates": GATES, "window": window}))
    versions = [
        known("1", "first"),
        known("2", made, data_version="a1b2c3", compared_with="1", passed="true", data_hash="h"),
        known("3", "by-hand"),
    ]
    registry = settings.registry_dir
    registry.mkdir()
    (registry / "mlflow.db").write_bytes(b"no database")
    status = (registry / "mlflow.db").stat()
    stamp = [status.st_mtime_ns, status.st_size, status.st_ino]
    (registry / "snapshot.json").write_text(
        json.dumps({"stamp": stamp, "models": {MODEL: [asdict(v) for v in versions]}})
    )
    released(settings, 1, "2", "1", "Promoted")
    released(settings, 2, "3", "2", "Promoted")
    return settings


def windlass(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = app.run(["lineage", *words, "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, told


def test_a_version_goes_back_to_its_signal_and_forward_to_what_replaced_it(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = windlass(capsys, MODEL, "2")
    assert (code, told["model"], told["version"]) == (0, MODEL, "2")
    chain = told["chain"]
    assert [link["kind"] for link in chain] == [
        "signal", "trigger", "data", "run", "gate", "gate", "version", "release", "outcome", "replacedBy",
    ]  # fmt: skip
    links = {link["kind"]: link for link in chain}
    signal = links["signal"]
    assert (signal["id"], signal["at"]) == ("featureDrift/1", NOW.isoformat())
    assert signal["detail"]["evidence"] == {"share": 0.4, "worst": {"dep_delay": 0.31}}
    assert signal["detail"]["heard_again"] == 1
    trigger = links["trigger"]["id"]
    assert (links["run"]["id"], links["run"]["detail"]["reference"]) == (trigger, f"local:{trigger}")
    assert links["data"]["id"] == "a1b2c3"
    assert links["gate"]["detail"] == {"passed": True, "value": 0.02, "bound": 0.1, "detail": ""}
    assert links["version"]["detail"]["compared_with"] == "1"
    assert (links["release"]["id"], links["release"]["detail"]["phase"]) == ("flights-2", "Promoted")
    assert links["release"]["detail"]["reason"] == "all checks hold"
    assert links["outcome"]["detail"] == {"helped": True, "reason": "release flights-2: Promoted"}
    assert (links["replacedBy"]["id"], links["replacedBy"]["detail"]) == ("3", {"release": "flights-3"})


def test_the_champion_is_meant_where_no_version_is_named(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    told = windlass(capsys, MODEL)[1]
    assert told["version"] == "3"
    assert [link["kind"] for link in told["chain"]] == ["run", "version", "release"]


def test_a_trigger_and_its_run_lead_to_the_same_chain(home: Settings) -> None:
    made = journal.history(journal.path(home), MODEL)[0].id
    assert lineage.of_run(home, MODEL, made) == lineage.of_version(home, MODEL, "2")
    assert lineage.of_run(home, MODEL, "by-hand") == lineage.of_version(home, MODEL, "3")


def test_a_retraining_that_made_nothing_has_a_chain_that_says_why(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    vain = journal.history(journal.path(home), MODEL)[1].id
    code, told = windlass(capsys, MODEL, "--trigger", vain)
    assert (code, told["version"]) == (0, None)
    links = {link["kind"]: link["detail"] for link in told["chain"]}
    assert list(links) == ["signal", "trigger", "run", "outcome"]
    assert (links["run"]["state"], links["run"]["error"]) == ("failed", "no rows")
    assert links["outcome"]["reason"] == "the run failed: no rows"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param([MODEL, "9"], "has no version '9'; it has: 1, 2, 3", id="no-version"),
        pytest.param(
            [MODEL, "--run", "r9"], "has no run or trigger 'r9'; it has: retrain-flights-", id="no-run"
        ),
        pytest.param(["trains"], "'trains' has no champion; name one of its versions: none", id="no-model"),
        pytest.param([MODEL, "2", "--run", "r9"], "name one of them", id="both"),
    ],
)
def test_what_is_not_known_is_said_with_what_is(
    home: Settings, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, told = windlass(capsys, *words)
    assert code == UsageError.exit_code and said in told["error"]["message"]


def test_what_is_open_is_told_beside_the_chain(home: Settings) -> None:
    trigger = Trigger(MODEL, RetrainPolicy(cooldown=HOUR), journal.path(home), lambda n, _: n)
    late = NOW + 90 * HOUR
    opened = trigger.offer(Signal("manual", "manual/1", late), late, live_release=False).trigger
    assert lineage.of_version(home, MODEL, "2").open == (opened,)
    assert lineage.of_run(home, MODEL, str(opened)).chain[-1].detail == {
        "reference": opened,
        "state": "submitted",
    }


def test_people_read_the_same(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["lineage", MODEL, "2"]) == 0
    text = capsys.readouterr().out
    for part in ("flights, version 2", "signal     featureDrift/1", "helped: true", "replacedBy 3"):
        assert part in text


def test_a_journal_that_cannot_be_read_is_named(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    path = journal.path(home)
    path.write_text(path.read_text() + "no record\n")
    code, told = windlass(capsys, MODEL, "2")
    assert code == 1 and f"journal {path} cannot be read" in told["error"]["message"]


def test_a_version_that_was_registered_by_hand_and_a_second_trigger_of_one_version_have_a_chain(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that a version of no run is told of, and that each of two triggers that made one version is there."""
    code, told = windlass(capsys, MODEL, "3")
    assert code == 0 and "version" in [link["kind"] for link in told["chain"]]
    trigger = Trigger(MODEL, RetrainPolicy(cooldown=HOUR), journal.path(home), lambda n, _: n)
    again = trigger.offer(
        Signal("schedule", "schedule/x", NOW + 90 * HOUR), NOW + 90 * HOUR, live_release=False
    )
    assert again.trigger is not None
    trigger.resolved(again.trigger, NOW + 91 * HOUR, helped=False, reason="version 2 again", version="2")
    code, told = windlass(capsys, MODEL, "2")
    kinds = [link["kind"] for link in told["chain"]]
    assert code == 0 and kinds.count("trigger") == 2 and kinds.count("outcome") == 2
