"""Experiment: units keep their version until the decision metric has decided, or the planned time is over.

An outcome counts once its unit's time is over (`outcomeDelay`), so the last units are enrolled before the end and
waited for. A winner must be better by the decision metric at a level shared by all candidates, with guardrails that
have seen enough, for at least the stated time, and not by an effect that fades as it stops being new.
"""

from __future__ import annotations

from datetime import datetime

from serving.release import buckets, durations
from serving.release.decision import Decision
from serving.release.effects import NOVELTY
from serving.release.look import Look, Obstacle
from serving.release.release import Experiment
from serving.release.state import ReleaseState
from serving.release.strategies import watching
from serving.release.strategies.ending import end, enter
from serving.release.strategies.holding import hold, unjudged
from serving.release.traffic import Assignment, Traffic, Unit
from serving.release.verdict import Verdict


def begin(state: ReleaseState, now: datetime) -> Decision:
    strategy, release = _strategy(state), state.release
    order = (state.champion, *release.candidates)
    weights = {version: strategy.allocation[version] for version in order if strategy.allocation.get(version)}
    traffic = Traffic(
        weights,
        assignment=Assignment(
            unit=Unit(strategy.unit.kind, strategy.unit.name),
            salt=strategy.salt or release.name,
            buckets=buckets.initial(weights),
            otherwise=state.champion,
        ),
    )
    after = enter(state, 0, traffic, now, None)
    shares = ", ".join(f"version {version} {weight} %" for version, weight in weights.items())
    reason = f"{strategy.unit.kind} {strategy.unit.name} assigns units: {shares}"
    return Decision("start", reason, now, after)


def waiting_for(seen: Look) -> Obstacle | None:
    """What is still missing; None where a candidate has won."""
    strategy = _strategy(seen.state)
    if (blind := watching.first_unobserved(seen)) is not None:
        return blind
    winner = _winner(seen)
    if winner is None:
        best = max(_decisions(seen), key=_estimate)
        return Obstacle(best.check, f"{best.check} of version {best.version}: {best.reason}", planned=True)
    if (early := watching.too_early(seen, strategy.min_duration)) is not None:
        return Obstacle(early.check, early.reason, planned=True)
    novelty = seen.by_name.get((NOVELTY, winner.version))
    if novelty is not None and novelty.outcome == "FAIL":
        alert = f"the effect of version {winner.version} fades, it may be news only"
        return Obstacle(NOVELTY, f"{alert}: {novelty.reason}", alert, planned=True)
    return None


def forward(seen: Look) -> Decision:
    winner = _winner(seen)
    assert winner is not None  # noqa: S101 - `waiting_for` found one
    return end(seen, "promote", f"{winner.check}: {winner.reason}", winner.check, winner.version)


def meanwhile(seen: Look, obstacle: Obstacle) -> Decision | None:
    """End it once nobody is enrolled any more and the last outcome is in."""
    strategy = _strategy(seen.state)
    over = (seen.state.enrolled_until or seen.now) + strategy.outcome_delay
    if seen.now < over:
        return None
    if (blind := unjudged(seen, over)) is not None:
        return hold(seen, blind)
    duration = durations.format(strategy.max_duration)
    reason = f"the planned {duration} are over and no candidate was shown to be better: {obstacle.reason}"
    return end(seen, "abort", reason, obstacle.check)


def _winner(seen: Look) -> Verdict | None:
    passed = [verdict for verdict in _decisions(seen) if verdict.outcome == "PASS"]
    return max(passed, key=_estimate) if passed else None


def _decisions(seen: Look) -> list[Verdict]:
    return [verdict for verdict in seen.verdicts if verdict.kind == "decision"]


def _estimate(verdict: Verdict) -> float:
    return verdict.estimate if verdict.estimate is not None else float("-inf")


def _strategy(state: ReleaseState) -> Experiment:
    strategy = state.release.strategy
    assert isinstance(strategy, Experiment)  # noqa: S101 - this module was chosen by it
    return strategy
