"""Weights from sums: what must hold of any policy, the chances against scipy's integrals, the regret of a small run."""

from __future__ import annotations

import itertools
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from serving.release.bandit import integration, thompson
from serving.release.bandit.arm import Arm, faded
from serving.release.bandit.policy import Policy, probability_best, weights
from windlass.errors import UsageError

THOMPSON = Policy()
GREEDY = Policy(kind="epsilonGreedy", epsilon=0.1)


def arm(version, pulls, successes, killed=False):
    return Arm(version, pulls, float(successes), float(successes), killed)


@st.composite
def known(draw):
    count = draw(st.integers(1, 6))
    arms = []
    for number in range(count):
        pulls = draw(st.integers(0, 10**6))
        arms.append(arm(str(number), pulls, draw(st.integers(0, pulls)), draw(st.booleans())))
    if all(a.killed for a in arms):
        arms[0] = Arm(arms[0].version, arms[0].pulls, arms[0].total, arms[0].squares)
    return arms


@settings(max_examples=150, deadline=None)
@given(known(), st.sampled_from(["thompson", "epsilonGreedy"]), st.sampled_from(["binary", "continuous"]))
def test_weights_are_percents_that_sum_to_100_and_keep_floors_and_kills(arms, kind, reward):
    policy = Policy(kind=kind, reward=reward, floor=7)
    given_ = weights(policy, arms, {})
    assert sum(given_.values()) == 100
    assert list(given_) == [a.version for a in arms]
    for a in arms:
        assert given_[a.version] == 0 if a.killed else given_[a.version] >= 7
    assert given_ == weights(policy, arms, {})
    chances = probability_best(policy, arms)
    assert sum(chances.values()) == pytest.approx(1)


@pytest.mark.parametrize("policy", [THOMPSON, GREEDY], ids=["thompson", "epsilon-greedy"])
@pytest.mark.parametrize(
    ("arms", "previous", "expected"),
    [
        pytest.param([arm("1", 0, 0), arm("2", 0, 0)], {}, [50, 50], id="no-reward-yet-splits-equally"),
        pytest.param(
            [arm("1", 0, 0), arm("2", 0, 0), arm("3", 0, 0)], {"2": 90}, [33, 34, 33], id="odd-percent-stays"
        ),
        pytest.param(
            [arm("1", 0, 0), arm("2", 0, 0), arm("3", 0, 0)], {}, [34, 33, 33], id="odd-percent-to-the-first"
        ),
        pytest.param(
            [arm("1", 900, 90), arm("2", 900, 90)], {"1": 5, "2": 95}, [50, 50], id="equal-sums-share-equally"
        ),
        pytest.param([arm("1", 5, 5, True), arm("2", 9, 0)], {}, [0, 100], id="the-last-one-takes-all"),
        pytest.param(
            [arm("1", 10**6, 10**5), arm("2", 10**6, 0)], {}, [95, 5], id="a-certain-loser-keeps-the-floor"
        ),
        pytest.param(
            [arm("1", 900, 300, True), arm("2", 900, 0), arm("3", 900, 300)],
            {},
            [0, 5, 95],
            id="killed-gets-nothing",
        ),
    ],
)
def test_weights_of(policy, arms, previous, expected):
    assert list(weights(policy, arms, previous).values()) == expected


@pytest.mark.parametrize("policy", [THOMPSON, GREEDY], ids=["thompson", "epsilon-greedy"])
def test_a_version_without_rewards_is_taken_for_neither_bad_nor_best(policy):
    """Verify that missing rewards give a version at most its equal share, and more than a version known to be worse."""
    unheard, good, bad = weights(
        policy, [arm("u", 0, 0), arm("g", 20000, 1000), arm("b", 20000, 600)], {}
    ).values()
    assert bad <= unheard <= 33 < good


def test_rewards_that_are_still_out_do_not_change_weights():
    """Verify that pulls count once matured: a version of which half the rewards are known is not half as good."""
    complete = [arm("1", 4000, 400), arm("2", 4000, 400)]
    half_out = [arm("1", 2000, 200), arm("2", 4000, 400)]
    assert max(weights(THOMPSON, complete, {}).values()) == 50
    assert max(weights(THOMPSON, half_out, {}).values()) < 65


def test_epsilon_explores_and_the_floor_holds_where_it_is_more():
    arms = [arm("1", 100, 10), arm("2", 100, 30), arm("3", 100, 20)]
    assert list(weights(Policy("epsilonGreedy", floor=1, epsilon=0.3), arms, {}).values()) == [10, 80, 10]
    assert list(weights(Policy("epsilonGreedy", floor=20, epsilon=0.3), arms, {}).values()) == [20, 60, 20]
    assert list(weights(Policy("epsilonGreedy", floor=5), arms, {}).values()) == [5, 90, 5]


def test_sharpness_is_the_power_of_the_chances():
    """Verify that 1 is probability matching, and that 2 moves traffic to what looks best."""
    arms = [arm("1", 1000, 50), arm("2", 1000, 55), arm("3", 1000, 65)]
    chances = np.array(list(probability_best(THOMPSON, arms).values()))
    for power in (1, 2):
        given_ = list(weights(Policy(floor=0, sharpness=power), arms, {}).values())
        assert given_ == pytest.approx(100 * chances**power / (chances**power).sum(), abs=1)


def test_one_early_reward_does_not_decide_for_epsilon_greedy():
    assert list(weights(GREEDY, [arm("1", 1, 1), arm("2", 1, 0)], {}).values()) == [50, 50]


@pytest.mark.parametrize(
    ("sums", "rest"),
    [
        pytest.param([(1000, 50), (900, 50), (1200, 85), (20, 1)], None, id="similar"),
        pytest.param([(0, 0), (30000, 1500)], None, id="one-unheard"),
        pytest.param([(10, 10), (10, 9), (3, 3)], None, id="near-one"),
        pytest.param([(5, 0), (50, 0), (100000, 3)], None, id="near-zero"),
    ],
)
def test_chances_of_zeros_and_ones_are_the_integral_over_the_posteriors(sums, rest):
    arms = [arm(str(i), n, s) for i, (n, s) in enumerate(sums)]
    pooled = (sum(s for _, s in sums) + 1) / (sum(n for n, _ in sums) + 2)
    laws = [
        stats.beta(s + max(1, pooled / (1 - pooled)), n - s + max(1, (1 - pooled) / pooled)) for n, s in sums
    ]
    edges = sorted(
        {float(q) for law in laws for q in law.ppf([1e-9, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-9])}
    )

    def chance(k):
        def density(x):
            return laws[k].pdf(x) * np.prod([law.cdf(x) for i, law in enumerate(laws) if i != k])

        cuts = [0, *edges, 1]
        return sum(integrate.quad(density, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(cuts))

    assert thompson.binary(arms) == pytest.approx([chance(k) for k in range(len(laws))], abs=1e-7)


def test_chances_of_any_rewards_are_the_integral_over_students_posteriors():
    """Verify against the conjugate update written step by step, and scipy's t."""
    rng = np.random.default_rng(3)
    samples = [rng.normal(10, 3, 40), rng.normal(11, 1, 7), rng.normal(9, 5, 400)]
    everything = np.concatenate(samples)
    m0, k0, a0, b0 = everything.mean(), 1, 1, everything.var()
    laws = []
    for x in samples:
        k, a = k0 + len(x), a0 + len(x) / 2
        m = (k0 * m0 + x.sum()) / k
        b = b0 + ((x - x.mean()) ** 2).sum() / 2 + k0 * len(x) * (x.mean() - m0) ** 2 / (2 * k)
        laws.append(stats.t(2 * a, m, np.sqrt(b / (a * k))))
    expected = [
        integrate.quad(
            lambda x, k=k: laws[k].pdf(x) * np.prod([law.cdf(x) for i, law in enumerate(laws) if i != k]),
            0,
            25,
            points=[9, 10, 11],
            limit=200,
        )[0]
        for k in range(3)
    ]
    arms = [Arm(str(i), len(x), x.sum(), (x**2).sum()) for i, x in enumerate(samples)]
    assert thompson.continuous(arms) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1e-6, 0), (1, 500), (-0.0 + 2, -40)])
def test_the_unit_of_a_continuous_reward_does_not_matter(scale, shift):
    rng = np.random.default_rng(4)
    samples = [rng.exponential(1, 50), rng.exponential(1.2, 30)]

    def sums(x):
        return x.sum(), (x**2).sum()

    policy = Policy(reward="continuous")
    plain = [Arm(str(i), len(x), *sums(x)) for i, x in enumerate(samples)]
    moved = [Arm(str(i), len(x), *sums(scale * x + shift)) for i, x in enumerate(samples)]
    assert probability_best(policy, moved)["1"] == pytest.approx(
        probability_best(policy, plain)["1"], abs=1e-5
    )


def test_rewards_that_never_differ_prefer_nobody():
    arms = [Arm("1", 10, 1.0, 0.1), Arm("2", 500, 50.0, 5.0)]
    assert list(weights(Policy(reward="continuous"), arms, {}).values()) == [50, 50]


def test_the_quadrature_is_exact_for_two_normals_of_any_widths():
    rng = np.random.default_rng(1)
    for _ in range(50):
        means, deviations = rng.normal(0, 1, 2), 10.0 ** rng.uniform(-4, 2, 2)
        expected = stats.norm.cdf((means[0] - means[1]) / np.hypot(*deviations))
        assert integration.largest_of_normals(means, deviations)[0] == pytest.approx(expected, abs=1e-9)


def test_what_was_seen_one_half_life_ago_counts_half():
    old = faded(Arm("1", 100, 8.0, 4.0), timedelta(hours=3), timedelta(hours=1))
    assert (old.pulls, old.total, old.squares) == pytest.approx((12.5, 1.0, 0.5))
    assert weights(THOMPSON, [old, arm("2", 10, 1)], {})["2"] > 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: Policy(floor=51), "floor 51", id="floor"),
        pytest.param(lambda: Policy("epsilonGreedy", epsilon=1.5), "epsilon 1.5", id="epsilon"),
        pytest.param(lambda: Policy(epsilon=0.1), "thompson has no epsilon", id="epsilon-of-thompson"),
        pytest.param(lambda: Policy("epsilonGreedy", floor=0), "never explores", id="no-exploration"),
        pytest.param(lambda: Policy(half_life=timedelta(0)), "half-life", id="half-life"),
        pytest.param(lambda: Policy(sharpness=0), "sharpness 0", id="sharpness"),
        pytest.param(
            lambda: weights(Policy(floor=40), [arm("1", 0, 0), arm("2", 0, 0), arm("3", 0, 0)], {}),
            "at most 33 is possible",
            id="more-floors-than-traffic",
        ),
        pytest.param(
            lambda: weights(THOMPSON, [Arm("1", 3, 7.5, 30)], {}), "continuous", id="not-zeros-and-ones"
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize(
    "arms", [[arm("1", 0, 0, True)], [arm("1", 0, 0), arm("1", 0, 0)], []], ids=["killed", "twice", "none"]
)
def test_weights_need_one_living_version_of_each_name(arms):
    with pytest.raises(ValueError, match="versions"):
        weights(THOMPSON, arms, {})


def regret(policy, seed, rates=(0.05, 0.055, 0.07), ticks=100, requests=500, delay=3):
    """Expected regret of the weights played over that of an equal split."""
    rng = np.random.default_rng(seed)
    rates = np.array(rates)
    gaps, waiting, lost = rates.max() - rates, [], 0.0
    pulls, successes, previous = np.zeros(len(rates)), np.zeros(len(rates)), {}
    for tick in range(ticks):
        if tick >= delay:
            pulls, successes = pulls + waiting[tick - delay][0], successes + waiting[tick - delay][1]
        arms = [arm(str(i), *both) for i, both in enumerate(zip(pulls, successes, strict=True))]
        previous = weights(policy, arms, previous)
        shares = np.array(list(previous.values())) / 100
        served = rng.multinomial(requests, shares)
        waiting.append((served, rng.binomial(served, rates)))
        lost += requests * shares @ gaps
    return lost / (ticks * requests * gaps.mean())


@pytest.mark.parametrize("policy", [THOMPSON, Policy("epsilonGreedy")], ids=["thompson", "epsilon-greedy"])
def test_regret_with_delayed_rewards_is_a_quarter_of_an_equal_splits(policy):
    """Verify on 30 seeds; the benchmark does it on 500. The floors and the delay alone make it 0.18."""
    lost = [regret(policy, seed) for seed in range(30)]
    assert 0.17 < np.mean(lost) <= 0.25
