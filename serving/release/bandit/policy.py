"""A bandit's decision at one update: from what each version earned to the weights of the next.

Nothing is drawn here: a policy says how often each version is to be served and the router draws for each request, so
the same sums give the same weights, and a journal that holds the sums replays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from serving.release.bandit import allocation, epsilon, thompson
from serving.release.bandit.arm import Arm, living
from windlass.errors import UsageError


@dataclass(frozen=True)
class Policy:
    """How rewards become weights.

    Attributes:
        floor: percent of the traffic that every living version keeps, so that a change is noticed and each
            version's worth can be estimated from the log afterwards.
        reward: "binary" for zeros and ones, "continuous" for anything else.
        epsilon: epsilonGreedy: the share of traffic that explores, in [0, 1]; None: the floors alone explore.
        sharpness: thompson: the power of the chances that becomes traffic. 1 is probability matching; 2 explores
            less where the evidence is already one-sided, about what halving the posterior variance does.
        half_life: age at which a reward counts half (`arm.faded`); None: rewards keep their worth.

    Raises:
        UsageError: a value that cannot be meant.
    """

    kind: Literal["thompson", "epsilonGreedy"] = "thompson"
    floor: int = 5
    reward: Literal["binary", "continuous"] = "binary"
    epsilon: float | None = None
    sharpness: float = 2.0
    half_life: timedelta | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 50:
            raise UsageError(
                f"bandit: floor {self.floor} is no percentage that two versions can keep; give 0 to 50"
            )
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            raise UsageError(f"bandit: epsilon {self.epsilon:g} is no share of the traffic; give 0 to 1")
        if self.epsilon is not None and self.kind == "thompson":
            raise UsageError("bandit: thompson has no epsilon; drop it, or state policy: epsilonGreedy")
        if self.kind == "epsilonGreedy" and self.floor == 0 and not self.epsilon:
            raise UsageError(
                "bandit: epsilonGreedy never explores with floor 0 and no epsilon; give one of them"
            )
        if not self.sharpness > 0:
            raise UsageError(f"bandit: sharpness {self.sharpness:g} forgets the evidence; give 1 or 2")
        if self.half_life is not None and self.half_life <= timedelta(0):
            raise UsageError(f"bandit: half-life {self.half_life} is no age; give one above 0")


def weights(policy: Policy, arms: Sequence[Arm], previous: Mapping[str, int]) -> dict[str, int]:
    """Percent of the traffic of each version, in the order of `arms`; sum 100.

    A killed version gets 0, every other at least the floor. Without any matured reward the living share equally.

    Args:
        previous: the weights in force; only a tie in rounding looks at them.

    Raises:
        UsageError: more floors than traffic, or sums that the stated kind of reward cannot have.
        ValueError: no living version, or two of one name.
    """
    alive = living(arms)
    if policy.kind == "thompson":
        shares = thompson.sharpened(_chances(policy, alive), policy.sharpness)
    else:
        shares = epsilon.shares(alive, policy.epsilon or 0.0)
    lifted = allocation.floored(shares, policy.floor / 100)
    given = allocation.percents(dict(zip((arm.version for arm in alive), lifted, strict=True)), previous)
    return {arm.version: given.get(arm.version, 0) for arm in arms}


def probability_best(policy: Policy, arms: Sequence[Arm]) -> dict[str, float]:
    """Posterior chance of each version that it earns the most, in the order of `arms`; 0 for a killed one.

    It is the chance under the policy's model of rewards whichever policy steers. It is no e-value: a rule that stops
    as soon as it passes 95 % is wrong more often than in 5 % of bandits; for a decision that holds at every
    look there is `serving.release.statistics`.

    Raises:
        UsageError, ValueError: as `weights`.
    """
    alive = living(arms)
    chances = dict(zip((arm.version for arm in alive), _chances(policy, alive), strict=True))
    return {arm.version: chances.get(arm.version, 0.0) for arm in arms}


def _chances(policy: Policy, alive: Sequence[Arm]) -> list[float]:
    return thompson.binary(alive) if policy.reward == "binary" else thompson.continuous(alive)
