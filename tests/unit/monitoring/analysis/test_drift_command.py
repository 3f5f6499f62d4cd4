"""`windlass drift` says what alarms go by, and leaves the schedule's looks alone."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from analysis_home import answers, write_bundle, write_logs
from real_flights import flights

from windlass.cli.app import run

CUT, END = "2013-05-25", "2013-06-01"


def windlass(*arguments: str) -> tuple[int, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run([*arguments, "--json"])
    return code, json.loads(out.getvalue())


def test_a_persons_question_is_answered_by_the_same_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    year = flights(CUT)
    write_bundle(tmp_path, year, "2013-01-01", CUT, END)
    write_logs(tmp_path, answers(year, year.between(END, "2013-06-22")))
    code, found = windlass("drift", "flights", "--from", "2013-06-06", "--to", "2013-06-19")
    assert code == 0
    rows = year.between("2013-06-06", "2013-06-20").sum()
    assert found["rows"] == found["analysis"]["rows"] == rows
    checks = {c["name"]: c["verdict"] for c in found["analysis"]["checks"]}
    assert set(checks) == {
        "freshness", "volume", "slo", "featureDrift", "predictionDrift", "labelDrift", "dataQuality",
        "performanceDecay", "estimatedDecay", "skew",
    }  # fmt: skip
    assert checks["dataQuality"] == "PASS"
    assert found["analysis"]["slices"]["tested"] > 100
    assert {f["kind"] for f in found["analysis"]["performance"]} == {"baseline", "measured", "estimated"}
    assert not (tmp_path / "analysis").exists()
    write_bundle(tmp_path, year, "2013-01-01", CUT, END, version="2")
    code, said = windlass("drift", "flights", "--version", "2")
    assert code == 1 and "version 2 of flights answered nothing that was logged" in said["error"]["message"]
    code, said = windlass("drift", "flights", "--to", "9999-12-31")
    assert code == 2 and "is not a date" in said["error"]["message"]
    code, empty = windlass("drift", "flights", "--version", "2", "--to", "2013-06-19")
    assert code == 0 and empty["rows"] == 0
    checks = [*empty["analysis"]["checks"], {"name": "features", "verdict": empty["verdict"]}]
    unknown = {c["verdict"] for c in checks if c["name"] not in ("freshness", "volume", "slo")}
    assert unknown == {"INCONCLUSIVE"}
