"""The sample-ratio test: exact expectation, error under peeking, power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from serving.release.statistics import ratio


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("n", [1, 40, 300])
def test_with_the_decided_shares_the_expected_evidence_is_exactly_one(n, share):
    counts = np.arange(n + 1)
    evidence = np.array([ratio.log_evidence((int(k), n - int(k)), (share, 1 - share)) for k in counts])
    assert np.exp(stats.binom.logpmf(counts, n, share) + evidence).sum() == pytest.approx(1, rel=1e-9)


def test_it_is_the_ratio_of_the_dirichlet_multinomial_to_the_multinomial():
    """Verify against scipy's own distributions, which share no code with ours."""
    counts, shares = [12, 30, 58], [0.2, 0.3, 0.5]
    expected = stats.dirichlet_multinomial.logpmf(
        counts, np.array(shares) * 100, 100
    ) - stats.multinomial.logpmf(counts, 100, shares)
    assert ratio.log_evidence(counts, shares) == pytest.approx(expected, rel=1e-9)
    assert special.gammaln(100) == pytest.approx(math.lgamma(100))


def test_looking_after_every_request_errs_at_most_alpha():
    rng = np.random.default_rng(23)
    wrong = 0
    for _ in range(300):
        ours = np.cumsum(rng.random(1000) < 0.1)
        wrong += any(
            ratio.log_evidence((int(ours[n - 1]), n - int(ours[n - 1])), (0.1, 0.9)) >= math.log(100)
            for n in range(1, 1001)
        )
    assert wrong <= 300 * 0.01 + 3 * math.sqrt(300 * 0.01 * 0.99)


@pytest.mark.parametrize(("actual", "within"), [(0.2, 400), (0.05, 800), (0.0, 200)])
def test_a_split_that_is_not_obeyed_is_noticed(actual, within):
    rng = np.random.default_rng(29)
    ours = np.cumsum(rng.random((100, within)) < actual, axis=1)
    found = [
        any(
            ratio.log_evidence((int(k[n]), n + 1 - int(k[n])), (0.1, 0.9)) >= math.log(1000)
            for n in range(within)
        )
        for k in ours
    ]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize("shares", [(0.5, 0.6), (-0.1, 1.1), (1.0,), (0.0, 0.0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        ratio.log_evidence((1, 2), shares)


@pytest.mark.parametrize(
    ("counts", "noticed"),
    [
        pytest.param((0, 100, 900), False, id="nothing-came"),
        pytest.param((3, 100, 900), False, id="answers-that-were-under-way"),
        pytest.param((30, 0, 0), True, id="it-still-gets-everything"),
        pytest.param((60, 100, 900), True, id="it-still-gets-a-part"),
        pytest.param((0, 300, 700), True, id="the-others-are-not-split-as-decided"),
    ],
)
def test_an_arm_without_a_share_may_have_some_answers_under_way(counts, noticed):
    assert (ratio.log_evidence(counts, (0.0, 0.1, 0.9)) >= math.log(1000)) is noticed


def test_with_an_arm_without_a_share_the_expected_evidence_is_exactly_one():
    """Verify over all outcomes, where that arm still has as much as is allowed."""
    n, shares = 30, (ratio.STRAGGLERS, 0.2 * (1 - ratio.STRAGGLERS), 0.8 * (1 - ratio.STRAGGLERS))
    mean = 0.0
    for strays, ours in ((s, k) for s in range(n + 1) for k in range(n + 1 - s)):
        counts = (strays, ours, n - strays - ours)
        mean += stats.multinomial.pmf(counts, n, shares) * math.exp(ratio.log_evidence(counts, (0, 0.2, 0.8)))
    assert mean == pytest.approx(1, rel=1e-9)


def test_one_arm_with_everything_is_no_evidence():
    assert ratio.log_evidence((50, 0), (1.0, 0.0)) <= 0
