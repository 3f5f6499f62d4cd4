"""Online against offline: equal where the servers did right, and each way to do wrong is found."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.cli.app import run
from windlass.errors import UsageError, WindlassError
from windlass.features import asof, parity
from windlass.settings import Settings

Record = dict[str, Any]
BEGIN = datetime(2013, 2, 8, 14, tzinfo=UTC)


def log(built: object, count: int = 60, seed: int = 0) -> list[Record]:
    """What a server that does right would have logged of random flights."""
    workload = built.workload
    rows = built.prepared.sample(count, random_state=seed).reset_index(drop=True)
    asked = rows[[*workload.entities, "event_timestamp"]]
    names = [feature for view in workload.views for feature in view.features]
    features = asof.lookup(workload, built.settings, asked)[names].to_numpy()
    records = []
    for i, row in enumerate(rows.to_dict("records")):
        request = {f.name: row[f.name] for f in workload.request_fields}
        sent = [
            float(f.categories.index(request[f.name])) if f.categories else float(request[f.name])
            for f in workload.request_fields
        ]
        vector = [None if np.isnan(v) else float(v) for v in features[i]] + sent
        records.append(
            {
                "request_id": f"r{i}", "model": "flights", "version": str(1 + i % 2),
                "at": row["event_timestamp"].timestamp(),
                "entities": {e: row[e] for e in workload.entities}, "request": request, "features": vector,
                "score": 0.5, "latency_ms": 0.4, "source": "online", "mirrored": False,
            }
        )  # fmt: skip
    return records


def names(built: object) -> list[str]:
    return list(built.workload.model_inputs)


def changed(records: list[Record], row: int, place: int, change: Callable[[Any], Any]) -> list[Record]:
    vector = list(records[row]["features"])
    vector[place] = change(vector[place])
    return [*records[:row], {**records[row], "features": vector}, *records[row + 1 :]]


def known(records: list[Record], place: int) -> int:
    """A record in which this feature has a value that is no whole number."""
    return next(
        i for i, r in enumerate(records) if r["features"][place] is not None and r["features"][place] % 1
    )


def test_servers_that_do_right_are_in_parity(built: object) -> None:
    """Verify that a faithful log differs in nothing, through Feast."""
    report = parity.check(built.workload, built.settings, log(built))
    assert (report.checked, report.mismatched, report.by_feature) == (60, 0, {})
    assert report.parity
    assert report.max_abs_difference == 0.0


@pytest.mark.parametrize(
    ("feature", "change", "found"),
    [
        pytest.param("weather_wind_speed", lambda v: v * 1.6, True, id="wrong-unit"),
        pytest.param("weather_wind_speed", lambda v: v * (1 + 1e-5), True, id="just-above-the-tolerance"),
        pytest.param("weather_wind_speed", lambda v: v * (1 + 1e-8), False, id="rounding"),
        pytest.param("weather_wind_speed", lambda v: None, True, id="missing"),
        pytest.param("sched_elapsed", lambda v: v + 1, True, id="request-field"),
        pytest.param("carrier", lambda v: v + 1, True, id="category"),
        pytest.param("carrier_arrivals_24h_count", lambda v: v + 1e-7, True, id="counts-are-exact"),
    ],
)
def test_a_single_wrong_value_is_found(
    built: object, feature: str, change: Callable[[float], float | None], found: bool
) -> None:
    """Verify that one value among thousands is named with its feature and version."""
    records = log(built)
    place = names(built).index(feature)
    row = known(records, place) if feature.startswith("weather") else 7
    report = parity.check(built.workload, built.settings, changed(records, row, place, change))
    assert report.parity is not found
    assert report.by_feature == ({feature: 1} if found else {})
    assert report.by_version == ({records[row]["version"]: 1} if found else {})


def test_a_value_where_none_was_known_is_found(built: object) -> None:
    """Verify that a missing value is equal to a missing value only."""
    records = log(built)
    place = names(built).index("tail_arr_delay")
    row = next(i for i, r in enumerate(records) if r["features"][place] is None)
    report = parity.check(built.workload, built.settings, changed(records, row, place, lambda _: 0.0))
    assert report.by_feature == {"tail_arr_delay": 1}


def test_values_of_another_hour_are_found(built: object) -> None:
    """Verify that a store an hour behind is seen for what it is."""
    records = [{**r, "at": r["at"] + 3600} for r in log(built)]
    report = parity.check(built.workload, built.settings, records)
    assert report.mismatched > 40


def test_answers_that_say_they_are_degraded_are_counted_apart(built: object) -> None:
    """Verify that a fallback is not taken for a wrong value."""
    records = log(built)
    records[:5] = [{**r, "source": "cached", "features": [None] * len(r["features"])} for r in records[:5]]
    report = parity.check(built.workload, built.settings, records)
    assert (report.checked, report.degraded, report.mismatched) == (55, 5, 0)


def test_nothing_compared_proves_nothing(built: object) -> None:
    """Verify that an empty log is no parity."""
    assert not parity.check(built.workload, built.settings, []).parity


def test_the_order_of_inputs_is_the_bundles(built: object, tmp_path: Path) -> None:
    """Verify that a version whose model takes its inputs in another order is compared in that order."""
    settings = built.scratch(tmp_path / "home")
    workload = built.workload
    inputs = [{"name": f, "view": v.name, "default": None} for v in workload.views for f in v.features]
    inputs += [
        {"name": f.name, "view": None, "categories": list(f.categories) or None, "default": None}
        for f in workload.request_fields
    ]
    path = settings.bundles_dir / "flights" / "1" / "serving.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"inputs": inputs[::-1]}))
    records = [r for r in log(built) if r["version"] == "1"]
    assert not parity.check(workload, settings, records).parity
    turned = [{**r, "features": r["features"][::-1]} for r in records]
    assert parity.check(workload, settings, turned).parity


def test_a_vector_of_another_length_is_refused(built: object) -> None:
    """Verify that a log of an older build is named, not compared in the wrong places."""
    records = [{**r, "features": r["features"][:-1]} for r in log(built, 5)]
    with pytest.raises(WindlassError, match="inputs"):
        parity.check(built.workload, built.settings, records)


def write(path: Path, records: list[Record], tail: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(json.dumps(r).encode() + b"\n" for r in records) + tail)
    return path


def test_mirrored_copies_and_a_torn_last_line_are_left_out(built: object, tmp_path: Path) -> None:
    """Verify what is read of a log that a server is still writing."""
    settings = Settings(home=tmp_path, project=tmp_path)
    records = log(built, 6)
    records[2]["mirrored"] = True
    write(settings.logs_dir / "predictions" / "a.jsonl", records[:3], b'{"request_id": "half')
    write(settings.logs_dir / "predictions" / "b.jsonl", records[3:])
    assert [r["request_id"] for r in parity.records(settings)] == ["r0", "r1", "r3", "r4", "r5"]


def test_a_limit_takes_from_all_of_the_log() -> None:
    """Verify that few of many are spread evenly and always the same."""
    many = [{"n": i} for i in range(1000)]
    few = [r["n"] for r in parity.spread(many, 10)]
    assert few == list(range(0, 1000, 100))
    assert parity.spread(many, 2000) == many


@pytest.fixture
def home(built: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The command line in a home with the offline rows."""
    settings = built.scratch(tmp_path / "home")
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    return settings


def test_the_command_reports_parity_as_json(
    built: object, home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify `windlass features check --json`: its object, and exit codes for equal and for different."""
    path = home.logs_dir / "predictions" / "flights.jsonl"
    write(path, log(built))
    assert run(["features", "check", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["parity"] is True
    assert (result["checked"], result["mismatched"], result["max_abs_difference"]) == (60, 0, 0.0)
    assert result["by_feature"] == {}

    place = names(built).index("distance")
    write(path, changed(log(built), 3, place, lambda v: v + 100))
    assert run(["features", "check", "flights", "--json", "--limit", "60"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["parity"] is False
    assert result["by_feature"] == {"distance": 1}
    assert result["max_abs_difference"] == 100


def test_a_version_that_was_rolled_back_is_left_out_unless_asked_for(
    built: object, home: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a fault which the release engine caught is not reported as one that nobody saw."""
    from serving.release.journal import history
    from windlass.cli import features as command

    records = log(built)
    place = names(built).index("weather_temp")
    for record in records:
        if record["version"] == "2":
            record["features"][place] = 0.0
    write(home.logs_dir / "predictions" / "flights.jsonl", records)
    assert run(["features", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["by_version"] == {"2": 30}

    _release_that_ended(home, "2", "RolledBack")
    assert [p.name for _, _, p in history.files(home.journal_dir / "releases", "flights")] == [
        "0001-flights-2.jsonl"
    ]
    assert run(["features", "check", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["checked"], result["excluded"]) == (30, {"2": 30})
    assert run(["features", "check", "--json", "--version", "2"]) == 1
    assert json.loads(capsys.readouterr().out)["by_feature"] == {"weather_temp": 30}
    assert command.LIMIT == 10_000


def _release_that_ended(home: Settings, version: str, phase: str) -> None:
    """A release's journal with its first record and one decision, as the controller writes them."""
    from components import release_request
    from serving.release import spec, state
    from windlass import catalog
    from windlass.journal import Journal

    document = release_request.document(catalog.load("flights", home.project), version, "1")
    begun = state.initial(spec.parse(document), "1")
    path = home.journal_dir / "releases" / "flights" / f"0001-flights-{version}.jsonl"
    with contextlib.closing(Journal(path)) as journal:
        journal.append({"kind": "release", "document": document, "champion": "1"})
        ended = replace(begun, phase=phase)
        journal.append({"kind": "decision", "seq": 1, "acts": False, "state": state.to_json(ended)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--log", "none.jsonl"], "no such file", id="no-log"),
        pytest.param(["--limit", "0"], "--limit 0", id="no-limit"),
        pytest.param(["nothing"], "unknown workload 'nothing'", id="no-workload"),
    ],
)
def test_what_cannot_be_checked_is_a_usage_error(
    home: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Verify exit code 2 and a message that names the value."""
    assert run(["features", "check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_log_of_something_else_is_named_with_its_line(home: Settings, tmp_path: Path) -> None:
    """Verify that a wrong file is no crash."""
    path = write(tmp_path / "other.jsonl", [{"label": 1}])
    with pytest.raises(UsageError, match="line 1 is no prediction record"):
        list(parity.records(home, path))


def test_a_log_without_predictions_fails_the_check(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that there is no green light for nothing."""
    assert run(["features", "check"]) == 1
    assert "no prediction to compare" in capsys.readouterr().out


def test_event_times_survive_the_log(built: object) -> None:
    """Verify that a time of microseconds comes back from its seconds as a float."""
    times = [BEGIN + timedelta(microseconds=7 * i + 333_333) for i in range(1000)]
    entities = dict.fromkeys(built.workload.entities, "x")
    rows = parity.entity_rows(built.workload, [{"entities": entities, "at": t.timestamp()} for t in times])
    assert [t.to_pydatetime() for t in rows["event_timestamp"]] == times
