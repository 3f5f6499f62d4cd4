"""Epsilon-greedy: a stated share explores, the rest goes to the version with the best mean so far.

Source: R. S. Sutton and A. G. Barto, Reinforcement Learning, 2nd ed. (2018), section 2.2. It is easier to explain than
Thompson sampling and pays for it: it explores a version it has long found bad as much as one it cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.release.bandit.arm import Arm

#: Rewards that a mean needs before it may win: the first reward of all would otherwise decide alone.
ENOUGH = 30


def shares(arms: Sequence[Arm], epsilon: float) -> list[float]:
    """`split` by the versions' plain means; one of fewer than `ENOUGH` rewards has no mean yet."""
    return split([arm.total / arm.pulls if arm.pulls >= ENOUGH else None for arm in arms], epsilon)


def split(means: Sequence[float | None], epsilon: float) -> list[float]:
    """`epsilon` in equal parts, the rest to the best mean, or in equal parts to those that tie for it.

    A version without a mean (None) is explored, and neither wins nor loses. As long as none has one, the split is
    equal.
    """
    n = len(means)
    known = [mean for mean in means if mean is not None]
    if not known:
        return [1 / n] * n
    best = max(known)
    winners = sum(mean == best for mean in means)
    return [epsilon / n + ((1 - epsilon) / winners if mean == best else 0.0) for mean in means]
