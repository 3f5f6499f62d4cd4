"""`windlass release` for people: before, during and after a release, on journals that the engine wrote."""

from __future__ import annotations

import copy
import json
from datetime import timedelta

import pytest
import yaml
from release_stories import BANDIT, CANARY, EXPERIMENT, START, STORIES, Arm, Story

from serving.release.journal import mailbox, refusals
from serving.release.journal.store import DiskStore
from serving.release.state import RULES
from windlass import settings as settings_module
from windlass.cli import app
from windlass.local import lock, state


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return settings_module.load()


@pytest.fixture
def journals(home):
    return home.journal_dir / "releases"


@pytest.fixture
def windlass(home, capsys):
    """Runs one action with --json: exit code and the one object."""

    def run(*argv):
        code = app.run(["release", *map(str, argv), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def text(home, capsys):
    """Runs one action for a person: exit code and what it printed."""

    def run(*argv):
        code = app.run(["release", *map(str, argv)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def write(tmp_path):
    def put(document, name="release.yaml"):
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False))
        return path

    return put


def edited(document, **changes):
    found = copy.deepcopy(document)
    found["metadata"]["name"] = changes.pop("name", "flights-13")
    found["spec"] |= changes
    return found


# --- lint


def test_lint_prints_file_line_and_column(text, write):
    """Verify the form that editors and CI understand, for every file at once."""
    bad = write(edited(CANARY, onConflict="wait"), "bad.yaml")
    good = write(EXPERIMENT, "good.yaml")
    code, out = text("lint", good, "-f", bad)
    number = bad.read_text().splitlines().index("  onConflict: wait") + 1
    assert code == 2
    assert f"{bad}:{number}:3: spec.onConflict = 'wait': use one of refuse, queue" in out.splitlines()
    assert f"{good}: release flights-13 of flights version 13, experiment, 3 checks: fine" in out.splitlines()


def test_lint_of_several_files_is_one_object(windlass, write):
    """Verify that each file has its releases and its problems."""
    files = [write(CANARY, "a.yaml"), write(yaml.safe_dump(BANDIT) + "---\nkind: Release\n", "b.yaml")]
    code, said = windlass("lint", *files)
    assert (code, said["valid"]) == (2, False)
    assert [file["valid"] for file in said["files"]] == [True, False]
    assert said["files"][1]["releases"] == [
        {"release": "flights-13", "model": "flights", "candidates": ["13", "14"], "strategy": "bandit"}
    ]
    assert {problem["path"] for problem in said["files"][1]["problems"]} == {"metadata", "spec"}


def test_lint_prints_the_schema(windlass):
    """Verify that an editor can be given it."""
    code, said = windlass("lint", "--schema")
    assert (code, said["title"], said["properties"]["kind"]["enum"]) == (0, "Release", ["Release"])
    assert windlass("lint")[0] == 2


# --- plan and diff


def test_plan_of_an_experiment(windlass, write):
    """Verify the fields that a program reads, from figures that were given."""
    code, said = windlass("plan", "-f", write(EXPERIMENT), "--traffic", "20", "--baseline", "5%")
    assert code == 0
    assert said["strategy"] == "experiment"
    assert said["sample_size"]["per_arm"].keys() == {"12", "13"}
    assert said["sample_size"]["total"] == sum(said["sample_size"]["per_arm"].values())
    assert said["expected_duration"]["text"] == "2d"
    assert (said["power"], said["alpha"], said["minimum_detectable_effect"]) == (0.8, 0.05, 0.2)
    assert (said["traffic_per_second"], said["unknown"]) == (20, [])


def test_plan_knows_the_baseline_of_an_earlier_release(windlass, write, journals):
    """Verify that nobody has to look up what was measured already."""
    Story(journals, EXPERIMENT, {"12": Arm(), "13": Arm()}).start().play(30)
    _, said = windlass("plan", "-f", write(edited(EXPERIMENT, name="next")), "--traffic", "20")
    assert said["sample_size"]["baseline_source"] == "release flights-13"
    assert said["sample_size"]["baseline"] == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--traffic", "0"), "--traffic 0 is not above 0", id="no-traffic"),
        pytest.param(("--baseline", "much"), "no number", id="no-number"),
        pytest.param(("--traffic", "inf"), "--traffic inf is not above 0 and finite", id="endless-traffic"),
        pytest.param(("--deviation", "2"), "--deviation needs --baseline", id="spread-alone"),
        pytest.param(("--baseline", "0.1"), "has no decision metric", id="nothing-to-plan-for"),
    ],
)
def test_plan_refuses_figures_that_cannot_be_meant(windlass, write, options, message):
    """Verify that a wrong figure is named and no plan is made of it."""
    code, said = windlass("plan", "-f", write(CANARY), *options)
    assert code == 2
    assert message in said["error"]["message"]


@pytest.mark.parametrize("baseline", ["0", "200%", "-5%", "nan"])
def test_plan_refuses_a_baseline_that_no_champion_has(windlass, write, baseline):
    """Verify that a share of a binary reward lies between 0 and 1."""
    code, said = windlass("plan", "-f", write(EXPERIMENT), f"--baseline={baseline}")
    assert code == 2
    assert "no share strictly between 0 and 1" in said["error"]["message"]


def test_the_example_of_the_help_can_be_typed(text):
    """Verify that no escape of the parser's is left in it."""
    assert "--baseline 4%\n" in text("plan", "--help")[1]


def test_diff_against_the_live_release(windlass, text, write, journals):
    """Verify each change by its path, and that without a platform the route is said to be unknown."""
    Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    file = write(edited(CANARY, name="flights-14", candidate="14"))
    code, said = windlass("diff", "-f", file)
    assert (code, said["against"], said["phase"]) == (0, "flights-13", "Progressing")
    assert said["changes"] == [
        {"path": "metadata.name", "from": "flights-13", "to": "flights-14"},
        {"path": "spec.candidate", "from": "13", "to": "14"},
    ]
    assert (said["routed"], said["routed_unknown"]) == (None, "no platform runs here")
    assert said["begins_with"] == {"12": 90, "14": 10}
    assert '  ~ spec.candidate: "13" -> "14"' in text("diff", "-f", file)[1].splitlines()


# --- apply


def test_apply_refuses_at_once_what_the_platform_would_refuse(windlass, write, journals, home):
    """Verify that a live release, and a name that is taken, are seen before a letter is written."""
    story = Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    other = write(edited(CANARY, name="flights-14", candidate="14"), "other.yaml")
    code, said = windlass("apply", "-f", other)
    assert code == 2
    assert "spec.onConflict = 'refuse': release 'flights-13' of 'flights' is live" in said["error"]["message"]
    assert windlass("apply", "-f", write(CANARY))[0] == 0  # the same once more goes on
    assert (
        windlass("apply", "-f", write(edited(CANARY, name="q", candidate="14", onConflict="queue")))[0] == 0
    )
    story.controller.command("flights", "abort")
    code, said = windlass("apply", "-f", write(CANARY))
    assert code == 2
    assert (
        "metadata.name = 'flights-13'" in said["error"]["message"] and "is over" in said["error"]["message"]
    )
    assert windlass("apply", "-f", other)[0] == 0
    handed_over = [release.name for _, release in mailbox.submissions(mailbox.inbox(home))]
    assert handed_over == ["flights-13", "q", "flights-14"]


def test_apply_refuses_a_version_that_is_nowhere(windlass, write, home):
    """Verify path, value and remedy where the model's bundles are here and this version's is not."""
    for version in ("12", "14"):
        bundle = home.bundles_dir / "flights" / version / "serving.json"
        bundle.parent.mkdir(parents=True)
        bundle.write_text("{}")
    code, said = windlass("apply", "-f", write(CANARY))
    assert code == 2
    assert (
        "spec.candidate = '13': model flights has no such version (it has: 12, 14)"
        in said["error"]["message"]
    )
    assert list(mailbox.submissions(mailbox.inbox(home))) == []
    assert windlass("apply", "-f", write(edited(CANARY, candidate="14")))[0] == 0


@pytest.fixture
def platform(home):
    """The description and the lock of a platform that runs and serves flights."""
    state.write(home, {"models": {"flights": "12"}})
    held = lock.PlatformLock(state.lock_path(home))
    yield
    held.release()


@pytest.mark.parametrize(
    ("changes", "path", "remedy"),
    [
        pytest.param({"model": "taxis"}, "spec.model = 'taxis'", "it serves: flights", id="model"),
        pytest.param({}, "spec.candidate = '13'", "has no bundle on this machine", id="bundle"),
        pytest.param(
            {"checks": [{**CANARY["spec"]["checks"][0], "source": "prometheus"}]},
            "spec.checks[0].source = 'prometheus'",
            "WINDLASS_PROMETHEUS_URL",
            id="prometheus",
        ),
        pytest.param(
            {
                "backend": "gateway",
                "gateway": {"name": "eg"},
                "checks": [{**CANARY["spec"]["checks"][0], "source": "prometheus"}],
            },
            "spec.backend = 'gateway'",
            "use backend: local",
            id="backend",
        ),
    ],
)
def test_apply_asks_the_platform_that_runs(windlass, write, home, platform, changes, path, remedy):
    """Verify that what it would refuse is said at once with path, value and remedy, and no letter is left."""
    code, said = windlass("apply", "-f", write(edited(CANARY, **changes)))
    assert code == 2
    assert path in said["error"]["message"] and remedy in said["error"]["message"]
    assert list(mailbox.submissions(mailbox.inbox(home))) == []
    bundle = home.bundles_dir / "flights" / "13" / "serving.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("{}")
    code, said = windlass("apply", "-f", write(CANARY))
    assert (code, said["platform_runs"]) == (0, True)


def test_apply_twice_leaves_one_letter(windlass, text, write, home):
    """Verify that the same document waits once, and that another of the same name takes its place."""
    first = windlass("apply", "-f", write(CANARY))[1]
    second = windlass("apply", "-f", write(CANARY))[1]
    assert (first["waited_already"], second["waited_already"]) == (False, True)
    assert second["letter"] == first["letter"]
    third = windlass("apply", "-f", write(edited(CANARY, onConflict="queue")))[1]
    assert third["replaced"] == [first["letter"]]
    ((path, release),) = mailbox.submissions(mailbox.inbox(home))
    assert (str(path), release.on_conflict) == (third["letter"], "queue")
    assert "waits in the inbox already" in text("apply", "-f", write(edited(CANARY, onConflict="queue")))[1]


LATER = START + timedelta(days=30)


def test_a_refusal_is_told_until_the_name_comes_again(windlass, text, write, home):
    """Verify wait, status, explain and watch of a release that was refused, and that apply forgets it."""
    refusals.record(home, "flights", "flights-13", "version 13 has no bundle", LATER)
    for name in ((), ("--release", "flights-13")):
        code, said = windlass("wait", "flights", *name)
        assert (code, said["outcome"], said["exit_code"]) == (1, "refused", 1)
        assert said["reason"] == "version 13 has no bundle"
    code, said = windlass("status", "flights")
    assert (code, said["releases"]) == (0, [])
    assert said["handed_over"] == [
        {
            "model": "flights",
            "inbox": [],
            "queued": [],
            "refused": [
                {"release": "flights-13", "reason": "version 13 has no bundle", "at": LATER.isoformat()}
            ],
        }
    ]
    for action in (("status",), ("explain", "flights"), ("watch", "flights")):
        code, out = text(*action)
        assert code == 0
        assert "flights-13 was refused by the platform: version 13 has no bundle" in out
    windlass("apply", "-f", write(CANARY))
    assert windlass("wait", "flights", "--timeout", "10ms")[0] == 5
    assert windlass("status")[1]["handed_over"][0]["inbox"] == ["flights-13"]


def test_a_newer_letter_is_mentioned_beside_the_live_release(windlass, text, write, journals):
    """Verify that nobody takes the older release for the one that was just handed over."""
    Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    windlass("apply", "-f", write(edited(CANARY, name="next", candidate="14", onConflict="queue")))
    note = "release next waits in the inbox"
    for action in ("status", "explain", "abort"):
        code, out = text(action, "flights")
        assert code == 0
        assert note in out
    assert note in windlass("pause", "flights")[1]["notes"][0]


def test_a_command_to_a_letter_says_that_it_waits(windlass, write):
    """Verify that a release which has not begun is not said to be unknown."""
    windlass("apply", "-f", write(CANARY))
    code, said = windlass("abort", "flights")
    assert code == 2
    assert "no release of it has begun (release flights-13 waits in the inbox" in said["error"]["message"]


def test_pause_of_a_paused_release_says_so(windlass, text, journals, home):
    """Verify that what is so already leaves no order, and that a waiting order makes it one again."""
    story = Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    assert windlass("resume", "flights")[1]["already"] is True
    story.controller.command("flights", "pause")
    assert "release flights-13 is paused already" in text("pause", "flights")[1]
    assert list(mailbox.orders(mailbox.commands(home))) == []
    assert windlass("resume", "flights")[1]["already"] is False
    assert windlass("pause", "flights")[1]["already"] is False


def test_an_engine_that_is_down_is_said(windlass, text, journals, platform):
    """Verify that `platform_runs` is the engine, and what a person reads without one."""
    Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    for action in (("status",), ("pause", "flights"), ("watch", "flights")):
        assert windlass(*action)[1]["platform_runs"] is True
    assert windlass("wait", "flights", "--timeout", "10ms")[1]["platform_runs"] is True
    assert "no engine runs" not in text("status")[1] + text("watch", "flights", "--once")[1]


def test_without_an_engine_nobody_is_left_to_guess(windlass, text, journals):
    """Verify the same without one."""
    Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    for action in (("status",), ("pause", "flights"), ("watch", "flights")):
        assert windlass(*action)[1]["platform_runs"] is False
    for action in (
        ("status",),
        ("pause", "flights"),
        ("watch", "flights", "--once"),
        ("wait", "flights", "--timeout", "10ms"),
    ):
        assert "no engine runs" in text(*action)[1]


# --- meanwhile


def test_status_says_what_a_release_waits_for(windlass, journals):
    """Verify strategy, traffic, outcome, what is next and since when."""
    story = Story(journals, BANDIT, {v: Arm() for v in ("12", "13", "14")}).start()
    began = story.clock.now()
    story.look()
    DiskStore(journals).enqueue("flights", "later", CANARY, START)
    code, said = windlass("status", "flights")
    (release,) = said["releases"]
    assert code == 0
    assert (release["strategy"], release["candidates"], release["outcome"]) == ("bandit", ["13", "14"], None)
    assert release["traffic"]["weights"] == release["weights"] == {"12": 34, "13": 33, "14": 33}
    assert "errors has" in release["next"] or "bookings" in release["next"]
    assert (release["since"], release["queued"], release["in_force"]) == (began.isoformat(), ["later"], True)


def test_promote_of_several_needs_the_version(windlass, journals, home):
    """Verify that nobody promotes by chance, and that the order names the winner."""
    Story(journals, BANDIT, {v: Arm() for v in ("12", "13", "14")}).start()
    code, said = windlass("promote", "flights")
    assert code == 2
    assert "which of 13, 14?" in said["error"]["message"]
    assert windlass("promote", "flights", "--version", "12")[0] == 2
    assert windlass("promote", "flights", "--version", "14")[0] == 0
    ((_, order),) = mailbox.orders(mailbox.commands(home))
    assert (order.command, order.to) == ("promote", "14")


def test_watch_draws_one_frame_where_there_is_no_terminal(text, windlass, journals, write):
    """Verify the frame, that it is plain text, and its JSON."""
    assert windlass("watch", "flights")[0] == 2
    windlass("apply", "-f", write(CANARY))
    assert text("watch", "flights", "--once") == (
        0,
        "release flights-13 waits in the inbox for a platform to take it\n"
        "  no engine runs here, so nothing moves: `windlass up` takes over\n\n",
    )
    story = Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    story.look()
    code, out = text("watch", "flights", "--once", "--release", "flights-13")
    assert code == 0
    assert "progressing, step 1 of 2" in out and "█" in out and "\x1b" not in out
    said = windlass("watch", "flights", "--release", "flights-13")[1]
    assert (said["place"], said["standing"]["phase"]) == ("journal", "Progressing")


def test_watch_ends_with_the_release(text, journals):
    """Verify that the view of a finished release is drawn once and returns."""
    STORIES["failing"](journals)
    code, out = text("watch", "flights", "--interval", "9")
    assert code == 0
    assert "rolled back after 5m" in out


@pytest.mark.parametrize(
    ("story", "code", "outcome"),
    [("canary", 0, "promoted"), ("failing", 3, "rolled_back"), ("unseen", 4, "inconclusive")],
)
def test_wait_answers_with_its_exit_code(windlass, journals, story, code, outcome):
    """Verify the codes that a pipeline goes by."""
    STORIES[story](journals)
    found, said = windlass("wait", "flights", "--timeout", "1s")
    assert (found, said["exit_code"], said["outcome"]) == (code, code, outcome)
    assert said["sentence"].startswith("flights: ")


def test_wait_times_out_and_takes_no_nonsense(windlass, journals):
    """Verify code 5, and 2 for an unknown model or a duration that is none."""
    Story(journals, CANARY, {"12": Arm(), "13": Arm()}).start()
    code, said = windlass("wait", "flights", "--timeout", "10ms")
    assert (code, said["outcome"], said["phase"]) == (5, "timed_out", "Progressing")
    assert windlass("wait", "taxis")[0] == 2
    assert windlass("wait", "flights", "--timeout", "soon")[0] == 2


# --- afterwards


def test_explain_shows_everything_that_happened(text, windlass, journals):
    """Verify the text and the object of one release."""
    STORIES["failing"](journals)
    code, out = text("explain", "flights")
    assert code == 0
    for part in ("decided by errors", "query", "what happened:", "RolledBack"):
        assert part in out
    said = windlass("explain", "flights")[1]
    assert said["deciding"]["check"] == "errors"
    assert [event["reason"] for event in said["events"]] == ["Started", "RolledBack"]
    assert said["outcome"] == "rolled_back"


def test_explain_of_a_live_release_says_what_it_waits_for(text, journals):
    """Verify that nothing is said to be decided, and that one look is one."""
    story = Story(journals, BANDIT, {v: Arm() for v in ("12", "13", "14")}).start()
    story.look()
    out = text("explain", "flights")[1]
    assert "  waits for  bookings, a decision that says INCONCLUSIVE" in out and "decided by" not in out
    assert " 1 look " in out and "1 looks" not in out


def test_report_and_replay_of_every_story(windlass, home, tmp_path):
    """Verify that each page is written to its place and decides the same again, as its journal does."""
    decisions = 0
    for name, tell in STORIES.items():
        tell(home.journal_dir / "releases" / name)
    for path in sorted((home.journal_dir / "releases").rglob("*.jsonl")):
        code, said = windlass("replay", path)
        assert (code, said["releases"], said["differences"]) == (0, 1, [])
        decisions += said["decisions"]
    code, said = windlass("replay", home.journal_dir)
    assert (code, said["releases"], said["decisions"]) == (0, len(STORIES), decisions)


def test_the_report_holds_its_journal(windlass, home, journals, tmp_path):
    """Verify the page's place, and that it replays alone."""
    STORIES["failing"](journals)
    code, said = windlass("report", "flights")
    page = home.home / "reports" / "flights" / "0001-flights-13.html"
    assert (code, said["report"], said["bytes"]) == (0, str(page), page.stat().st_size)
    assert windlass("replay", page)[1]["decisions"] == 2
    elsewhere = tmp_path / "page.html"
    assert windlass("report", "flights", "--release", "flights-13", "--out", elsewhere)[0] == 0
    assert elsewhere.read_bytes() == page.read_bytes()
    assert windlass("report", "flights", "--release", "none")[0] == 2


def test_replay_finds_a_decision_that_was_changed(windlass, text, journals):
    """Verify that a journal which says other than its evidence is told with file, decision and field."""
    STORIES["failing"](journals)
    path = journals / "flights" / "0001-flights-13.jsonl"
    path.write_text(path.read_text().replace('"action":"roll_back"', '"action":"hold"'))
    code, said = windlass("replay", path)
    assert code == 1
    assert [(d["file"], d["seq"], d["field"], d["recorded"], d["replayed"]) for d in said["differences"]] == [
        (str(path), 2, "action", "hold", "roll_back")
    ]
    assert "decision 2, action: recorded 'hold', now 'roll_back'" in text("replay", path)[1]


def test_a_journal_that_cannot_be_read_stops_no_other(windlass, text, journals):
    """Verify that each bad file is named with its line, the good ones are replayed, and the exit code is 1."""
    STORIES["failing"](journals)
    good = journals / "flights" / "0001-flights-13.jsonl"
    lines = good.read_text().splitlines()
    torn, cut = good.with_name("0002-torn.jsonl"), good.with_name("0003-cut.jsonl")
    torn.write_text("\n".join([lines[0], "garbage", *lines[1:]]) + "\n")
    record = json.loads(lines[1])
    del record["evidence"]
    cut.write_text("\n".join([lines[0], json.dumps(record)]) + "\n")
    code, said = windlass("replay", journals)
    assert (code, said["releases"], said["decisions"], said["differences"]) == (1, 1, 2, [])
    assert [found["file"] for found in said["unreadable"]] == [str(torn), str(cut)]
    assert "line 2 is no JSON" in said["unreadable"][0]["reason"]
    assert "is not as an engine writes it" in said["unreadable"][1]["reason"]
    code, out = text("replay", torn)
    assert code == 1
    assert "line 2 is no JSON" in out
    code, said = windlass("explain", "flights", "--release", "torn")
    assert code == 1
    assert f"journal {torn} cannot be read: line 2" in said["error"]["message"]


def test_rules_that_are_not_known_cannot_be_decided_again(windlass, text, journals):
    """Verify that a newer engine's journal is said to be undecidable and is no success."""
    STORIES["failing"](journals)
    path = journals / "flights" / "0001-flights-13.jsonl"
    path.write_text(path.read_text().replace(f'"rules":{RULES}', '"rules":99'))
    code, said = windlass("replay", path)
    assert (code, said["decisions"], said["undecidable"]) == (1, 0, 2)
    assert [found["rules"] for found in said["unknown_rules"]] == ["99"]
    assert "decided by rules 99" in text("replay", path)[1]


def test_history_is_read_by_the_rules_of_its_day(windlass, journals):
    """Verify that a name which is refused today does not make an old journal unreadable."""
    STORIES["failing"](journals)
    path = journals / "flights" / "0001-flights-13.jsonl"
    path.write_text(path.read_text().replace('"name":"flights-13"', '"name":"flights 13!"'))
    code, said = windlass("replay", path)
    assert (code, said["releases"], said["unreadable"]) == (0, 1, [])
    assert windlass("status", "flights")[0] == 0


def test_a_state_of_another_engine_is_named(windlass, journals):
    """Verify that a field which nobody knows here is an error with a remedy, and no traceback."""
    STORIES["failing"](journals)
    path = journals / "flights" / "0001-flights-13.jsonl"
    path.write_text(path.read_text().replace('"phase":', '"mood":"good","phase":'))
    code, said = windlass("status", "flights")
    assert (code, said["error"]["type"]) == (1, "WindlassError")
    assert "mood" in said["error"]["message"] and "the version that wrote it" in said["error"]["message"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("other.jsonl", '{"at": 1}\n', "neither a release's journal", id="another-journal"),
        pytest.param("page.html", "<p>hello</p>", "neither a release's journal", id="another-page"),
        pytest.param("empty/x.txt", "", "holds no journal", id="an-empty-folder"),
    ],
)
def test_replay_names_what_is_no_journal(windlass, tmp_path, name, content, message):
    """Verify the refusal of files that hold no release."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    code, said = windlass("replay", path.parent if "empty" in name else path)
    assert code == 2
    assert message in said["error"]["message"]
    assert windlass("replay", tmp_path / "none")[0] == 2
