"""What a release would do, before it does it: its steps, how much it must see, and how long that takes.

The sizes are those of the checks' own rules (`expectation.py`) and of the sequential test's first passage
(`statistics/planning.py`); the time follows from the model's traffic now. What nobody measured is named, not guessed:
without a traffic there are sizes and no durations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from serving.release import durations, effects
from serving.release.people import expectation, words
from serving.release.people.past import Known
from serving.release.release import (
    Bandit,
    BlueGreen,
    Canary,
    Check,
    Experiment,
    Release,
    Shadow,
    strategy_name,
)
from serving.release.statistics import planning
from serving.release.statistics.design import Design

#: Chances by which the test is asked to have decided, for the power at the end of an experiment.
_CHANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def plan(release: Release, champion: str | None, known: Known) -> dict[str, Any]:
    """The plan as plain values.

    Returns:
        `strategy`; `steps` with weights, what each must have seen and the earliest and the expected seconds;
        `sample_size` of the decision (None where there is none or a baseline is missing: `unknown` says which);
        `expected_duration` as {"seconds", "text"}; `power`, `alpha`, `minimum_detectable_effect` of the decision;
        `traffic_per_second`; `checks` with effects and the observations until a verdict; `unknown` and `notes`.
    """
    told = champion or release.champion or "the champion"
    steps = steps_of(release, told, known.per_second)
    decision = release.decision
    unknown = [] if known.per_second is not None else [f"traffic: {known.rate_source}"]
    notes: list[str] = []
    size: dict[str, Any] | None = None
    if decision is not None and decision.metric == "reward":
        size = _sizes(release, told, decision, known, unknown, notes)
    if isinstance(release.strategy, Experiment):
        notes.append("every request is taken for a unit of its own; units that come back make it longer")
    checks = [_check(release, check, known) for check in release.checks]
    return {
        "release": release.name,
        "model": release.model,
        "strategy": strategy_name(release.strategy),
        "backend": release.backend,
        "champion": champion or release.champion,
        "candidates": list(release.candidates),
        "steps": steps,
        "earliest_end": _time(sum(step["earliest_seconds"] for step in steps)),
        "sample_size": size,
        "expected_duration": _duration(release, steps, size, checks),
        "latest_end": _latest(release),
        "power": None if size is None else planning.POWER,
        "alpha": None if decision is None else decision.alpha,
        "minimum_detectable_effect": None if decision is None else decision.minimum_detectable_effect,
        "traffic_per_second": known.per_second,
        "traffic_source": known.rate_source,
        "checks": checks,
        "unknown": unknown,
        "notes": notes,
    }


# --- steps


def steps_of(release: Release, champion: str, rate: float | None) -> list[dict[str, Any]]:
    """The steps of a plan; `rate` in requests a second."""
    strategy, candidate = release.strategy, release.candidate
    if isinstance(strategy, Canary):
        return [
            _step(
                f"version {candidate} answers {step.weight} %",
                {champion: 100 - step.weight, candidate: step.weight},
                step.min_samples,
                step.min_duration,
                step.weight / 100,
                rate,
            )
            for step in strategy.steps
        ]
    if isinstance(strategy, BlueGreen):
        preview = (
            f"version {candidate} is warmed up by {strategy.warm_up} requests and answers "
            f"{len(strategy.smoke)} smoke requests, users stay with {champion}"
        )
        switch = f"all traffic to version {candidate} at once, {champion} stays warm"
        return [
            _step(preview, {champion: 100}, 0, timedelta(0), 1, rate),
            _step(switch, {candidate: 100}, strategy.min_samples, strategy.keep_warm, 1, rate),
        ]
    if isinstance(strategy, Shadow):
        copies = f"version {candidate} gets a copy of {strategy.percent} % of the requests, users see {champion} only"
        share = strategy.percent / 100
        return [_step(copies, {champion: 100}, strategy.min_samples, strategy.min_duration, share, rate)]
    if isinstance(strategy, Experiment):
        text = f"{strategy.unit.kind} {strategy.unit.name} assigns each unit to one version"
        return [_step(text, dict(strategy.allocation), 0, strategy.min_duration, 1, rate)]
    return [_bandit(release, strategy, champion, rate)]


def _bandit(release: Release, strategy: Bandit, champion: str, rate: float | None) -> dict[str, Any]:
    versions = (champion, *release.candidates)
    equal, more = divmod(100, len(versions))
    weights = {version: equal + (index < more) for index, version in enumerate(versions)}
    text = (
        f"weights begin equal and follow the rewards every {durations.format(strategy.update)} "
        f"({strategy.policy}), no version below {strategy.floor} %"
    )
    return _step(text, weights, 0, strategy.min_duration, 1, rate)


def _step(
    text: str,
    weights: Mapping[str, int],
    samples: int,
    least: timedelta,
    share: float,
    rate: float | None,
) -> dict[str, Any]:
    requests = math.ceil(samples / share) if samples else 0
    needed = None if rate is None else requests / rate
    return {
        "what": text,
        "weights": {version: weight for version, weight in weights.items() if weight},
        "min_samples": samples,
        "min_duration_seconds": least.total_seconds(),
        "requests": requests,
        "earliest_seconds": max(least.total_seconds(), needed or 0.0),
        "expected_seconds": None if needed is None and samples else max(least.total_seconds(), needed or 0.0),
    }


# --- the decision


def _sizes(
    release: Release,
    champion: str,
    check: Check,
    known: Known,
    unknown: list[str],
    notes: list[str],
) -> dict[str, Any] | None:
    baseline = known.baselines.get(check.name)
    if check.minimum_detectable_effect is None and check.margin is None:
        unknown.append(f"effect of {check.name}: state minimumDetectableEffect, the lift that would matter")
        return None
    if baseline is None:
        unknown.append(f"baseline of {check.name}: give --baseline (no earlier release measured it)")
        return None
    if check.value_type != "binary" and baseline.deviation is None:
        unknown.append(f"spread of {check.name}: give --deviation, the standard deviation of one outcome")
        return None
    design = effects.design(check, len(release.candidates))
    traffic = planning.Traffic(
        baseline.mean,
        baseline.deviation if check.value_type != "binary" else None,
        shares(release),
        known.per_second,
    )
    try:
        found = planning.plan(design, traffic)
    except ValueError as error:
        unknown.append(f"size of {check.name}: {error}")
        return None
    if isinstance(release.strategy, Bandit):
        notes.append("the size is that of equal shares; a bandit moves the weights while it learns")
    share, other = traffic.shares
    return {
        "check": check.name,
        "baseline": baseline.mean,
        "baseline_source": baseline.source,
        "lift": found.lift,
        "shares": {"candidate": share, "champion": other},
        "per_arm": _arms(release, champion, found.median),
        "total": _total(found.median, traffic),
        "ninety": {
            "per_arm": _arms(release, champion, found.ninety),
            "total": _total(found.ninety, traffic),
            "seconds": found.ninety.seconds,
        },
        "fixed": {
            "per_arm": _arms(release, champion, found.fixed),
            "total": _total(found.fixed, traffic),
            "seconds": found.fixed.seconds,
            "power": planning.POWER,
        },
        "seconds": found.median.seconds,
        "power_by_end": _power_by_end(release, design, traffic),
    }


def shares(release: Release) -> tuple[float, float]:
    """Shares of all requests that one candidate and the champion get while the decision is made."""
    strategy = release.strategy
    if isinstance(strategy, Canary):
        weight = strategy.steps[-1].weight / 100
        return weight, 1 - weight
    if isinstance(strategy, Experiment):
        candidates = [strategy.allocation.get(version, 0) for version in release.candidates]
        champion = 100 - sum(candidates)
        return min(candidates) / 100, champion / 100
    if isinstance(strategy, Bandit):
        return (1 / (len(release.candidates) + 1),) * 2
    return 0.5, 0.5


def _arms(release: Release, champion: str, size: planning.Size) -> dict[str, int]:
    return {champion: size.champion, **dict.fromkeys(release.candidates, size.candidate)}


def _total(size: planning.Size, traffic: planning.Traffic) -> int:
    return math.ceil(size.candidate / traffic.shares[0])


def _power_by_end(release: Release, design: Design, traffic: planning.Traffic) -> float | None:
    """Chance that the test has decided by the end of an experiment, to the tenth below; None where unknown."""
    strategy = release.strategy
    if not isinstance(strategy, Experiment | Bandit) or traffic.per_second is None:
        return None
    reached = 0.0
    for chance in _CHANCES:
        size = planning.sequential_size(design, traffic, chance)
        if size.seconds is None or size.seconds > strategy.max_duration.total_seconds():
            break
        reached = chance
    return reached


# --- time


def _duration(
    release: Release,
    steps: list[dict[str, Any]],
    size: dict[str, Any] | None,
    checks: list[dict[str, Any]],
) -> dict[str, Any]:
    strategy = release.strategy
    if isinstance(strategy, Experiment | Bandit):
        if size is None or size["seconds"] is None:
            return _time(None)
        decided = max(size["seconds"], strategy.min_duration.total_seconds())
        end = min(decided, strategy.max_duration.total_seconds())
        return _time(end + strategy.outcome_delay.total_seconds())
    expected = [step["expected_seconds"] for step in steps]
    if any(seconds is None for seconds in expected):
        return _time(None)
    total = sum(expected)
    if size is not None and size["seconds"] is not None:
        # the decision is made in the last step, and counts what the earlier ones saw
        total = max(total, total - expected[-1] + size["seconds"])
    if isinstance(strategy, Shadow):
        # its guardrails must pass, not merely not fail
        passes = [e["seconds"] for c in checks for e in c["expected"] if e["outcome"] == "PASS"]
        total = max([total, *(seconds for seconds in passes if seconds is not None)])
    return _time(total)


def _latest(release: Release) -> dict[str, Any]:
    strategy = release.strategy
    if isinstance(strategy, Experiment | Bandit):
        return _time((strategy.max_duration + strategy.outcome_delay).total_seconds())
    return _time(None)


def _time(seconds: float | None) -> dict[str, Any]:
    text = "unknown" if seconds is None else words.rough(timedelta(seconds=seconds))
    return {"seconds": seconds, "text": text}


# --- checks


def _check(release: Release, check: Check, known: Known) -> dict[str, Any]:
    share = _small_share(release)
    alpha = words.level(release, check)
    found: list[dict[str, Any]] = []
    if check.metric != "reward":
        name = "errorRate" if check.metric == "errorRate" else check.name
        for expected in expectation.of_check(check, share, alpha, known.baselines.get(name)):
            n = expected.observations
            requests = None if n is None else math.ceil(n / share)
            seconds = None if requests is None or known.per_second is None else requests / known.per_second
            found.append(
                {
                    "effect": expected.effect,
                    "outcome": expected.outcome,
                    "observations": n,
                    "requests": requests,
                    "seconds": seconds,
                    "assumes": expected.assumes,
                }
            )
    return {
        "check": check.name,
        "kind": check.kind,
        "metric": check.metric,
        "source": check.source,
        "measures": words.what(check),
        "alpha": check.alpha,
        "min_samples": check.min_samples,
        "expected": found,
    }


def _small_share(release: Release) -> float:
    """The candidate's share of the requests while it is smallest."""
    strategy = release.strategy
    if isinstance(strategy, Canary):
        return 1.0 if strategy.mirror else strategy.steps[0].weight / 100
    if isinstance(strategy, Shadow):
        return strategy.percent / 100
    if isinstance(strategy, BlueGreen):
        return 1.0
    return shares(release)[0]
