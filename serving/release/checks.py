"""What the checks mean: from counts and pairs to a verdict with its evidence.

Each verdict is anytime-valid: it may be asked for after every request, and over the whole release a guardrail
fails a healthy candidate with chance at most its alpha. No data is INCONCLUSIVE, never a pass. "Slower than the
bound" is a p99 within the bound as long as at most 1 % of the answers take longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from serving.release.release import Check
from serving.release.statistics import arms, asymptotic, betting
from serving.release.statistics.ratio import log_evidence as ratio_evidence
from serving.release.tally import NOTHING, ArmCounts, Counts

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]

#: The share of answers that may be slower than a p99 bound.
SLOW_SHARE = 0.01

#: The built-in check that the arms got their shares of the traffic, and its level.
SAMPLE_RATIO = "sampleRatio"
SAMPLE_RATIO_ALPHA = 0.001


@dataclass(frozen=True)
class Verdict:
    """One check at one look.

    Attributes:
        n: observations of the candidate (pairs for a decision).
        estimate: the candidate's rate, the excess over the champion's, or the mean paired difference.
        lower, upper: each a bound at level 1 - alpha that holds at all looks together; of a comparison of arms
            the interval combines each arm's own and is wider than the test that decides.
        bound: what the estimate is held to.
        evidence: how many times likelier the data are if the check fails than under any state in which it
            should not (an e-value; 1/alpha of it decides); None where the interval itself decides.
        rule: which rule decides, in words.
        reason: the verdict in words, with its numbers.
    """

    check: str
    kind: str
    outcome: Outcome
    n: int
    rule: str
    reason: str
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    bound: float | None = None
    evidence: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What a relative check remembers between looks: the counts it has bet on, and its two wealths."""

    seen: ArmCounts = NOTHING
    harm: arms.Wealth = arms.START
    safety: arms.Wealth = arms.START


def excess(check: Check) -> float:
    """How much the candidate's rate may exceed the champion's."""
    return SLOW_SHARE if check.metric == "latencyP99" else check.bound or 0.0


def compare(check: Check, before: Comparison, now: ArmCounts) -> Comparison:
    """Bet on what happened since the last look; counts of one arm alone wait for the other's."""
    batch = arms.Batch(
        candidate=now.candidate.n - before.seen.candidate.n,
        candidate_events=now.candidate.events - before.seen.candidate.events,
        champion=now.champion.n - before.seen.champion.n,
        champion_events=now.champion.events - before.seen.champion.events,
    )
    if batch.candidate <= 0 or batch.champion <= 0:
        return before
    allowed = excess(check)
    return Comparison(
        seen=now,
        harm=arms.add(before.harm, batch, allowed),
        # "the champion exceeds the candidate by at least -allowed" is what safety refutes
        safety=arms.add(before.safety, batch.swapped(), -allowed),
    )


def judge_rate(check: Check, counts: Counts) -> Verdict:
    """A rate of the candidate against an absolute bound."""
    bound = SLOW_SHARE if check.metric == "latencyP99" else check.bound or 0.0
    what = _event(check)
    rule = f"betting on '{what} at most {bound:.3g}', alpha {check.alpha:g}"
    if counts.n == 0:
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, "no data", bound=bound)
    sample = betting.of_counts(counts.n, counts.events)
    needed = math.log(1 / check.alpha)
    harm = betting.log_evidence_above(sample, bound, betting.RATE_BETS)
    safe = betting.log_evidence_below(sample, bound, betting.RATE_BETS)
    lower, upper = betting.bounds(sample, check.alpha, betting.RATE_BETS)
    outcome: Outcome = "FAIL" if harm >= needed else "PASS" if safe >= needed else "INCONCLUSIVE"
    return Verdict(
        check.name,
        check.kind,
        outcome,
        counts.n,
        rule,
        f"{what} {counts.events} of {counts.n} ({_percent(sample.mean)}), bound {_percent(bound)}; "
        f"{_odds(harm)}, {1 / check.alpha:.0f}:1 stops",
        estimate=sample.mean,
        lower=lower,
        upper=upper,
        bound=bound,
        evidence=_exp(harm),
    )


def judge_comparison(check: Check, comparison: Comparison, now: ArmCounts) -> Verdict:
    """A rate of the candidate against the concurrent champion's."""
    allowed = excess(check)
    what = _event(check)
    rule = f"betting on '{what} at most {allowed:.3g} above the concurrent champion', alpha {check.alpha:g}"
    ours, theirs = now.candidate, now.champion
    if ours.n == 0 or theirs.n == 0:
        missing = "the candidate" if ours.n == 0 else "the champion"
        return Verdict(
            check.name, check.kind, "INCONCLUSIVE", 0, rule, f"no data of {missing}", bound=allowed
        )
    needed = math.log(1 / check.alpha)
    harm = arms.log_evidence(comparison.harm)
    outcome: Outcome = "INCONCLUSIVE"
    if harm >= needed:
        outcome = "FAIL"
    elif arms.log_evidence(comparison.safety) >= needed:
        outcome = "PASS"
    half = check.alpha / 2
    low, high = betting.bounds(betting.of_counts(ours.n, ours.events), half, betting.RATE_BETS, 1e-4)
    their_low, their_high = betting.bounds(
        betting.of_counts(theirs.n, theirs.events), half, betting.RATE_BETS, 1e-4
    )
    return Verdict(
        check.name,
        check.kind,
        outcome,
        ours.n,
        rule,
        f"{what} {ours.events} of {ours.n} ({_percent(ours.events / ours.n)}), the champion's "
        f"{theirs.events} of {theirs.n} ({_percent(theirs.events / theirs.n)}), excess allowed "
        f"{_percent(allowed)}; {_odds(harm)}, {1 / check.alpha:.0f}:1 stops",
        estimate=ours.events / ours.n - theirs.events / theirs.n,
        lower=low - their_high,
        upper=high - their_low,
        bound=allowed,
        evidence=_exp(harm),
    )


def judge_pairs(check: Check, values: tuple[float, ...]) -> Verdict:
    """The mean paired loss difference against the margin (0 where the candidate must be better)."""
    margin = check.margin if check.margin is not None else 0.0
    claim = f"no worse than {margin:g}" if check.margin is not None else "better"
    rule = f"{check.method} confidence sequence, {claim}, alpha {check.alpha:g}"
    n = len(values)
    if n == 0:
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, "no labelled pairs", bound=margin)
    mean = math.fsum(values) / n
    if check.method == "betting":
        sample = betting.of_values(values, -1, 1)
        lower, upper = (2 * side - 1 for side in betting.bounds(sample, check.alpha, betting.PAIR_BETS))
    else:
        lower, upper = asymptotic.bounds(values, check.alpha)
    outcome: Outcome = "INCONCLUSIVE"
    if n >= check.min_samples:
        outcome = "PASS" if upper < margin else "FAIL" if lower > margin else "INCONCLUSIVE"
    finite = math.isfinite(lower) and math.isfinite(upper)
    interval = f"between {lower:+.4f} and {upper:+.4f}" if finite else "not bounded yet"
    return Verdict(
        check.name,
        check.kind,
        outcome,
        n,
        rule,
        f"{check.metric} differs from the champion's by {mean:+.4f} on {n} pairs, {interval}; margin {margin:g}",
        estimate=mean,
        lower=lower if finite else None,
        upper=upper if finite else None,
        bound=margin,
    )


def judge_ratio(log_evidence: float, n: int) -> Verdict:
    """Whether the arms' counts fit the decided shares; it blocks every other verdict from promoting."""
    failed = log_evidence >= math.log(1 / SAMPLE_RATIO_ALPHA)
    return Verdict(
        SAMPLE_RATIO,
        "integrity",
        "FAIL" if failed else "INCONCLUSIVE" if n == 0 else "PASS",
        n,
        f"sequential multinomial test of the decided shares, alpha {SAMPLE_RATIO_ALPHA:g}",
        f"evidence {_exp(log_evidence):.3g}:1 that requests were not split as decided, "
        f"{1 / SAMPLE_RATIO_ALPHA:.0f}:1 holds the release",
        evidence=_exp(log_evidence),
    )


def ratio_log_evidence(counts: tuple[int, int], candidate_weight: int) -> float:
    """Evidence of one step against its weights; nothing to test where one arm gets it all."""
    if not 0 < candidate_weight < 100 or sum(counts) == 0:
        return 0.0
    share = candidate_weight / 100
    return ratio_evidence(counts, (share, 1 - share))


def error(check: Check, reason: str) -> Verdict:
    """Evidence that cannot be used."""
    return Verdict(check.name, check.kind, "ERROR", 0, "evidence must make sense", reason)


def judge(check: Check, counts: ArmCounts, comparison: Comparison, pairs: tuple[float, ...]) -> Verdict:
    """The verdict of any check."""
    if check.kind == "decision":
        verdict = judge_pairs(check, pairs)
    elif check.relative_to_champion:
        verdict = judge_comparison(check, comparison, counts)
    else:
        verdict = judge_rate(check, counts.candidate)
    if verdict.outcome == "PASS" and verdict.n < check.min_samples:
        return replace(verdict, outcome="INCONCLUSIVE")
    return verdict


def _event(check: Check) -> str:
    if check.metric == "latencyP99":
        return f"answers slower than {check.bound:g} ms"
    return (
        "failed requests"
        if check.metric == "errorRate"
        else "rows that differ from the point-in-time features"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _odds(log_evidence: float) -> str:
    return f"evidence {_exp(log_evidence):.3g}:1 of more"


def _exp(log_evidence: float) -> float:
    # beyond this the number says nothing more, and JSON has no infinity
    return math.exp(min(log_evidence, 690.0))
