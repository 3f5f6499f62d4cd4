"""Slow answers where the champion says what is slow: fair bets only, and found in time."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from serving.release.statistics import arms, tail
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.tail import Tail

EXCESS = 0.01
NEEDED = math.log(100)


def release(seed, looks=120, per_look=50, share=0.1, slower_ms=0.0, slower_share=0.0, factor=1.0):
    """Looks at two arms that differ by `slower_ms` on `slower_share` of the requests, or by a factor."""
    rng = np.random.default_rng(seed)
    ours, theirs, state = Histogram.empty(), Histogram.empty(), Tail()
    for _ in range(looks):
        mine = rng.random(per_look) < share
        took = rng.lognormal(2, 0.5, per_look)
        took[mine] = took[mine] * factor + slower_ms * (rng.random(mine.sum()) < slower_share)
        ours, theirs = ours.plus(took[mine].tolist()), theirs.plus(took[~mine].tolist())
        state = tail.look(state, ours, theirs, EXCESS)
        yield ours.n, state


def stopped_at(seed, **how):
    return next(
        (n for n, state in release(seed, **how) if arms.log_evidence_beyond_a_spell(state.harm) >= NEEDED),
        math.inf,
    )


@pytest.mark.parametrize(
    ("how", "within"),
    [
        pytest.param({"slower_ms": 150, "slower_share": 1}, 20, id="150-ms-on-every-request"),
        pytest.param({"slower_ms": 150, "slower_share": 0.05}, 300, id="150-ms-on-5-percent"),
        pytest.param({"factor": 2.0}, 400, id="twice-as-slow"),
    ],
)
def test_a_slower_candidate_is_found_in_time(how, within):
    assert np.median([stopped_at(seed, **how) for seed in range(41)]) <= within


def test_equal_arms_are_not_blamed_while_the_threshold_moves():
    assert sum(math.isfinite(stopped_at(seed)) for seed in range(60)) == 0


def test_the_threshold_is_taken_again_when_the_champions_answers_have_doubled():
    taken = [state.taken_at for _, state in release(1, looks=60, share=0.5, per_look=20)]
    steps = sorted(set(taken))
    assert steps[0] == 0
    assert steps[1] >= tail.FIRST
    assert all(high >= 2 * low for low, high in pairwise(steps[1:]))
    assert len(steps) >= 5


def test_what_was_seen_before_a_threshold_is_not_bet_on():
    """Verify that the look which fixes the threshold leaves no evidence, however slow the candidate was in it."""
    ours, theirs = Histogram.of([900.0] * 50), Histogram.of([5.0] * 100)
    state = tail.look(Tail(), ours, theirs, EXCESS)
    assert state.threshold_ms == theirs.edge_for(tail.SLACK * theirs.quantile(0.99))
    assert (state.candidate.n, state.candidate.slower) == (50, 50)
    assert state.harm == arms.Guard()
    assert tail.look(state, ours, theirs, EXCESS) == state


def test_what_was_won_is_kept_at_a_new_threshold_and_nothing_is_bet_on_twice():
    ours, theirs = Histogram.of([5.0] * 10), Histogram.of([5.0] * 100)
    state = tail.look(Tail(), ours, theirs, EXCESS)
    ours, theirs = ours.plus([900.0] * 10), theirs.plus([5.0] * 99 + [50.0] * 3)
    state = tail.look(state, ours, theirs, EXCESS)
    expected = arms.watch(arms.Guard(), arms.Batch(10, 10, 102, 3), EXCESS)
    assert state.harm == expected
    # the new threshold lies above the champion's 50 ms: the ten are seen, and slow at it as well
    assert (state.threshold_ms, state.taken_at) == (theirs.edge_for(tail.SLACK * theirs.quantile(0.99)), 202)
    assert tail.look(state, ours, theirs, EXCESS).harm == expected


def test_one_arms_answers_wait_for_the_others():
    ours, theirs = Histogram.of([5.0] * 10), Histogram.of([5.0] * 100)
    state = tail.look(Tail(), ours, theirs, EXCESS)
    alone = tail.look(state, ours.plus([900.0] * 5), theirs, EXCESS)
    assert alone == state
    both = tail.look(alone, ours.plus([900.0] * 5), theirs.plus([5.0]), EXCESS)
    assert both.harm == arms.watch(arms.Guard(), arms.Batch(5, 5, 1, 0), EXCESS)


def test_twenty_answers_of_the_champion_fix_a_threshold_and_a_request_each_is_bet_on():
    ours, theirs = Histogram.empty(), Histogram.of([5.0] * 20)
    state = tail.look(Tail(), ours, theirs, EXCESS)
    assert state.taken_at == 20
    after = tail.look(state, ours.plus([900.0]), theirs.plus([5.0]), EXCESS)
    assert after.harm == arms.watch(arms.Guard(), arms.Batch(1, 1, 1, 0), EXCESS)
    assert after.safety == arms.add(arms.START, arms.Batch(1, 0, 1, 1), -EXCESS)


def test_few_answers_and_answers_beyond_all_edges_fix_no_threshold():
    ours = Histogram.of([5.0] * 10)
    for theirs in (Histogram.of([5.0] * 19), Histogram.of([99_000.0] * 100)):
        assert tail.look(Tail(), ours, theirs, EXCESS) == Tail()
