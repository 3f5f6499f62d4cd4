"""Pairs of answers to the same request: exact expectations, increments that are the whole, power."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import betting, paired
from serving.release.statistics.betting import PAIR_BETS, RATE_BETS
from serving.release.statistics.paired import Discordant

NEEDED = math.log(100)


@pytest.mark.parametrize("excess", [-0.05, 0.0, 0.02])
@pytest.mark.parametrize("champion", [0.05, 0.2])
def test_pairs_at_the_allowed_excess_give_an_expected_evidence_of_exactly_one(champion, excess):
    n, candidate = 12, champion + excess
    mean = 0.0
    for ours, theirs in itertools.product(range(n + 1), repeat=2):
        if ours + theirs <= n:
            chance = stats.multinomial.pmf(
                [ours, theirs, n - ours - theirs], n, [candidate, champion, 1 - candidate - champion]
            )
            mean += chance * math.exp(paired.log_evidence_of_more(Discordant(n, ours, theirs), excess))
    assert mean == pytest.approx(1, rel=1e-9)


def test_what_both_have_is_no_evidence():
    """Verify that with no excess allowed only the pairs count of which one side has the event."""
    few, many = Discordant(20, 9, 1), Discordant(20_000, 9, 1)
    assert paired.log_evidence_of_more(few, 0.0) == paired.log_evidence_of_more(many, 0.0)


def test_errors_of_the_shadow_are_found_and_its_safety_is_shown():
    counts = Discordant(400, 14, 1)
    assert paired.log_evidence_of_more(counts, 0.0) >= NEEDED
    assert paired.log_evidence_of_more(counts.swapped(), 0.0) < 0
    assert counts.estimate == pytest.approx(13 / 400)
    assert paired.log_evidence_of_more(Discordant(1000, 1, 1).swapped(), -0.02) >= NEEDED


@pytest.mark.parametrize("counts", [(10, 11, 0), (10, 6, 6), (10, -1, 3)])
def test_counts_that_no_pairs_give_are_refused(counts):
    with pytest.raises(ValueError, match="not a count of pairs"):
        paired.log_evidence_of_more(Discordant(*counts), 0.0)


def test_no_pairs_have_no_difference():
    assert Discordant(0, 0, 0).estimate is None
    assert paired.log_evidence_of_more(Discordant(0, 0, 0), 0.01) == pytest.approx(0)


@pytest.mark.parametrize("bets", [RATE_BETS, PAIR_BETS], ids=["rate", "pair"])
def test_values_one_after_the_other_are_the_whole_sample(bets):
    """Verify against the bets on all values at once, which share no sums with it."""
    values = np.random.default_rng(2).beta(1, 20, 300).tolist()
    state = paired.against(0.03, 0.05, bets)
    for start in range(0, 300, 37):
        state = paired.add(state, values[start : start + 37])
    whole = betting.of_values(values, 0, 1)
    assert state.log_evidence_above == pytest.approx(betting.log_evidence_above(whole, 0.03, bets), rel=1e-9)
    assert state.log_evidence_below == pytest.approx(betting.log_evidence_below(whole, 0.03, bets), rel=1e-9)
    assert (state.n, state.mean) == (300, pytest.approx(np.mean(values)))
    assert state.interval[0] < state.mean < state.interval[1]


def test_scores_that_moved_too_far_are_found_in_time():
    rng = np.random.default_rng(4)
    times = []
    for _ in range(40):
        state = paired.against(0.02, 0.05)
        while state.log_evidence_above < NEEDED and state.n < 500:
            state = paired.add(state, rng.beta(1, 9, 5).tolist())
        times.append(state.n)
    assert np.median(times) <= 60


def test_scores_at_the_bound_are_stopped_at_most_alpha_of_the_time():
    rng = np.random.default_rng(9)
    wrong = 0
    for _ in range(100):
        state = paired.against(0.1, 0.05)
        worst = 0.0
        for _ in range(60):
            state = paired.add(state, rng.beta(1, 9, 10).tolist())
            worst = max(worst, state.log_evidence_above)
        wrong += worst >= NEEDED
    assert wrong <= 100 * 0.01 + 3 * math.sqrt(100 * 0.01 * 0.99)


def test_nothing_seen_says_nothing():
    state = paired.against(0.05, 0.05)
    assert (state.n, state.mean, state.interval) == (0, None, (0.0, 1.0))
    assert state.log_evidence_above == pytest.approx(0)
    assert paired.add(state, []) == state


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_a_distance_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match="outside"):
        paired.add(paired.against(0.05, 0.05), [0.1, value])


@pytest.mark.parametrize("bound", [0, 1, -0.1, math.nan])
def test_a_bound_that_bounds_nothing_is_refused(bound):
    with pytest.raises(ValueError, match="bound"):
        paired.against(bound, 0.05)
