"""Off-policy estimates: by hand, against another package, unbiased on a bandit's own log, and their warnings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serving.release.bandit.arm import Arm
from serving.release.bandit.off_policy import Cell, equal_split, estimate, estimate_rows, what_if
from serving.release.bandit.policy import Policy, weights

#: Two updates: 80:20 with rewards 1 of 8 and 1 of 2, then 50:50 with rewards 1 of 4 and 2 of 4.
LOG = (
    Cell(0, "1", 0.8, 8, 1, 1),
    Cell(0, "2", 0.2, 2, 1, 1),
    Cell(1, "1", 0.5, 4, 1, 1),
    Cell(1, "2", 0.5, 4, 2, 2),
)


def values(estimates):
    return {e.method: e.value for e in estimates}


def test_the_estimates_of_one_version_by_hand():
    """Verify version 2: w is 5 in the first update and 2 in the second; DR predicts 0 first and 1/2 then."""
    found = {e.method: e for e in estimate(LOG, {"2": 1.0})}
    assert found["IPS"].value == pytest.approx((5 * 1 + 2 * 2) / 18)
    assert found["SNIPS"].value == pytest.approx((5 * 1 + 2 * 2) / (5 * 2 + 2 * 4))
    # second update: 8 requests predicted 1/2, and w (r - 1/2) of its four: 2 (2 - 2)
    assert found["DR"].value == pytest.approx((5 * 1 + 8 * 0.5 + 0) / 18)
    assert found["IPS"].effective == pytest.approx(18**2 / (25 * 2 + 4 * 4))
    terms = [5, *[0] * 9, 2, 2, *[0] * 6]
    assert found["IPS"].standard_error == pytest.approx(np.std(terms, ddof=1) / math.sqrt(18))
    assert found["IPS"].upper - found["IPS"].lower == pytest.approx(
        2 * 1.959964 * found["IPS"].standard_error
    )
    dr_terms = [5, *[0] * 9, *[0.5 + 2 * (r - 0.5) for r in (1, 1, 0, 0)], *[0.5] * 4]
    assert found["DR"].standard_error == pytest.approx(np.std(dr_terms, ddof=1) / math.sqrt(18))
    ratio = found["SNIPS"].value
    residuals = [5 * (1 - ratio), -5 * ratio, *[2 * (r - ratio) for r in (1, 1, 0, 0)]]
    assert found["SNIPS"].standard_error == pytest.approx(math.sqrt(sum(x * x for x in residuals)) / 18)


def test_another_package_gives_the_same_figures():
    """Verify against obp 0.4.1 (IPW, SNIPW, DR) on twelve rows."""
    served = np.array([2, 1, 2, 2, 1, 2, 2, 0, 0, 0, 0, 2])
    first = np.array([1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    propensities = np.where(first[:, None], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5])
    rewards = np.array([1.11, 0.07, 0.97, 1.7, -0.34, 0.54, -0.9, -0.29, -0.84, 0.76, -0.27, 1.27])
    predicted = np.array(
        [
            [1.05, 0.94, 0.24], [0.84, 0.99, 1.03], [0.54, 0.86, 0.71], [0.76, 1.32, 0.76],
            [0.99, 1.27, 0.82], [0.97, 1.03, 1.02], [0.63, 1.02, 1.41], [0.54, 1.26, 1.04],
            [0.81, 1.60, 1.23], [0.64, 1.02, 1.17], [0.94, 1.20, 0.98], [1.20, 1.43, 0.80],
        ]
    )  # fmt: skip
    found = estimate_rows(served, rewards, propensities, np.array([0.5, 0.5, 0]), predicted)
    assert values(found) == pytest.approx(
        {"IPS": -0.054166666666666675, "SNIPS": -0.05571428571428572, "DR": 0.12777777777777774}
    )


def bandit_log(seed, rates=(0.3, 0.35, 0.5), ticks=12, requests=60, reward=None):
    """A Thompson bandit's log as cells and as rows."""
    rng = np.random.default_rng(seed)
    cells, rows = [], []
    arms = [Arm(str(i)) for i in range(len(rates))]
    for tick in range(ticks):
        given = weights(Policy(), arms, {})
        shares = np.array(list(given.values())) / 100
        served = rng.choice(len(rates), requests, p=shares)
        rewards = (rng.random(requests) < np.array(rates)[served]).astype(float)
        rows += [(tick, a, r, shares) for a, r in zip(served, rewards, strict=True)]
        for i, arm in enumerate(arms):
            r = rewards[served == i]
            cells.append(Cell(tick, arm.version, shares[i], len(r), r.sum(), (r**2).sum()))
            arms[i] = Arm(arm.version, arm.pulls + len(r), arm.total + r.sum(), arm.squares + (r**2).sum())
    return cells, rows, arms


@pytest.mark.parametrize("target", [{"0": 1.0}, {"2": 1.0}, {"0": 0.2, "1": 0.3, "2": 0.5}], ids=str)
def test_sums_and_rows_give_the_same_estimates(target):
    """Verify that cells, whose model is the mean of earlier updates, equal rows that are handed that model."""
    cells, rows, _ = bandit_log(3)
    ticks, served, rewards, shares = (np.array(column) for column in zip(*rows, strict=True))
    predicted = np.zeros((len(rows), 3))
    for row in range(len(rows)):
        for version in range(3):
            before = rewards[(ticks < ticks[row]) & (served == version)]
            predicted[row, version] = before.mean() if len(before) else 0.0
    asked = np.array([target.get(str(i), 0.0) for i in range(3)])
    by_rows = estimate_rows(served, rewards, shares, asked, predicted)
    for ours, theirs in zip(estimate(cells, target), by_rows, strict=True):
        assert (ours.value, ours.standard_error) == pytest.approx((theirs.value, theirs.standard_error))
        assert (ours.n, ours.effective, ours.warnings) == (
            theirs.n,
            pytest.approx(theirs.effective),
            theirs.warnings,
        )


def test_ips_and_dr_are_unbiased_on_a_bandits_log_and_plain_means_are_not():
    """Verify over 500 bandits: no version's estimate is off by more than 3.5 standard errors of the simulation."""
    truth, runs = (0.3, 0.35, 0.5), 500
    errors = {method: np.zeros((runs, 3)) for method in ("IPS", "DR", "plain")}
    covered = 0
    for seed in range(runs):
        cells, _, arms = bandit_log(seed)
        found = what_if(cells)
        for version in range(3):
            ips, _, dr = found[str(version)]
            errors["IPS"][seed, version] = ips.value - truth[version]
            errors["DR"][seed, version] = dr.value - truth[version]
            errors["plain"][seed, version] = arms[version].mean - truth[version]
            covered += dr.lower <= truth[version] <= dr.upper

    def off(method):
        return errors[method].mean(axis=0) / (errors[method].std(axis=0) / math.sqrt(runs))

    assert np.abs(off("IPS")).max() < 3.5
    assert np.abs(off("DR")).max() < 3.5
    assert off("plain").min() < -3.5
    assert errors["DR"].std() < errors["IPS"].std()
    assert covered / (3 * runs) > 0.85


def test_contexts_with_weights_of_their_own_are_strata_of_their_own():
    """Verify that a version which mostly served the better context is not credited with it."""
    rng = np.random.default_rng(5)
    rates = {"rich": {"1": 0.5, "2": 0.5}, "poor": {"1": 0.1, "2": 0.1}}
    given = {"rich": {"1": 0.9, "2": 0.1}, "poor": {"1": 0.1, "2": 0.9}}
    cells = []
    for tick in range(40):
        for context, shares in given.items():
            n = rng.binomial(200, shares["1"])
            for version, pulls in (("1", n), ("2", 200 - n)):
                total = rng.binomial(pulls, rates[context][version])
                cells.append(Cell(tick, version, shares[version], pulls, total, total, context))
    for estimates in what_if(cells).values():
        for found in estimates:
            assert found.value == pytest.approx(0.3, abs=4 * found.standard_error)
            assert found.standard_error < 0.02


def test_the_equal_split_is_judged_beside_the_versions():
    found = what_if(LOG)
    assert list(found) == ["1", "2", "equal split"]
    assert values(found["equal split"])["IPS"] == pytest.approx((0.625 * 1 + 2.5 * 1 + 1 * 3) / 18)
    assert equal_split(["a", "b", "c", "d"]) == dict.fromkeys("abcd", 0.25)


def test_updates_in_which_a_version_had_no_traffic_are_left_out_and_said():
    """Verify that a killed version is judged on the time before, not counted as earning nothing after."""
    killed = [*LOG, Cell(2, "1", 1.0, 100, 20, 20), Cell(2, "2", 0.0, 0, 0, 0)]
    for found, before in zip(estimate(killed, {"2": 1.0}), estimate(LOG, {"2": 1.0}), strict=True):
        assert (found.value, found.n) == (before.value, 18)
        assert found.support == pytest.approx(18 / 118)
        assert found.warnings[0].startswith("a version of the target had no traffic at 100 of 118 requests")
    assert estimate(killed, {"1": 1.0})[0].support == 1


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([], id="empty-log"),
        pytest.param([Cell(0, "1", 1.0, 50, 5, 5)], id="never-offered"),
        pytest.param(
            [Cell(0, "1", 0.9, 50, 5, 5), Cell(0, "2", 0.1, 0, 0, 0)], id="offered-and-never-served"
        ),
    ],
)
def test_nothing_known_is_no_value(cells):
    for found in estimate(cells, {"2": 1.0}):
        assert (found.value, found.standard_error, found.lower, found.upper) == (None, None, None, None)
        assert found.effective == 0


def test_rewards_missing_more_of_one_version_are_noticed():
    lost = [Cell(0, "1", 0.5, 5000, 500, 500), Cell(0, "2", 0.5, 2500, 250, 250)]
    ips, snips, dr = estimate(lost, {"2": 1.0})
    assert "the mean weight is 0.667 and should be 1" in ips.warnings[0]
    assert ips.warnings == dr.warnings
    assert (snips.value, snips.warnings) == (pytest.approx(0.1), ())
    assert estimate([lost[0], Cell(0, "2", 0.5, 4950, 500, 500)], {"2": 1.0})[0].warnings == ()


def test_few_requests_are_said_to_be_few():
    assert "worth 5 requests" in estimate(LOG, {"2": 1.0})[0].warnings[0]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        pytest.param(lambda: estimate(LOG, {"1": 0.7}), "sum to 1, these to 0.7", id="shares"),
        pytest.param(lambda: estimate(LOG, {"1": 1.5, "2": -0.5}), "at least 0", id="negative"),
        pytest.param(
            lambda: estimate([Cell(0, "1", 0.0, 1, 0, 0)], {"1": 1.0}), "propensity 0", id="impossible"
        ),
        pytest.param(
            lambda: estimate_rows(np.array([0]), np.ones(1), np.array([[0.0, 1.0]]), np.array([1.0, 0.0])),
            "propensity 0",
            id="impossible-row",
        ),
        pytest.param(
            lambda: estimate_rows(np.array([0]), np.ones(1), np.array([[0.5, 0.5]]), np.array([1.0, 0.5])),
            "sum to 1",
            id="row-shares",
        ),
        pytest.param(
            lambda: estimate_rows(np.array([0]), np.ones(2), np.array([[0.5, 0.5]]), np.array([1.0, 0.0])),
            "for \\(1, 2\\) chances",
            id="row-shapes",
        ),
    ],
)
def test_a_log_that_makes_no_sense_is_refused(act, words):
    with pytest.raises(ValueError, match=words):
        act()
