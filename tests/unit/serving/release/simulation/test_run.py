"""Seeds of the simulator: nothing is violated, faults do come, and the same seed is the same to the byte."""

from __future__ import annotations

from collections import Counter

import pytest

from serving.release.simulation import campaign, run, scenario
from serving.release.simulation.faults import KINDS

SEEDS = range(60)


@pytest.fixture(scope="module")
def outcomes():
    return [run.play(seed) for seed in SEEDS]


def test_no_seed_violates_an_invariant(outcomes):
    assert [violation for outcome in outcomes for violation in outcome.violations] == []


def test_good_candidates_are_promoted_and_harmful_ones_rolled_back(outcomes):
    promised = Counter(outcome.promised for outcome in outcomes)
    assert [outcome.seed for outcome in outcomes if not outcome.kept] == []
    assert min(promised["Promoted"], promised["RolledBack"]) >= 8


def test_faults_of_many_kinds_are_injected(outcomes):
    injected = Counter()
    for outcome in outcomes:
        injected.update(outcome.faults)
    assert len(set(injected) & set(KINDS)) >= 25
    assert injected["crash"] >= 20


def test_every_strategy_and_quality_is_simulated():
    drawn = [scenario.draw(seed) for seed in SEEDS]
    assert {one.strategy for one in drawn} == set(scenario.STRATEGIES)
    assert {one.quality for one in drawn} == {"good", "harmful", "equal"}
    assert len({one.special for one in drawn}) == 6


def test_the_same_seed_gives_the_same_log_byte_for_byte():
    first, again = run.play(7, keep_log=True), run.play(7, keep_log=True)
    assert first.log == again.log
    assert len(first.log) > 50
    assert first.log != run.play(8, keep_log=True).log


def test_a_log_does_not_change_what_happens():
    with_log, without = run.play(11, keep_log=True), run.play(11)
    assert (with_log.decisions, with_log.ended) == (without.decisions, without.ended)


def test_the_number_of_processes_changes_nothing():
    told = []
    alone = campaign.run(0, 4, 1, lambda *line: told.append(line))
    assert alone == campaign.simulate(range(4))
    assert told[-1] == (1, 1, "seeds")
