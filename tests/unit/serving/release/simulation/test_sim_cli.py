"""`windlass sim`."""

from __future__ import annotations

import json

import pytest

from windlass.cli import app


def test_one_object_and_nothing_else(capsys):
    assert app.run(["sim", "--seeds", "3", "--start", "40", "--no-bugs", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["seeds"], found["start"], found["violations"], found["violation_list"]) == (3, 40, 0, [])
    assert (found["planted_bugs"], found["caught"], found["missed"]) == (0, 0, [])
    assert found["decisions"] > 10
    assert found["faults_injected"] == sum(found["faults"].values()) > 5


def test_people_get_a_table(capsys):
    assert app.run(["sim", "--seeds", "1", "--no-bugs", "--workers", "1"]) == 0
    assert "violations: 0" in capsys.readouterr().out


def test_the_log_of_a_seed_is_the_same_every_time(tmp_path, capsys):
    for name in ("first", "again"):
        command = ["sim", "--seeds", "1", "--start", "5", "--no-bugs", "--workers", "1"]
        assert app.run([*command, "--log", str(tmp_path / name)]) == 0
    text = (tmp_path / "first").read_bytes()
    assert text == (tmp_path / "again").read_bytes()
    assert b"journal:" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--seeds", "0"], "--seeds 0 simulates nothing", id="no-seeds"),
        pytest.param(["--start", "-1"], "--start -1 is no seed", id="negative-start"),
        pytest.param(["--workers", "0"], "leaves nobody to work", id="no-workers"),
        pytest.param(["--log", "x.log"], "give --seeds 1", id="log-of-many"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message, capsys):
    assert app.run(["sim", "--no-bugs", *options]) == 2
    assert message in capsys.readouterr().err
