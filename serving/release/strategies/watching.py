"""What guardrails must have seen before anything may go on: absence of alarms from a blind watchman is no news."""

from __future__ import annotations

import math
from datetime import timedelta

from serving.release import durations
from serving.release.look import Look, Obstacle
from serving.release.release import Check


def unobserved(seen: Look, check: Check, version: str) -> Obstacle | None:
    """Why a guardrail does not know enough of a candidate in this step, or has a suspicion."""
    state = seen.state
    verdict = seen.verdict(check.name, version)
    if verdict.n < check.min_samples:
        has = f"{check.name} has {verdict.n} of {check.min_samples} observations"
        return Obstacle(check.name, has if verdict.n else f"{has}: {verdict.reason}")
    if verdict.n <= state.step_base.get(state.key(check.name, version), 0):
        return Obstacle(check.name, f"{check.name} has no data of step {state.step + 1}")
    # half of the way to a stop is no moment to give it more traffic: it fails for good, or the suspicion fades
    doubt = 1 / math.sqrt(check.alpha)
    if state.rules > 1 and verdict.evidence is not None and verdict.evidence >= doubt:
        return Obstacle(check.name, f"{check.name} is suspected ({doubt:.0f}:1 holds): {verdict.reason}")
    return None


def first_unobserved(seen: Look) -> Obstacle | None:
    """The first guardrail that does not know enough of a candidate that is in."""
    for check in seen.state.release.checks:
        if check.kind != "guardrail":
            continue
        for version in seen.state.candidates:
            if (obstacle := unobserved(seen, check, version)) is not None:
                return obstacle
    return None


def too_early(seen: Look, least: timedelta) -> Obstacle | None:
    """The step has not lasted as long as it must."""
    # a clock that was set back must not count against it
    lasted = max(seen.now - (seen.state.step_started_at or seen.now), timedelta(0))
    if lasted >= least:
        return None
    so_far = f"{durations.format(lasted)} of {durations.format(least)}"
    return Obstacle(None, f"step {seen.state.step + 1} has lasted {so_far}", planned=True)
