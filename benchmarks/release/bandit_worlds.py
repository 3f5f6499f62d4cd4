"""The worlds in which the bandit is measured: versions, their rewards, the delay, and the engine's updates.

The policies, the guardrail's evidence and the off-policy estimates are the engine's own; the router is a multinomial
draw of each update's requests by the weights in force.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from serving.release.bandit import linear
from serving.release.bandit.arm import Arm, faded
from serving.release.bandit.off_policy import Cell
from serving.release.bandit.policy import Policy, weights
from serving.release.statistics import arms as guardrail

TICK = 500
#: Updates after which every reward of an update has matured: a delay of 1,000 requests ends in the third.
DELAY = 3
TICKS = 100
FLOOR = 5
RATES = (0.05, 0.055, 0.07)

Rule = Callable[[Sequence[Arm], dict[str, int]], dict[str, int]]
Floats = np.ndarray


def of_policy(policy: Policy) -> Rule:
    return lambda arms, previous: weights(policy, arms, previous)


def equal(arms: Sequence[Arm], previous: dict[str, int]) -> dict[str, int]:
    """As equal as integers are."""
    return weights(Policy(), [Arm(arm.version) for arm in arms], previous)


def ucb_tuned(arms: Sequence[Arm], previous: dict[str, int]) -> dict[str, int]:
    """UCB1-tuned (P. Auer, N. Cesa-Bianchi, P. Fischer, Machine Learning 47 (2002) 235-256), above the floors."""
    total = sum(arm.pulls for arm in arms)
    if min(arm.pulls for arm in arms) == 0:
        return equal(arms, previous)

    def index(arm: Arm) -> float:
        mean = arm.total / arm.pulls
        spread = arm.squares / arm.pulls - mean**2 + math.sqrt(2 * math.log(total) / arm.pulls)
        return mean + math.sqrt(math.log(total) / arm.pulls * min(0.25, spread))

    best = max(arms, key=index).version
    rest = 100 - FLOOR * (len(arms) - 1)
    return {arm.version: rest if arm.version == best else FLOOR for arm in arms}


THOMPSON = Policy(floor=FLOOR)
RULES: dict[str, Rule] = {
    "windlass thompson": of_policy(THOMPSON),
    "windlass thompson, sharpness 1": of_policy(Policy(floor=FLOOR, sharpness=1)),
    "windlass epsilon-greedy": of_policy(Policy("epsilonGreedy", floor=FLOOR)),
    "windlass epsilon-greedy, epsilon 0.2": of_policy(Policy("epsilonGreedy", floor=FLOOR, epsilon=0.2)),
    "UCB1-tuned": ucb_tuned,
    "equal split": equal,
}


@dataclass
class Run:
    """One bandit: cumulated expected regret and the weights of each update, what has matured, and the log."""

    regret: Floats
    shares: Floats
    arms: list[Arm]
    cells: list[Cell] = field(default_factory=list)


def play(
    rule: Rule,
    rng: np.random.Generator,
    rates: Callable[[int], Sequence[float]] = lambda tick: RATES,
    reward: str = "binary",
    half_life: int | None = None,
) -> Run:
    """A bandit over `TICKS` updates; regret is that of the weights played, in rewards.

    Args:
        half_life: in updates.
    """
    k = len(rates(0))
    arms = [Arm(str(i)) for i in range(k)]
    waiting: list[list[Cell]] = []
    run = Run(np.zeros(TICKS), np.zeros((TICKS, k)), arms)
    given: dict[str, int] = {}
    lost = 0.0
    for tick in range(TICKS):
        if tick >= DELAY:
            if half_life:
                arms = [faded(arm, timedelta(1), timedelta(half_life)) for arm in arms]
            arms = [merged(arm, cell) for arm, cell in zip(arms, waiting[tick - DELAY], strict=True)]
            run.cells += waiting[tick - DELAY]
        given = rule(arms, given)
        shares = np.array([given[str(i)] for i in range(k)]) / 100
        truth = np.asarray(rates(tick))
        lost += TICK * float(shares @ (truth.max() - truth))
        run.regret[tick], run.shares[tick] = lost, shares
        served = rng.multinomial(TICK, shares)
        sums = [earned(reward, int(n), float(rate), rng) for n, rate in zip(served, truth, strict=True)]
        waiting.append([Cell(tick, str(i), float(shares[i]), int(served[i]), *sums[i]) for i in range(k)])
    run.arms = arms
    return run


def merged(arm: Arm, cell: Cell) -> Arm:
    return Arm(
        arm.version, arm.pulls + cell.pulls, arm.total + cell.total, arm.squares + cell.squares, arm.killed
    )


def earned(reward: str, n: int, rate: float, rng: np.random.Generator) -> tuple[float, float]:
    """Sum and sum of squares of `n` rewards: a conversion, or what a conversion pays (lognormal, mean 1)."""
    conversions = int(rng.binomial(n, rate))
    if reward == "binary":
        return float(conversions), float(conversions)
    paid = rng.lognormal(-0.125, 0.5, conversions)
    return float(paid.sum()), float(paid @ paid)


def swapped(tick: int) -> Sequence[float]:
    """The best version becomes the worst halfway."""
    return RATES if tick < TICKS // 2 else RATES[::-1]


@dataclass(frozen=True)
class Failing:
    """What became of one bandit with a guardrail.

    Attributes:
        ticks: updates from the first failing requests until the weight was 0; None: never.
        healthy_killed: whether the guardrail stopped a version with which nothing was wrong.
    """

    ticks: int | None
    healthy_killed: bool


def fail(
    rng: np.random.Generator,
    since: int,
    rates: Sequence[float],
    pooled: bool = False,
    error: float = 0.002,
    alpha: float = 0.01,
) -> Failing:
    """A bandit whose last version fails half of its requests from update `since` on; the first is the champion.

    At each update the guardrail bets on each watched version's errors against those of concurrent requests, at
    `alpha` shared by the watched: of all but the champion against the champion's, or (`pooled`) of each version against
    all others'. A failed request earns nothing and never gets a reward.
    """
    k = len(rates)
    watched = range(k) if pooled else range(1, k)
    arms = [Arm(str(i)) for i in range(k)]
    wealth = [guardrail.START] * k
    waiting: list[list[Cell]] = []
    given: dict[str, int] = {}
    gone = None
    for tick in range(TICKS):
        if tick >= DELAY:
            arms = [merged(arm, cell) for arm, cell in zip(arms, waiting[tick - DELAY], strict=True)]
        given = weights(THOMPSON, arms, given)
        if gone is None and given[str(k - 1)] == 0:
            gone = tick - since
        served = rng.multinomial(TICK, np.array(list(given.values())) / 100)
        failing = np.full(k, error)
        if tick >= since:
            failing[-1] = 0.5
        errors = rng.binomial(served, failing)
        answered = served - errors
        cells = []
        for i in range(k):
            total = float(rng.binomial(answered[i], rates[i]))
            cells.append(Cell(tick, str(i), given[str(i)] / 100, int(answered[i]), total, total))
        waiting.append(cells)
        for i in watched:
            others = [j for j in range(k) if j != i] if pooled else [0]
            n, events = int(served[others].sum()), int(errors[others].sum())
            if arms[i].killed or served[i] == 0 or n == 0:
                continue
            wealth[i] = guardrail.add(
                wealth[i], guardrail.Batch(int(served[i]), int(errors[i]), n, events), 0.0
            )
            if guardrail.log_evidence(wealth[i]) >= math.log(len(watched) / alpha):
                arms[i] = Arm(arms[i].version, arms[i].pulls, arms[i].total, arms[i].squares, killed=True)
    return Failing(gone, any(arm.killed for arm in arms[:-1]) or (gone is not None and gone <= 0))


#: Share of the traffic and rewards of the versions in each context.
MARKETS: dict[str, tuple[float, tuple[float, ...]]] = {
    "de": (0.4, (0.05, 0.055, 0.07)),
    "fr": (0.3, (0.05, 0.055, 0.07)),
    "it": (0.2, (0.07, 0.055, 0.05)),
    "lu": (0.1, (0.05, 0.055, 0.07)),
}
CONTEXTUAL = ("windlass linear", "a bandit for each context", "one bandit for all", "equal split")


def play_markets(contender: str, rng: np.random.Generator) -> float:
    """Expected regret, in rewards, against the best version of each context."""
    versions = [str(i) for i in range(3)]
    state = linear.start(versions)
    waiting: list[list[tuple[str, Arm]]] = []
    given: dict[str, dict[str, int]] = {}
    lost = 0.0
    for tick in range(TICKS):
        if tick >= DELAY:
            for market, arm in waiting[tick - DELAY]:
                state = linear.add(state, market, arm)
        given = split_markets(contender, state, given)
        sizes = rng.multinomial(TICK, [share for share, _ in MARKETS.values()])
        matured = []
        for (market, (share, rates)), size in zip(MARKETS.items(), sizes, strict=True):
            shares = np.array(list(given[market].values())) / 100
            lost += TICK * share * float(shares @ (max(rates) - np.array(rates)))
            served = rng.multinomial(size, shares)
            totals = rng.binomial(served, rates)
            matured += [
                (market, Arm(version, int(n), float(y), float(y)))
                for version, n, y in zip(versions, served, totals, strict=True)
            ]
        waiting.append(matured)
    return lost


def split_markets(
    contender: str, state: linear.State, before: dict[str, dict[str, int]]
) -> dict[str, dict[str, int]]:
    if contender == "windlass linear":
        return linear.weights_by_context(THOMPSON, state, list(MARKETS), before)
    if contender == "a bandit for each context":
        return {market: weights(THOMPSON, state.arms(market), before.get(market, {})) for market in MARKETS}
    if contender == "one bandit for all":
        return dict.fromkeys(MARKETS, weights(THOMPSON, state.arms(), {}))
    return dict.fromkeys(MARKETS, equal(state.arms(), {}))
