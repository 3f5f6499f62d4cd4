"""Why a release ended so: sentence, deciding check, events, the live view, what versions would have earned."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from release_stories import BANDIT, CANARY, STORIES, Arm, Story

from serving.release.people import account, dossier, earnings, events, explanation, outcome, past, view
from serving.release.traffic import all_to

HISTORIES = sorted((Path(__file__).parent.parent / "testdata" / "histories").rglob("*.jsonl"))


@pytest.fixture(scope="module")
def accounts(tmp_path_factory):
    """The account of every story."""
    directory = tmp_path_factory.mktemp("stories")
    found = {}
    for name, tell in STORIES.items():
        tell(directory / name)
        found[name] = account.find(directory / name, "flights")
    return found


@pytest.mark.parametrize(
    ("story", "words", "check", "outcome"),
    [
        pytest.param("canary", "version 13 was promoted in place of 12", None, None, id="steps-done"),
        pytest.param("failing", "version 13 was rolled back after 5m, all traffic is on 12: errors", "errors", "FAIL",
                     id="guardrail"),
        pytest.param("unseen", "ended without a verdict after 60m", "errors", "INCONCLUSIVE", id="no-data"),
        pytest.param("experiment", "promoted in place of 12", "bookings", "PASS", id="decision"),
        pytest.param("undecided", "ended without a verdict after 7d", "bookings", "INCONCLUSIVE", id="time-over"),
        pytest.param("bandit", "version 14 (of 13 and 14) was promoted", "bookings", "PASS", id="bandit"),
    ],
)  # fmt: skip
def test_the_end_is_told_in_one_sentence_with_the_check_that_decided(accounts, story, words, check, outcome):
    """Verify the sentence, and the deciding check with the verdict that it gave."""
    found = explanation.explain(accounts[story])
    assert words in found["sentence"]
    decided = found["deciding"]
    assert (decided and decided["check"], decided and decided["outcome"]) == (check, outcome)
    json.dumps(found)


def test_the_deciding_check_comes_with_all_that_one_needs_to_doubt_it(accounts):
    """Verify n, estimate, interval, threshold, evidence, rule and query, and that the text holds them."""
    told = accounts["failing"]
    decided = explanation.explain(told)["deciding"]
    assert (decided["n"], decided["estimate"], decided["threshold"]) == (50, 0.1, 0.0)
    low, high = decided["interval"]
    assert low < 0.1 < high
    assert decided["evidence"] > decided["evidence_needed"] == 100
    assert "model flights version 13" in decided["query"]
    text = explanation.text(told)
    for line in ("n          50", "estimate   +10 %", "threshold  0 %", decided["rule"], decided["query"]):
        assert line in text
    # the interval holds the threshold although the test has decided: that must be said
    assert "wider than the test" in text


def test_the_winner_of_several_is_the_one_that_is_explained(accounts):
    """Verify that a bandit's promotion shows the verdict of the version that won."""
    decided = explanation.explain(accounts["bandit"])["deciding"]
    assert (decided["version"], decided["evidence_needed"]) == ("14", 80)


@pytest.mark.parametrize("story", STORIES)
def test_the_evidence_that_decides_is_the_engines(accounts, story):
    """Verify that the odds which are told to decide are those by which the engine decided, for each check."""
    for shown in explanation.explain(accounts[story])["checks"]:
        said = re.search(r"(\d+):1 (?:stops|decides)", shown["reason"])
        if said is not None and shown["evidence_needed"] is not None:
            assert round(shown["evidence_needed"]) == int(said[1]), shown


def test_waits_with_one_cause_are_one_line(accounts):
    """Verify that looks which held for the same check are counted, not listed."""
    told = accounts["unseen"]
    waits = explanation.holds(told)
    assert [(wait["check"], wait["looks"]) for wait in waits] == [(None, 5), ("errors", 6)]
    assert sum(wait["looks"] for wait in waits) + len(told.turns) == len(told.decisions)


def test_a_live_release_says_what_it_waits_for(tmp_path):
    """Verify the sentence and the next step while nothing is decided."""
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}).start()
    story.look()
    told = account.find(tmp_path, "flights")
    assert explanation.waits_for(told) == "step 1 has 50 of 300 requests"
    assert "it waits: step 1 has 50 of 300 requests" in explanation.sentence(told)
    story.controller.command("flights", "pause", by="ada")
    told = account.find(tmp_path, "flights")
    assert "resume" in explanation.waits_for(told)
    assert explanation.sentence(told).startswith(
        "flights: version 13 is being released against 12 and paused"
    )
    # the command looked at nothing: what was seen last is still shown
    assert [verdict["check"] for verdict in told.verdicts] == ["errors", "p99", "sampleRatio"]
    assert explanation.since(told) == story.clock.now().isoformat()


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_journals_of_earlier_engines_are_told_as_well(path):
    """Verify that explanation, view and dossier read what the first version of the engine wrote."""
    told = account.read(path)
    assert outcome.of(told.history) is not None
    assert explanation.sentence(told) in explanation.text(told)
    assert explanation.sentence(told).split(",")[0] in " ".join(view.frame(told, told.told).split())
    found = dossier.dossier(told)
    assert json.loads(json.dumps(found))["outcome"] == outcome.of(told.history)
    assert past.baseline(path.parent.parent, "flights", told.release.checks[0]) is None


# --- events


def test_every_transition_is_an_event(accounts):
    """Verify reasons and types, and that a look which changed nothing is none."""
    found = [(event.reason, event.type) for event in events.of_records(accounts["canary"].records)]
    assert found == [("Started", "Normal"), ("Advanced", "Normal"), ("Promoted", "Normal")]
    found = [(event.reason, event.type) for event in events.of_records(accounts["failing"].records)]
    assert found == [("Started", "Normal"), ("RolledBack", "Warning")]


def test_repairs_and_alerts_are_warnings(tmp_path):
    """Verify that traffic which somebody else moved, and a hold with news, are told to a person."""
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}).start()
    story.look()
    story.router.now["flights"] = all_to("12")
    story.look()
    told = account.find(tmp_path, "flights")
    warned = [event for event in events.of_records(told.records) if event.type == "Warning"]
    assert "TrafficRepaired" in [event.reason for event in warned]
    assert "{'12': 100}" in next(event.message for event in warned if event.reason == "TrafficRepaired")


# --- view


def test_the_live_view_shows_traffic_checks_and_what_is_next(tmp_path):
    """Verify one frame of a live canary line by line."""
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}).start()
    story.look()
    told = account.find(tmp_path, "flights")
    lines = view.frame(told, story.clock.now() + timedelta(seconds=7), width=120).splitlines()
    assert lines[0] == "flights  flights-13  canary  progressing, step 1 of 2, 5.1m so far"
    bars = {line.split()[0]: line.count("█") for line in lines if "requests" in line and "█" in line}
    assert bars["12"] == pytest.approx(9 * bars["13"], abs=9)
    errors = next(line for line in lines if line.strip().startswith("errors"))
    assert re.search(r"open +50 .* to .* 0 % +├.*●.*┤", errors)
    assert "  next    step 1 has 50 of 300 requests" in lines
    assert "  last look that changed something: 7s ago" in lines
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("story", STORIES)
def test_a_frame_keeps_to_its_width(accounts, story):
    """Verify that no line runs over on a usual terminal, and that colours add no columns."""
    told = accounts[story]
    plain = view.frame(told, told.told, width=100)
    assert max(map(len, plain.splitlines())) <= 100
    painted = view.frame(told, told.told, width=100, color=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain != painted


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        pytest.param((0.0, 0.5, 1.0, 0.75), "├────●──┃─┤", id="bound-inside"),
        pytest.param((0.0, 0.2, 0.4, 1.0), "├─●─┤     ┃", id="bound-above"),
        pytest.param((0.5, 0.75, 1.0, 0.0), "┃    ├──●─┤", id="bound-below"),
        pytest.param((None, 0.5, None, 0.5), "", id="no-interval"),
        pytest.param((0.5, 0.5, 0.5, 0.5), "", id="no-width"),
    ],
)
def test_an_interval_is_drawn_to_scale(interval, expected):
    """Verify where interval, estimate and threshold stand."""
    low, estimate, high, bound = interval
    verdict = {"lower": low, "estimate": estimate, "upper": high, "bound": bound}
    assert view.scale(verdict, 11) == expected


# --- earnings


def test_cells_hold_every_reward_with_the_share_it_was_earned_by(tmp_path):
    """Verify that delayed rewards meet the weights that were in force when their requests were served."""
    arms = {v: Arm(reward=r) for v, r in (("12", 0.05), ("13", 0.055), ("14", 0.075))}
    story = Story(tmp_path, BANDIT, arms, rate=60, every=timedelta(minutes=10)).start().play(300)
    told = account.find(tmp_path, "flights")
    cells = list(earnings.cells(told))
    for version, arm in story.arms.items():
        assert sum(cell.pulls for cell in cells if cell.version == version) == arm.outcomes.n
        assert sum(cell.total for cell in cells if cell.version == version) == arm.outcomes.y
    shown = {(cell.tick, cell.version): cell.propensity for cell in cells if cell.pulls}
    pulls = {(cell.tick, cell.version): cell.pulls for cell in cells if cell.pulls}
    # 600 requests a look, split by the weights: what a version answered is its share
    for key, propensity in shown.items():
        assert pulls[key] == pytest.approx(600 * propensity, abs=1)


def test_what_versions_would_have_earned_is_about_what_they_earn(accounts):
    """Verify that each target's interval holds its true reward (fixed seed)."""
    truth = {"12": 0.05, "13": 0.055, "14": 0.075, "equal split": 0.06}
    rows = earnings.table(accounts["bandit"])
    assert {row["target"] for row in rows} == set(truth)
    for row in rows:
        assert row["lower"] < truth[row["target"]] < row["upper"], row
    assert earnings.table(accounts["canary"]) == []


# --- dossier


@pytest.mark.parametrize("story", STORIES)
def test_a_dossier_is_plain_values_and_holds_the_journal(accounts, story):
    """Verify that a page, or a program, can be handed all of it."""
    found = dossier.dossier(accounts[story])
    assert json.loads(json.dumps(found, allow_nan=False))["journal"] == [
        dict(r) for r in accounts[story].records
    ]
    assert {check["name"] for check in found["checks"]} >= {c.name for c in accounts[story].release.checks}


def test_the_final_numbers_of_an_experiment(accounts):
    """Verify both arms, lift, interval, e- and p-value of the decision metric."""
    found = dossier.dossier(accounts["experiment"])
    effect = next(row for row in found["effects"] if row["check"] == "bookings")
    ours, theirs = effect["means"]["13"], effect["means"]["12"]
    assert effect["lift"] == pytest.approx(ours / theirs - 1)
    assert effect["lower"] <= effect["lift"] <= effect["upper"]
    assert effect["p_value"] == pytest.approx(2 / effect["evidence"]) and effect["p_value"] <= 0.05
    assert sum(row["n"]["13"] for row in found["periods"]) == effect["n"]["13"]
