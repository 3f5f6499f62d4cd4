"""Verdicts and durations in plain words, with the units a person thinks in; the same in the terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from serving.release import durations
from serving.release.metrics import METRICS
from serving.release.release import Bandit, Check, Release
from serving.release.state import ReleaseState

_OUTCOMES = {
    "promoted": "was promoted",
    "rolled_back": "was rolled back",
    "inconclusive": "ended without a verdict",
    "aborted": "was aborted",
}


def quantity(check: Check | None, value: float | None, *, signed: bool = False) -> str:
    """A value of a check's metric: a percentage of a share or a lift, a plain number of a loss."""
    if value is None:
        return "unknown"
    sign = "+" if signed and value else ""
    if check is not None and METRICS[check.metric].paired and check.metric in ("brier", "scoreDistance"):
        return f"{value:{sign}.4g}"
    shown = 100 * value
    return f"{shown:{sign},.0f} %" if abs(shown) >= 1000 else f"{shown:{sign}.3g} %"


def compares(check: Check) -> bool:
    """Whether its estimate is a difference to the champion."""
    return check.relative_to_champion or METRICS[check.metric].unit == "value"


def level(release: Release, check: Check, version: str | None = None) -> float:
    """A check's alpha for one version: it is shared by all that the check judges, a bandit's champion among them.

    Of several candidates of a bandit each is compared twice, with all others and with the champion alone.
    """
    versions = len(release.candidates)
    if not isinstance(release.strategy, Bandit) or check.kind != "guardrail" or check.metric == "reward":
        return check.alpha / versions
    bounded = METRICS[check.metric].unit != "latency" or check.bound is not None
    candidate = version is None or version in release.candidates
    twice = versions > 1 and check.relative_to_champion and bounded and candidate
    return check.alpha / (versions + 1) / (2 if twice else 1)


def what(check: Check) -> str:
    """What a check's estimate is."""
    metric = METRICS[check.metric]
    if check.metric == "reward":
        return "lift of the candidate's reward over the champion's"
    if check.metric == "brier":
        return "squared error of the candidate's score minus the champion's"
    if metric.unit == "latency":
        slow = "1.25 times the champion's own p99" if check.bound is None else f"{check.bound:g} ms"
        doc = f"answers slower than {slow}"
    else:
        doc = metric.doc
    return f"share of {doc}, candidate minus champion" if check.relative_to_champion else f"share of {doc}"


def interval(check: Check | None, verdict: Mapping[str, Any]) -> str:
    low, high = verdict.get("lower"), verdict.get("upper")
    if low is None or high is None:
        return "not bounded yet"
    signed = check is not None and compares(check)
    return f"{quantity(check, low, signed=signed)} to {quantity(check, high, signed=signed)}"


def odds(evidence: float | None) -> str:
    if evidence is None:
        return "none of its own: the interval decides"
    if evidence >= 1e6:
        return "more than a million to one"
    return f"{evidence:,.3g} to 1" if evidence < 1000 else f"{evidence:,.0f} to 1"


def count(n: int, noun: str) -> str:
    """`1 look`, `2 looks`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def rough(duration: timedelta) -> str:
    """A duration to about two digits."""
    seconds = duration.total_seconds()
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}{unit}".replace(".0", "")
    return f"{seconds:.0f}s" if seconds >= 1 or seconds == 0 else durations.format(duration)


def headline(state: ReleaseState, outcome: str | None, lasted: timedelta) -> str:
    """What became of a release, in one sentence without its end."""
    release = state.release
    several = len(release.candidates) > 1
    versions = " and ".join(release.candidates)
    if outcome == "promoted":
        winner = next(iter(state.weights), release.candidate)
        beside = f" (of {versions})" if several else ""
        said = f"version {winner}{beside} was promoted in place of {state.champion}"
        return f"{release.model}: {said} after {rough(lasted)}"
    if outcome is not None:
        subject = f"versions {versions}" if several else f"version {versions}"
        was = _OUTCOMES[outcome].replace("was ", "were ") if several else _OUTCOMES[outcome]
        back = f", all traffic is on {next(iter(state.weights), state.champion)}"
        if outcome in ("inconclusive", "aborted"):
            subject, was = f"the release of {subject} against {state.champion}", _OUTCOMES[outcome]
        return f"{release.model}: {subject} {was} after {rough(lasted)}{back}"
    name = f"versions {versions} are" if several else f"version {versions} is"
    being = f"{release.model}: {name} being released against {state.champion}"
    if state.phase == "Paused":
        return f"{being} and paused"
    return being if state.phase == "Pending" else f"{being}, for {rough(lasted)} so far"


#: What a share counts, short enough for a sentence.
METRIC_NOUNS: Mapping[str, str] = {
    "errorRate": "failed requests",
    "featureSkew": "wrong feature rows",
    "disagreement": "requests decided differently",
    "scoreDistance": "distance of the scores",
}
