"""How a release holds: what is in its way, what of that is news, and what follows when it lasts too long."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from serving.release import durations
from serving.release.decision import Decision
from serving.release.look import Look, Obstacle
from serving.release.release import Check
from serving.release.strategies.ending import end


def hold(seen: Look, obstacle: Obstacle) -> Decision:
    """Hold; where there was no progress for `inconclusiveAfter`, say so, or do what `whenInconclusive` says."""
    state, reason, alert = seen.state, obstacle.reason, obstacle.alert
    limit = state.release.inconclusive_after
    since = state.step_started_at if state.rules == 1 else state.blocked_since
    if seen.now - (since or seen.now) >= limit:
        late = f"no progress for {durations.format(limit)}"
        reason = f"{late}: {reason}"
        # back to a champion that a guardrail has taken out is no way out
        if state.release.when_inconclusive == "abort" and state.champion not in state.dropped:
            return end(seen, "abort", reason, obstacle.check)
        alert = alert or late
    news = alert if alert != state.alert else None
    return seen.decide("hold", reason, replace(state, alert=alert), check=obstacle.check, alert=news)


def unjudged(seen: Look, over: datetime) -> Obstacle | None:
    """Why a release whose time is over cannot be told to have found nothing; None where it can.

    "No version was shown to be better" is said of evidence alone: not while a decision check's source is silent, says
    what cannot be used, or has not come as far as the end. The same holds for the guardrails of a candidate that is
    shown to be better, which nothing but their silence keeps from its promotion.

    Args:
        over: when the last outcome was due.
    """
    won = any(verdict.kind == "decision" and verdict.outcome == "PASS" for verdict in seen.verdicts)
    for check in seen.state.release.checks:
        if check.kind != "decision" and not (won and check.kind == "guardrail"):
            continue
        alert = f"the planned time is over and {check.name} cannot be judged"
        reason = seen.evidence.silent.get(check.source) or _unknown(seen, check)
        if reason is None:
            broken = (v for v in seen.verdicts if v.check == check.name and v.outcome == "ERROR")
            reason = next((verdict.reason for verdict in broken), None)
        if reason is not None:
            return Obstacle(check.name, f"{alert}: {reason}", alert)
        reached = seen.evidence.reached.get(check.source, over)
        if reached < over:
            known = reached.isoformat(timespec="seconds")
            wait = f"the planned time is over and what is known of {check.source} ends before it, at {known}"
            return Obstacle(check.name, wait, planned=True)
    return None


def _unknown(seen: Look, check: Check) -> str | None:
    """Why too little is known of a candidate for a check of it; None where enough is."""
    arms = (seen.evidence.arms.get(version) for version in seen.state.candidates)
    return next((arm.silent[check.metric] for arm in arms if arm and check.metric in arm.silent), None)
