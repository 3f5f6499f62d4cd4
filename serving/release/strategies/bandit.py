"""Bandit: weights follow what the versions earn, guardrails take versions out, and the decision metric ends it.

The policies are in `serving/release/bandit/`. A promotion still needs the decision metric to pass: weights chase
what looks best and say nothing about whether it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from serving.release import durations
from serving.release.bandit import linear, policy
from serving.release.bandit.arm import Arm
from serving.release.bandit.policy import Policy
from serving.release.decision import Decision
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.look import Look, Obstacle
from serving.release.release import Bandit
from serving.release.state import ReleaseState
from serving.release.statistics.moments import Moments
from serving.release.strategies import watching
from serving.release.strategies.ending import end, enter, retarget
from serving.release.strategies.holding import hold, unjudged
from serving.release.traffic import Segments, Traffic
from serving.release.verdict import Verdict

#: Context of requests whose header is missing or has no listed value.
OTHER = ""


def begin(state: ReleaseState, now: datetime) -> Decision:
    traffic = _traffic(state, Evidence(now))
    after = replace(enter(state, 0, traffic, now, None), updated_at=now)
    return Decision("start", f"weights begin equal: {_shown(traffic.weights)}", now, after)


def waiting_for(seen: Look) -> Obstacle | None:
    """What is still missing; None where a candidate is shown to be the better."""
    if (blind := watching.first_unobserved(seen)) is not None:
        return blind
    winner = _winner(seen)
    if winner is None:
        verdict = next(v for v in seen.verdicts if v.kind == "decision")
        return Obstacle(verdict.check, f"{verdict.check}: {verdict.reason}", planned=True)
    if (early := watching.too_early(seen, _strategy(seen.state).min_duration)) is not None:
        return Obstacle(early.check, early.reason, planned=True)
    return None


def forward(seen: Look) -> Decision:
    winner = _winner(seen)
    assert winner is not None  # noqa: S101 - `waiting_for` found one
    return end(seen, "promote", f"{winner.check}: {winner.reason}", winner.check, winner.version)


def meanwhile(seen: Look, obstacle: Obstacle) -> Decision | None:
    """New weights where they are due and the evidence can be trusted; the end where the time is over."""
    state, strategy = seen.state, _strategy(seen.state)
    over = (state.step_started_at or seen.now) + strategy.max_duration + strategy.outcome_delay
    if seen.now >= over:
        if (blind := unjudged(seen, over)) is not None:
            return hold(seen, blind)
        duration = durations.format(strategy.max_duration)
        reason = f"the planned {duration} are over and no version was shown to be better: {obstacle.reason}"
        if state.champion in state.dropped:
            # back to a version that a guardrail has taken out is no way out: a person must choose
            alert = f"version {state.champion} is out and the planned {duration} are over; promote a version or abort"
            news = alert if alert != state.alert else None
            return seen.decide("hold", f"{alert}: {reason}", replace(state, alert=alert), alert=news)
        return end(seen, "abort", reason, obstacle.check)
    if obstacle.alert is not None or seen.evidence.silent:
        return None
    if seen.now - (state.updated_at or seen.now) < strategy.update:
        return None
    traffic = _traffic(state, seen.evidence)
    after = replace(state, updated_at=seen.now)
    if traffic == state.traffic:
        return seen.decide("hold", f"rewards leave the weights as they are; {obstacle.reason}", after)
    after = retarget(after, traffic)
    return seen.decide("update", f"weights follow the rewards: {_shown(traffic.weights)}", after)


def _traffic(state: ReleaseState, evidence: Evidence) -> Traffic:
    strategy, decision = _strategy(state), state.release.decision
    assert decision is not None  # noqa: S101 - the document must state it
    order = (state.champion, *state.release.candidates)
    known = {version: evidence.arms.get(version, ArmEvidence()) for version in order}
    arms = [
        _arm(version, known[version].outcomes.get(decision.name, Moments()), version in state.dropped)
        for version in order
    ]
    # a loss is a reward with its sign turned
    rewards = [
        _turned(arm, decision.value_type == "binary") if decision.direction == "decrease" else arm
        for arm in arms
    ]
    plan = Policy(
        kind=strategy.policy,
        floor=strategy.floor,
        reward="binary" if decision.value_type == "binary" else "continuous",
        epsilon=strategy.epsilon / 100 if strategy.policy == "epsilonGreedy" else None,
    )
    weights = policy.weights(plan, rewards, state.weights)
    traffic = Traffic({version: weight for version, weight in weights.items() if weight})
    if strategy.context is None:
        return traffic
    cells = linear.State(
        order,
        {
            version: {
                value: _signed(_arm(version, moments, False), decision.direction == "decrease")
                for value, moments in known[version].contexts.get(decision.name, {}).items()
            }
            for version in order
        },
        frozenset(state.dropped),
    )
    names = (*strategy.context.values, OTHER)
    previous = None if state.traffic.segments is None else dict(state.traffic.segments.weights)
    found = linear.weights_by_context(plan, cells, names, previous)
    by_value = {name: {v: w for v, w in found[name].items() if w} for name in strategy.context.values}
    return Traffic(
        {version: weight for version, weight in found[OTHER].items() if weight},
        segments=Segments(strategy.context.header, by_value),
    )


def _arm(version: str, moments: Moments, killed: bool) -> Arm:
    return Arm(version, moments.n, moments.y, moments.yy, killed)


def _turned(arm: Arm, binary: bool) -> Arm:
    if not binary:
        return _signed(arm, True)
    return replace(arm, total=arm.pulls - arm.total, squares=arm.pulls - 2 * arm.total + arm.squares)


def _signed(arm: Arm, loss: bool) -> Arm:
    return replace(arm, total=-arm.total) if loss else arm


def _winner(seen: Look) -> Verdict | None:
    """The candidate that is shown to be better; none where each context has a best of its own."""
    if _strategy(seen.state).context is not None:
        return None
    passed = [v for v in seen.verdicts if v.kind == "decision" and v.outcome == "PASS"]
    return max(passed, key=lambda v: v.estimate if v.estimate is not None else 0.0) if passed else None


def _shown(weights: Mapping[str, int]) -> str:
    return ", ".join(f"version {version} {weight} %" for version, weight in weights.items())


def _strategy(state: ReleaseState) -> Bandit:
    strategy = state.release.strategy
    assert isinstance(strategy, Bandit)  # noqa: S101 - this module was chosen by it
    return strategy
