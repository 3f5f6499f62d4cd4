"""What each version of a bandit would have earned with all the traffic, from the journal of its release.

The off-policy estimates want the propensity of every request. Between two looks the journal knows sums alone: the
outcomes that became complete, which belong to requests from `outcomeDelay` earlier. The weights that were in force in
that earlier time are known exactly; where they changed within it, the cell gets their average over the time, which is
each request's chance if the traffic was even meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from serving.release.bandit import off_policy
from serving.release.bandit.off_policy import Cell
from serving.release.evidence import ArmEvidence
from serving.release.people.account import Account
from serving.release.release import Bandit
from serving.release.statistics.moments import Moments

Spell = tuple[datetime, Mapping[str, Mapping[str, float]]]
"""From when on which shares held: context -> version -> share; "" is the context without a listed value."""


def table(told: Account) -> list[dict[str, Any]]:
    """IPS, SNIPS and DR of each version and of an equal split; empty for what is no bandit, or has no outcome yet."""
    if not isinstance(told.release.strategy, Bandit):
        return []
    listed = list(cells(told))
    if not listed:
        return []
    return [
        {"target": target, **asdict(found)}
        for target, estimates in off_policy.what_if(listed).items()
        for found in estimates
    ]


def cells(told: Account) -> Iterator[Cell]:
    """What each version earned between two looks, with the share of the traffic that it had when it earned it."""
    strategy, decision = told.release.strategy, told.release.decision
    if not isinstance(strategy, Bandit) or decision is None:
        return
    spells = _spells(told)
    versions = (told.state.champion, *told.release.candidates)
    before: dict[tuple[str, str], Moments] = {}
    seen = told.began
    for tick, (_, evidence) in enumerate(told.looks()):
        served = (seen - strategy.outcome_delay, evidence.at - strategy.outcome_delay)
        seen = evidence.at
        for version in versions:
            arm = evidence.arms.get(version, ArmEvidence())
            for context, moments in _by_context(arm, decision.name, strategy).items():
                share = _share(spells, *served, context, version)
                new = moments - before.get((version, context), Moments())
                before[version, context] = moments
                if new.n > 0 and share > 0:
                    yield Cell(tick, version, share, new.n, new.y, new.yy, context)
                else:
                    # a version that had no traffic has a cell as well: it says that nothing is known of it
                    yield Cell(tick, version, share, 0, 0.0, 0.0, context)


def _by_context(arm: ArmEvidence, check: str, strategy: Bandit) -> Mapping[str, Moments]:
    if strategy.context is None:
        return {"": arm.outcomes.get(check, Moments())}
    found = arm.contexts.get(check, {})
    return {value: found.get(value, Moments()) for value in (*strategy.context.values, "")}


def _spells(told: Account) -> list[Spell]:
    found: list[Spell] = []
    for record in told.decisions:
        if not record["acts"]:
            continue
        shares: dict[str, Mapping[str, float]] = {"": _shares(record["weights"])}
        segments = (record.get("traffic") or {}).get("segments")
        if segments is not None:
            shares |= {value: _shares(weights) for value, weights in segments["weights"].items()}
        found.append((datetime.fromisoformat(record["at"]), shares))
    return found


def _shares(weights: Mapping[str, int]) -> dict[str, float]:
    return {version: weight / 100 for version, weight in weights.items()}


def _share(spells: list[Spell], start: datetime, end: datetime, context: str, version: str) -> float:
    """A version's average share from `start` to `end`; before the first weights nobody was served."""
    total, held = timedelta(0), 0.0
    for index, (began, shares) in enumerate(spells):
        until = spells[index + 1][0] if index + 1 < len(spells) else end
        length = min(until, end) - max(began, start)
        if length > timedelta(0):
            total += length
            held += length.total_seconds() * shares.get(context, shares[""]).get(version, 0.0)
    return held / total.total_seconds() if total else 0.0
