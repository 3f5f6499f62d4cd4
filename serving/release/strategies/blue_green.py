"""Blue-green: warm up and smoke green at its preview address, switch once, keep blue warm, then make it final.

The champion's alias moves only when green has answered enough and blue's warm time is over; until then a failing
guardrail switches back by the same single change.
"""

from __future__ import annotations

from datetime import datetime

from serving.release import durations
from serving.release.decision import Decision
from serving.release.look import Look, Obstacle
from serving.release.release import BlueGreen
from serving.release.state import ReleaseState
from serving.release.strategies import watching
from serving.release.strategies.ending import end, enter
from serving.release.traffic import PREVIEW_HEADER, Match, Traffic

PREVIEW, SWITCHED = 0, 1

SMOKE = "smoke"


def begin(state: ReleaseState, now: datetime) -> Decision:
    green = state.release.candidate
    preview = Traffic({state.champion: 100}, matches=(Match("header", PREVIEW_HEADER, green, green),))
    after = enter(state, PREVIEW, preview, now, None)
    reason = f"version {green} is warmed up and can be previewed with the header {PREVIEW_HEADER}: {green}"
    return Decision("start", reason, now, after)


def waiting_for(seen: Look) -> Obstacle | None:
    """What is still missing; None where the release may go on."""
    state, strategy = seen.state, _strategy(seen.state)
    if state.step == PREVIEW:
        if not strategy.smoke and strategy.warm_up == 0:
            return None
        smoke = seen.evidence.smoke
        if smoke is None:
            return Obstacle(SMOKE, "no smoke request was answered yet")
        if smoke.failed:
            return None  # decided by `forward`
        if not smoke.tried:
            return Obstacle(SMOKE, smoke.detail)
        if smoke.passed < len(strategy.smoke):
            return Obstacle(SMOKE, f"{smoke.passed} of {len(strategy.smoke)} smoke requests have passed")
        return None
    answered = seen.answered - state.step_base.get("requests", 0)
    if answered < strategy.min_samples:
        return Obstacle(
            None, f"version {state.release.candidate} has {answered} of {strategy.min_samples} requests"
        )
    if (blind := watching.first_unobserved(seen)) is not None:
        return blind
    return watching.too_early(seen, strategy.keep_warm)


def forward(seen: Look) -> Decision:
    state, smoke = seen.state, seen.evidence.smoke
    green = state.release.candidate
    if state.step == SWITCHED:
        warm = durations.format(_strategy(state).keep_warm)
        return end(
            seen, "promote", f"no guardrail failed while version {state.champion} was warm ({warm})", None
        )
    if smoke is not None and smoke.failed:
        total = smoke.passed + smoke.failed
        return end(
            seen, "roll_back", f"{smoke.failed} of {total} smoke requests failed: {smoke.detail}", SMOKE
        )
    passed = 0 if smoke is None else smoke.passed
    switched = Traffic({green: 100})
    after = enter(state, SWITCHED, switched, seen.now, seen)
    return seen.decide("advance", f"{passed} smoke requests passed: all traffic to version {green}", after)


def meanwhile(seen: Look, obstacle: Obstacle) -> Decision | None:
    return None


def _strategy(state: ReleaseState) -> BlueGreen:
    strategy = state.release.strategy
    assert isinstance(strategy, BlueGreen)  # noqa: S101 - this module was chosen by it
    return strategy
