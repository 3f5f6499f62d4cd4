"""How a release ends, how a candidate leaves it, and how a step begins: the same for every strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Literal

from serving.release import buckets
from serving.release.counts import Counts
from serving.release.decision import Decision
from serving.release.look import Look, recovered, step_log_evidence
from serving.release.state import Ratio, ReleaseState
from serving.release.traffic import Traffic, all_to


def end(
    seen: Look,
    action: Literal["promote", "roll_back", "abort"],
    reason: str,
    check: str | None,
    winner: str | None = None,
) -> Decision:
    """End the release: all traffic to the winner of a promotion, else to the champion."""
    state = seen.state
    if action == "promote":
        winner = winner or state.candidates[0]
        after = replace(state, phase="Promoted", traffic=all_to(winner))
        return seen.decide(action, reason, after, check=check, champion=winner)
    phase: Literal["RolledBack", "Aborted"] = "RolledBack" if action == "roll_back" else "Aborted"
    after = replace(state, phase=phase, traffic=all_to(state.champion))
    return seen.decide(action, reason, after, check=check, alert=reason)


def enter(
    state: ReleaseState, index: int, traffic: Traffic, now: datetime, seen: Look | None
) -> ReleaseState:
    """The state at the beginning of a step: its traffic, and what had been observed by then."""
    base = {"requests": sum(state.requests.get(v, Counts()).n for v in state.release.candidates)}
    settled = 0.0
    if seen is not None:
        settled = state.ratio.settled + step_log_evidence(state, state.ratio)
        base |= {state.key(v.check, v.version or ""): v.n for v in seen.verdicts if v.version}
    return replace(
        state,
        step=index,
        traffic=traffic,
        step_started_at=now,
        step_base=base,
        ratio=Ratio(settled=settled),
        # a step begins with nothing; the first look that finds it as planned clears this
        blocked_since=None if state.rules == 1 else now,
        alert=None,
    )


def retarget(state: ReleaseState, traffic: Traffic) -> ReleaseState:
    """Other traffic within a step; what was split by the old weights is settled."""
    settled = state.ratio.settled + step_log_evidence(state, state.ratio)
    return replace(state, traffic=traffic, ratio=Ratio(settled=settled))


def without(seen: Look, out: Mapping[str, str]) -> ReleaseState:
    """The state without some versions; the champion takes over what they had (of a champion, the largest other)."""
    state = seen.state
    gone = {*out, *state.dropped}
    weights = {version: weight for version, weight in state.weights.items() if version not in gone}
    living = [v for v in (state.champion, *state.release.candidates) if v not in gone]
    heir = (
        state.champion
        if state.champion in living
        else max(living, key=lambda version: weights.get(version, 0))
    )
    weights[heir] = weights.get(heir, 0) + 100 - sum(weights.values())
    traffic = replace(
        state.traffic,
        weights=weights,
        matches=tuple(match for match in state.traffic.matches if match.version not in out),
        segments=None,
    )
    if traffic.assignment is not None:
        # nobody moves but the users of a version that is out
        moved = buckets.move(traffic.assignment.buckets, weights)
        traffic = replace(traffic, assignment=replace(traffic.assignment, buckets=moved))
    # a bandit's guardrails held the others to those who are out now
    memory = {key: recovered(held) for key, held in state.memory.items()}
    return replace(
        retarget(state, traffic), dropped={**state.dropped, **out}, dropped_at=seen.now, memory=memory
    )
