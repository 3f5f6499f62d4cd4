"""`windlass release` from the outside: exit codes, JSON, letters, and a rollback on the real proxy."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import yaml
from release_stories import Router

from serving.release import spec
from serving.release.controller import ReleaseController
from serving.release.journal import mailbox
from serving.release.journal.store import DiskStore
from windlass import settings as settings_module
from windlass.cli import app
from windlass.clock import ManualClock

START = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return settings_module.load()


@pytest.fixture
def file(tmp_path, document):
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def windlass(capsys):
    def run(*argv):
        code = app.run(["release", *map(str, argv), "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out)

    return run


def controller(home, backend, champions):
    return ReleaseController(
        DiskStore(home.journal_dir / "releases"),
        backend,
        ManualClock(START),
        set_champion=champions.__setitem__,
        commands=mailbox.OrderBox(mailbox.commands(home)),
    )


def test_a_good_document_passes_lint(home, file, windlass):
    code, said = windlass("lint", "-f", file)
    assert (code, said["valid"], said["release"]) == (0, True, "flights-13")


def test_a_bad_document_fails_lint_with_its_place(home, tmp_path, document, windlass):
    document["spec"]["strategy"]["steps"][1]["weight"] = 5
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(document))
    code, said = windlass("lint", "-f", path)
    assert (code, said["valid"]) == (2, False)
    ((problem,),) = (file["problems"] for file in said["files"])
    assert (problem["path"], problem["value"]) == ("spec.strategy.steps[1].weight", "5")
    line = path.read_text().splitlines()[problem["line"] - 1]
    assert line[problem["column"] - 1 :] == "weight: 5"


def test_a_missing_file_is_named(home, tmp_path, windlass):
    code, said = windlass("apply", "-f", tmp_path / "none.yaml")
    assert code == 2
    assert "none.yaml" in said["error"]["message"]


def test_a_missing_file_is_a_fault_beside_others(home, tmp_path, file, windlass):
    """Verify that the files that are there are linted all the same."""
    code, said = windlass("lint", tmp_path / "none.yaml", file)
    assert (code, said["valid"], [found["valid"] for found in said["files"]]) == (2, False, [False, True])
    (problem,) = said["files"][0]["problems"]
    assert "none.yaml" in problem["remedy"]


def test_an_applied_release_reaches_the_platform_as_one_letter(home, file, document, windlass):
    code, said = windlass("apply", "-f", file)
    ((path, release),) = mailbox.submissions(mailbox.inbox(home))
    assert (code, said["letter"], said["platform_runs"]) == (0, str(path), False)
    assert release == spec.parse(document)


def test_a_bad_document_leaves_no_letter(home, tmp_path, windlass):
    path = tmp_path / "bad.yaml"
    path.write_text("kind: Release")
    assert windlass("apply", "-f", path)[0] == 2
    assert list(mailbox.submissions(mailbox.inbox(home))) == []


def test_letters_are_read_in_their_order(home, document):
    box = mailbox.inbox(home)
    for second, name in enumerate(("b", "a", "c")):
        document["metadata"]["name"] = name
        mailbox.submit(box, spec.parse(document), START.replace(second=second))
    assert [release.name for _, release in mailbox.submissions(box)] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("command", "phase"), [("pause", "Paused"), ("abort", "Aborted"), ("promote", "Promoted")]
)
def test_a_command_reaches_the_live_release(home, document, windlass, command, phase):
    router, champions = Router(), {}
    running = controller(home, router, champions)
    running.start(spec.parse(document))
    code, said = windlass(command, "flights")
    assert (code, said["release"]) == (0, "flights-13")
    running.obey_commands()
    assert windlass("status", "flights")[1]["releases"][0]["phase"] == phase
    assert champions == ({"flights": "13"} if command == "promote" else {})


def test_a_command_to_a_release_that_is_over_is_refused(home, document, windlass):
    running = controller(home, Router(), {})
    running.start(spec.parse(document))
    running.command("flights", "abort")
    code, said = windlass("pause", "flights")
    assert code == 2
    assert "is over (Aborted)" in said["error"]["message"]


@pytest.mark.parametrize("action", ["status", "explain", "pause"])
def test_a_model_without_a_release_is_named(home, windlass, action):
    code, said = windlass(action, "taxis")
    assert code == 2
    assert "'taxis' has no release" in said["error"]["message"]


def test_status_of_nothing_is_empty(home, windlass):
    assert windlass("status") == (0, {"releases": [], "handed_over": [], "platform_runs": False})


def test_explain_tells_who_decided_what(home, document, windlass):
    running = controller(home, Router(), {})
    running.start(spec.parse(document))
    running.command("flights", "abort", by="ada")
    code, said = windlass("explain", "flights")
    assert code == 0
    assert [(d["action"], d["reason"]) for d in said["decisions"]] == [
        ("start", "version 13 gets 10 %"),
        ("abort", "aborted by ada"),
    ]
    assert windlass("explain", "flights", "--release", "flights-13")[1] == said
    assert windlass("explain", "flights", "--release", "other")[0] == 2


def test_people_read_sentences(home, document, capsys):
    running = controller(home, Router(), {})
    running.start(spec.parse(document))
    assert app.run(["release", "status"]) == 0
    assert (
        "flights-13 (version 13 against 12) Progressing, step 1 of 2, 12: 90 %, 13: 10 %"
        in capsys.readouterr().out
    )
    assert app.run(["release", "explain", "flights"]) == 0
    assert "version 13 gets 10 %" in capsys.readouterr().out
