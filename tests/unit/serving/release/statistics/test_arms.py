"""Two concurrent arms: exact expectations, error under peeking with bursts, power at 10 % of the traffic."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import arms
from serving.release.statistics.arms import SHARES, SPELL, START, Batch, Guard

NEEDED = math.log(100)


def evidence(batch, excess):
    return math.exp(arms.log_evidence(arms.add(START, batch, excess)))


@pytest.mark.parametrize(
    ("candidate", "champion", "events"), [(3, 17, 4), (10, 10, 10), (1, 9, 1), (5, 20, 25)]
)
def test_events_that_ignore_the_arm_give_an_expected_evidence_of_at_most_one(candidate, champion, events):
    """Verify over all ways in which a fixed number of events can fall on arms of fixed sizes."""
    law = stats.hypergeom(candidate + champion, events, candidate)
    outcomes = range(max(0, events - champion), min(events, candidate) + 1)
    mean = sum(law.pmf(k) * evidence(Batch(candidate, k, champion, events - k), 0) for k in outcomes)
    assert mean <= 1 + 1e-12


@pytest.mark.parametrize("excess", [-0.05, 0.0, 0.01, 0.1])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_a_candidate_at_the_allowed_excess_gives_an_expected_evidence_of_at_most_one(rate, excess):
    ours = rate + excess
    n, m = 6, 14
    mean = sum(
        stats.binom.pmf(k, n, ours) * stats.binom.pmf(j, m, rate) * evidence(Batch(n, k, m, j), excess)
        for k, j in itertools.product(range(n + 1), range(m + 1))
    )
    assert mean <= 1 + 1e-12


@pytest.mark.parametrize("excess", [0.0, 0.02])
def test_mirrored_answers_that_fail_together_are_covered(excess):
    """Verify that pairs of dependent answers (the same bad request on both sides) give no evidence."""
    for both in (0.0, 0.3, 0.7):
        only = 0.1
        outcomes = {(1, 1): both, (1, 0): only, (0, 1): only, (0, 0): 1 - both - 2 * only}
        mean = sum(p * evidence(Batch(1, c, 1, d), excess) for (c, d), p in outcomes.items())
        assert mean <= 1 + 1e-12


def run(rng, candidate_rate, champion_rate, share, looks, look=50, excess=0.0):
    """Candidate requests until the evidence suffices; rates are functions of the look."""
    wealth, answered = START, 0
    for index in range(looks):
        ours = int(rng.binomial(look, share))
        answered += ours
        if ours in (0, look):
            continue
        batch = Batch(
            ours,
            int(rng.binomial(ours, candidate_rate(index))),
            look - ours,
            int(rng.binomial(look - ours, champion_rate(index))),
        )
        wealth = arms.add(wealth, batch, excess)
        if arms.log_evidence(wealth) >= NEEDED:
            return answered
    return math.inf


def test_bursts_that_hit_both_arms_alike_blame_nobody():
    """Verify at most 1 % false stops over 50,000 requests, a third of the looks being outages of both arms."""
    stopped = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rates = np.where(rng.random(1000) < 0.3, rng.uniform(0.2, 0.9, 1000), 0.002)
        stopped += math.isfinite(run(rng, rates.__getitem__, rates.__getitem__, 0.1, looks=1000))
    # one percent plus three standard errors
    assert stopped <= 120 * 0.01 + 3 * math.sqrt(120 * 0.01 * 0.99)


def test_a_drift_of_both_arms_while_the_weights_change_blames_nobody():
    """Verify that Simpson's trap is avoided: errors come when the candidate has most of the traffic."""
    stopped = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wealth = START
        for share, rate in ((0.1, 0.001), (0.5, 0.05), (0.9, 0.3)):
            for _ in range(40):
                ours = int(rng.binomial(50, share))
                if ours in (0, 50):
                    continue
                batch = Batch(
                    ours, int(rng.binomial(ours, rate)), 50 - ours, int(rng.binomial(50 - ours, rate))
                )
                wealth = arms.add(wealth, batch, 0.0)
        stopped += arms.log_evidence(wealth) >= NEEDED
    assert stopped <= 6


@pytest.mark.parametrize(
    ("ours", "theirs", "share", "excess", "median"),
    [
        pytest.param(0.02, 0.002, 0.1, 0.0, 400, id="errors-from-0.2-to-2-percent"),
        pytest.param(0.05, 0.0, 0.1, 0.01, 300, id="5-percent-slow"),
        pytest.param(1.0, 0.0, 0.1, 0.01, 20, id="all-slow-at-10-percent"),
        pytest.param(1.0, 0.0, 0.5, 0.01, 30, id="all-slow-at-50-percent-by-looks-of-50"),
    ],
)
def test_harm_is_noticed_in_time(ours, theirs, share, excess, median):
    rng = np.random.default_rng(1)
    times = [run(rng, lambda _: ours, lambda _: theirs, share, looks=1000, excess=excess) for _ in range(80)]
    assert np.median(times) <= median


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_a_candidate_that_is_always_slow_stops_within_20_requests(share):
    wealth = START
    per_request = max(1, round((1 - share) / share))
    answered = 0
    while answered < 20:
        answered += 1
        wealth = arms.add(wealth, Batch(1, 1, per_request, 0), 0.01)
        if arms.log_evidence(wealth) >= NEEDED:
            break
    assert arms.log_evidence(wealth) >= NEEDED
    assert answered <= 12


def test_a_healthy_candidate_is_shown_to_be_safe_in_time():
    wealth = START
    for _ in range(60):
        # swapped: the champion's rate is at least the candidate's plus... is refuted
        wealth = arms.add(wealth, Batch(10, 0, 10, 0), -0.02)
    assert arms.log_evidence(wealth) >= NEEDED


def test_one_arm_alone_says_nothing():
    with pytest.raises(ValueError, match="both arms"):
        arms.add(START, Batch(5, 5, 0, 0), 0.0)


# --- spells


def watched(*batches, excess=0.01):
    guard = Guard()
    for batch in batches:
        guard = arms.watch(guard, batch, excess)
    return guard


def test_the_wealth_is_that_of_the_plain_bets():
    """Verify that what earlier releases were decided by is still there, beside what forgives."""
    batches = [Batch(5, 3, 45, 1), Batch(7, 0, 43, 2), Batch(4, 1, 46, 0)]
    wealth = START
    for batch in batches:
        wealth = arms.add(wealth, batch, 0.01)
    assert watched(*batches).wealth == wealth


def test_the_worst_look_counts_as_one_event():
    """Verify that the evidence is that of the same looks with the extra events of the worst turned to none."""
    first, worst = Batch(5, 2, 45, 1), Batch(6, 4, 44, 3)
    guard = watched(first, worst)
    once = watched(first, Batch(6, 1, 44, 3))
    expected = math.log(sum(share * math.exp(held) for share, held in zip(SHARES, once.wealth, strict=True)))
    assert arms.log_evidence_beyond_a_spell(guard) == pytest.approx(expected, rel=1e-12)


def test_nothing_is_forgiven_where_events_come_singly():
    guard = watched(*[Batch(5, 1, 45, 0)] * 4)
    assert guard.spell == START
    assert math.fsum(SHARES) == pytest.approx(1)


def test_one_stall_of_the_candidates_process_is_no_verdict_but_a_second_look_like_it_is():
    quiet, stall = Batch(5, 0, 45, 0), Batch(5, 5, 45, 0)
    assert arms.log_evidence(watched(quiet, stall).wealth) >= NEEDED
    assert arms.log_evidence_beyond_a_spell(watched(quiet, stall, quiet)) < NEEDED
    assert arms.log_evidence_beyond_a_spell(watched(quiet, stall, stall)) >= NEEDED


def test_a_look_in_which_everything_fails_is_no_spell():
    events = 2 * SPELL + 4
    assert arms.log_evidence_beyond_a_spell(watched(Batch(events, events, 200, 0))) >= NEEDED


def test_stalls_of_each_process_are_mostly_forgiven():
    """Verify that stalls of its own, as often as the champion's, stop the candidate far less often than without."""
    plain = forgiving = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        guard = Guard()
        stopped, stopped_anyway = False, False
        for _ in range(200):
            ours = 4 if rng.random() < 0.02 else 0
            theirs = 36 if rng.random() < 0.02 else 0
            guard = arms.watch(guard, Batch(5, ours, 45, theirs), 0.01)
            stopped |= arms.log_evidence(guard.wealth) >= NEEDED
            stopped_anyway |= arms.log_evidence_beyond_a_spell(guard) >= NEEDED
        plain += stopped
        forgiving += stopped_anyway
    assert forgiving <= 0.6 * plain
