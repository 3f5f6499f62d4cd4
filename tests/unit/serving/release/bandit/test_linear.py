"""Weights by context: the regression against numpy, sharing between contexts, kills and floors, the state as JSON."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from scipy import stats

from serving.release.bandit import integration, linear, regression
from serving.release.bandit.arm import Arm
from serving.release.bandit.policy import Policy, probability_best

RATES = {"de": (0.05, 0.055, 0.09), "fr": (0.08, 0.05, 0.05)}


def state(rates=RATES, pulls=2000, versions="123"):
    """Every version earns exactly its rate."""
    found = linear.start(versions)
    for context, each in rates.items():
        for version, rate in zip(versions, each, strict=True):
            found = linear.add(found, context, Arm(version, pulls, pulls * rate, pulls * rate))
    return found


@pytest.mark.parametrize(
    "policy", [Policy(), Policy("epsilonGreedy", epsilon=0.1)], ids=["thompson", "greedy"]
)
def test_each_context_gets_the_version_that_is_best_there(policy):
    found = linear.weights_by_context(policy, state(), ["de", "fr"])
    assert max(found["de"], key=found["de"].get) == "3"
    assert max(found["fr"], key=found["fr"].get) == "1"
    for given in found.values():
        assert sum(given.values()) == 100
        assert min(given.values()) >= 5


@pytest.mark.parametrize(
    "policy", [Policy(), Policy("epsilonGreedy", epsilon=0.1)], ids=["thompson", "greedy"]
)
def test_a_killed_version_gets_nothing_in_any_context(policy):
    found = linear.weights_by_context(policy, linear.kill(state(), "3"), ["de", "fr", "new"])
    assert [given["3"] for given in found.values()] == [0, 0, 0]
    assert [sum(given.values()) for given in found.values()] == [100, 100, 100]
    alone = linear.weights_by_context(policy, linear.kill(linear.kill(state(), "3"), "1"), ["de"])
    assert alone == {"de": {"1": 0, "2": 100, "3": 0}}


@pytest.mark.parametrize(
    "policy", [Policy(), Policy("epsilonGreedy", epsilon=0.1)], ids=["thompson", "greedy"]
)
def test_without_rewards_every_context_is_split_equally(policy):
    found = linear.weights_by_context(policy, linear.start(["1", "2"]), ["de", "fr"])
    assert found == {"de": {"1": 50, "2": 50}, "fr": {"1": 50, "2": 50}}


def test_a_context_without_rewards_follows_what_all_share():
    """Verify that version 3, best in both known contexts, is preferred in a third, with less certainty."""
    known = state({"de": (0.05, 0.05, 0.09), "fr": (0.02, 0.02, 0.05)})
    chances = linear.probability_best(known, ["de", "new"])
    assert 0.4 < chances["new"]["3"] < chances["de"]["3"]


def test_a_context_with_few_rewards_leans_on_the_others():
    few = {"it": (0.05, 0.05, 0.05)}
    alone = linear.probability_best(state(few, pulls=40), ["it"])["it"]["3"]
    shared = state({"de": (0.05, 0.05, 0.09), "fr": (0.02, 0.02, 0.05)})
    for version in "123":
        shared = linear.add(shared, "it", Arm(version, 40, 2, 2))
    assert linear.probability_best(shared, ["it"])["it"]["3"] > alone + 0.15


@pytest.mark.parametrize("deviations", [(50.0,), (30.0, 1000.0)], ids=["one-size", "mixed-sizes"])
def test_the_posterior_is_the_bayesian_regression_on_single_rows(deviations):
    """Verify means, covariances and the mixture's chances against numpy and scipy on one row for each request."""
    rng = np.random.default_rng(1)
    versions, contexts = ["1", "2"], ["a", "b", "c"]
    rows = []
    found = linear.start(versions)
    for v, version in enumerate(versions):
        for c, context in enumerate(contexts):
            y = rng.normal(v + c, 1 + c, 20 + 10 * v)
            found = linear.add(found, context, Arm(version, len(y), y.sum(), (y**2).sum()))
            rows += [(v, c, value) for value in y]
    v, c, y = (np.array(column) for column in zip(*rows, strict=True))
    X = np.zeros((len(y), 11))
    X[np.arange(len(y)), c] = X[np.arange(len(y)), 3 + v] = X[np.arange(len(y)), 5 + 3 * v + c] = 1
    noise = np.empty(3)
    for k in range(3):
        within = sum(y[(c == k) & (v == j)].var() * ((c == k) & (v == j)).sum() for j in range(2))
        noise[k] = (within + 20 * y.var()) / ((c == k).sum() + 20)
    parts = regression.posterior(found.cells, versions, contexts, deviations)
    marginal = []
    for part, deviation in zip(parts, deviations, strict=True):
        prior = np.diag([1 / w for w in [1.0] * 5 + [deviation] * 6]) * y.var()
        whole = X @ prior @ X.T + np.diag(noise[c])
        gain = prior @ X.T @ np.linalg.inv(whole)
        centre, covariance = gain @ (y - y.mean()), prior - gain @ X @ prior
        marginal.append(stats.multivariate_normal(np.full(len(y), y.mean()), whole).logpdf(y))
        for k, context in enumerate(contexts):
            F = np.zeros((2, 11))
            F[:, k] = F[0, 3] = F[1, 4] = F[0, 5 + k] = F[1, 8 + k] = 1
            means, spread = part.of[context]
            assert means == pytest.approx(y.mean() + F @ centre)
            assert spread == pytest.approx(F @ covariance @ F.T)
    expected = np.exp(np.array(marginal) - max(marginal))
    assert [part.chance for part in parts] == pytest.approx(expected / expected.sum())


def test_contexts_act_as_one_where_they_do_not_matter_and_apart_where_they_do():
    """Verify by the share of the size of deviations that leaves contexts alike."""
    alike = state({str(i): (0.05, 0.07) for i in range(6)}, versions="12")
    apart = state({str(i): (0.05, 0.07) if i % 2 else (0.07, 0.05) for i in range(6)}, versions="12")

    def small(known):
        parts = regression.posterior(known.cells, known.versions, ["0"])
        return sum(part.chance for part in parts if part.deviation >= 1000)

    assert small(alike) > 0.5 > 0.1 > small(apart)


def test_three_versions_in_one_context_are_as_good_as_independent_ones():
    """Verify the lattice: with a flat prior the chances are those of the plain bandit."""
    one = state({"all": (0.05, 0.055, 0.06)}, pulls=3000)
    plain = probability_best(Policy(reward="continuous"), one.arms())
    assert linear.probability_best(one, ["all"])["all"] == pytest.approx(plain, abs=0.02)


def test_the_lattice_gives_the_chances_of_joint_normals():
    """Verify against the closed form for three exchangeable, correlated quantities and one shifted far up."""
    covariance = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 2.0]])
    assert integration.largest_of_joint_normals(np.zeros(3), covariance) == pytest.approx(
        [1 / 3] * 3, abs=0.002
    )
    assert integration.largest_of_joint_normals(np.array([9.0, 0, 0]), covariance) == [1, 0, 0]


def test_the_state_survives_json_and_goes_on_the_same():
    before = linear.kill(state(), "2")
    after = linear.read(json.loads(json.dumps(linear.document(before))))
    assert after == before
    assert linear.add(after, "de", Arm("1", 1, 1, 1)).cells["1"]["de"].pulls == 2001


def test_older_rewards_fade_in_every_context():
    half = linear.faded(state(), timedelta(hours=1), timedelta(hours=1))
    assert half.cells["1"]["de"].pulls == 1000
    assert half.arms("fr")[0].total == pytest.approx(80)
    assert half.arms()[0].pulls == 2000


def test_a_version_that_is_no_arm_is_refused():
    with pytest.raises(ValueError, match="version 9 is no arm"):
        linear.add(state(), "de", Arm("9", 1, 1, 1))
