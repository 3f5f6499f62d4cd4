"""Shadow: the candidate answers copies, users never see it, and what it would have said gates its promotion.

Nobody is protected by a small weight here, so a guardrail with a bound must have passed, not merely not failed.
"""

from __future__ import annotations

from datetime import datetime

from serving.release.decision import Decision
from serving.release.look import Look, Obstacle
from serving.release.release import Shadow
from serving.release.state import ReleaseState
from serving.release.strategies import watching
from serving.release.strategies.ending import end, enter
from serving.release.traffic import Traffic


def begin(state: ReleaseState, now: datetime) -> Decision:
    candidate, percent = state.release.candidate, _strategy(state).percent
    traffic = Traffic({state.champion: 100}, mirror_to=candidate, mirror_percent=percent)
    after = enter(state, 0, traffic, now, None)
    return Decision("start", f"version {candidate} gets a copy of {percent} % of the requests", now, after)


def waiting_for(seen: Look) -> Obstacle | None:
    """What is still missing; None where the release may go on."""
    state, strategy = seen.state, _strategy(seen.state)
    if seen.answered < strategy.min_samples:
        return Obstacle(
            None, f"{seen.answered} of {strategy.min_samples} requests were answered by both versions"
        )
    if (early := watching.too_early(seen, strategy.min_duration)) is not None:
        return early
    for check in state.release.checks:
        verdict = seen.verdict(check.name, state.release.candidate)
        if check.kind == "guardrail":
            if (blind := watching.unobserved(seen, check, state.release.candidate)) is not None:
                return blind
            if not check.relative_to_champion and verdict.outcome != "PASS":
                return Obstacle(check.name, f"{check.name} is {verdict.outcome}: {verdict.reason}")
        elif check.kind == "decision" and verdict.outcome != "PASS":
            return Obstacle(check.name, f"{check.name} is {verdict.outcome}: {verdict.reason}")
    return None


def forward(seen: Look) -> Decision:
    deciding = next((v for v in seen.verdicts if v.kind == "decision"), None)
    if deciding is not None:
        return end(seen, "promote", f"{deciding.check}: {deciding.reason}", deciding.check)
    return end(
        seen, "promote", f"both versions answered {seen.answered} requests and every check holds", None
    )


def meanwhile(seen: Look, obstacle: Obstacle) -> Decision | None:
    return None


def _strategy(state: ReleaseState) -> Shadow:
    strategy = state.release.strategy
    assert isinstance(strategy, Shadow)  # noqa: S101 - this module was chosen by it
    return strategy
