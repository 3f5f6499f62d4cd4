"""What is known of one version when weights are decided: sums of the rewards that have matured.

A request whose reward may still come is in none of them: counted as a failure it would punish the version that
answered most of the latest requests. When a reward has matured is the journal's business.

The plain mean `total / pulls` of data collected by a bandit is biased, downwards as a rule, since a version that
was unlucky early is asked less often and its mean stays low (X. Nie, X. Tian, J. Taylor and J. Zou, "Why adaptively
collected data have negative bias and how to correct for it", AISTATS 2018). It is fit to steer traffic; what a version
is worth is estimated in `off_policy.py`, and a decision compares versions within each look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta


@dataclass(frozen=True)
class Arm:
    """One version at one update.

    Attributes:
        pulls: requests whose reward has matured; a fraction where older ones have faded.
        total: sum of their rewards.
        squares: sum of their squared rewards.
        killed: a guardrail stopped it: weight 0, floor or not.
    """

    version: str
    pulls: float = 0
    total: float = 0.0
    squares: float = 0.0
    killed: bool = False

    @property
    def mean(self) -> float | None:
        """Mean reward; None without rewards, which is not zero."""
        return self.total / self.pulls if self.pulls > 0 else None


def living(arms: Sequence[Arm]) -> list[Arm]:
    """The versions that may answer requests, in their order.

    Raises:
        ValueError: there are none, or two of one name; the champion takes all traffic by a rollback, not by weights.
    """
    names = [arm.version for arm in arms]
    if len(set(names)) != len(names):
        raise ValueError(f"versions {names}: each may be an arm once")
    alive = [arm for arm in arms if not arm.killed]
    if not alive:
        raise ValueError(f"versions {names}: none is left to take traffic; roll back to the champion instead")
    return alive


def faded(arm: Arm, elapsed: timedelta, half_life: timedelta) -> Arm:
    """`arm` after `elapsed`: what was seen one `half_life` ago counts half, so that the policy follows a drift.

    Source: V. Raj and S. Kalyani, "Taming non-stationary bandits: a Bayesian approach", arXiv:1707.09727 (2017),
    which discounts both counts of a Beta posterior at each step.
    """
    left = 0.5 ** (elapsed / half_life)
    return replace(arm, pulls=arm.pulls * left, total=arm.total * left, squares=arm.squares * left)
