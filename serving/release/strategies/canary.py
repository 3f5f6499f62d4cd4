"""Canary: rising weights, each kept until enough was seen; the decision metric is asked before the last word."""

from __future__ import annotations

from datetime import datetime

from serving.release.decision import Decision
from serving.release.look import Look, Obstacle
from serving.release.release import Canary, Step
from serving.release.state import ReleaseState
from serving.release.strategies import watching
from serving.release.strategies.ending import end, enter
from serving.release.traffic import Match, Traffic


def begin(state: ReleaseState, now: datetime) -> Decision:
    after = enter(state, 0, _traffic(state, 0), now, None)
    return Decision("start", f"version {state.release.candidate} gets {_step(after).weight} %", now, after)


def waiting_for(seen: Look) -> Obstacle | None:
    """What is still missing; None where the release may go on."""
    state, step = seen.state, _step(seen.state)
    answered = seen.answered - state.step_base.get("requests", 0)
    if answered < step.min_samples:
        return Obstacle(None, f"step {state.step + 1} has {answered} of {step.min_samples} requests")
    if (early := watching.too_early(seen, step.min_duration)) is not None:
        return early
    for check in state.release.checks:
        verdict = seen.verdict(check.name, state.release.candidate)
        if check.kind == "guardrail":
            if (blind := watching.unobserved(seen, check, state.release.candidate)) is not None:
                return blind
        elif check.kind == "decision" and _is_last(state) and verdict.outcome != "PASS":
            return Obstacle(check.name, f"{check.name} is {verdict.outcome}: {verdict.reason}")
    return None


def forward(seen: Look) -> Decision:
    state = seen.state
    if _is_last(state):
        deciding = next((v for v in seen.verdicts if v.kind == "decision"), None)
        if deciding is not None:
            return end(seen, "promote", f"{deciding.check}: {deciding.reason}", deciding.check)
        return end(seen, "promote", "every step is done and no guardrail fails", None)
    after = enter(state, state.step + 1, _traffic(state, state.step + 1), seen.now, seen)
    weight = _step(after).weight
    return seen.decide("advance", f"step {state.step + 1} is done and no guardrail fails: {weight} %", after)


def meanwhile(seen: Look, obstacle: Obstacle) -> Decision | None:
    return None


def _strategy(state: ReleaseState) -> Canary:
    strategy = state.release.strategy
    assert isinstance(strategy, Canary)  # noqa: S101 - this module was chosen by it
    return strategy


def _step(state: ReleaseState) -> Step:
    return _strategy(state).steps[state.step]


def _is_last(state: ReleaseState) -> bool:
    return state.step == len(_strategy(state).steps) - 1


def _traffic(state: ReleaseState, index: int) -> Traffic:
    strategy, candidate = _strategy(state), state.release.candidate
    weight = strategy.steps[index].weight
    weights = {state.champion: 100 - weight, candidate: weight}
    match = strategy.match
    return Traffic(
        weights={version: share for version, share in weights.items() if share},
        mirror_to=candidate if strategy.mirror else None,
        matches=() if match is None else (Match(match.kind, match.name, match.value or "", candidate),),
    )
