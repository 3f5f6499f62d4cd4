"""What the guardrails mean: from counts and pairs to a verdict with its evidence.

Each verdict is anytime-valid: it may be asked for after every request, and over the whole release a guardrail
fails a healthy candidate with chance at most its alpha. No data is INCONCLUSIVE, never a pass. "Slower than the
bound" is a p99 within the bound as long as at most 1 % of the answers take longer. What a reward means is in
`effects.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from serving.release.counts import NOTHING, ArmCounts, Counts
from serving.release.evidence import DISTANCE_STEPS, Pairs
from serving.release.metrics import METRICS
from serving.release.release import Check
from serving.release.statistics import arms, asymptotic, betting, tail
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.ratio import log_evidence as ratio_evidence
from serving.release.verdict import Outcome, Verdict

__all__ = ["Comparison", "Outcome", "Verdict"]

#: The built-in check that the arms got their shares of the traffic, and its level.
SAMPLE_RATIO = "sampleRatio"
SAMPLE_RATIO_ALPHA = 0.001


@dataclass(frozen=True)
class Comparison:
    """What a relative check remembers between looks: the counts it has bet on, and its two wealths."""

    seen: ArmCounts = NOTHING
    harm: arms.Guard = arms.Guard()
    safety: arms.Wealth = arms.START


def excess(check: Check) -> float:
    """How much the candidate's rate may exceed the champion's."""
    slow_share = METRICS[check.metric].slow_share
    return slow_share if slow_share is not None else check.bound or 0.0


def compare(check: Check, before: Comparison, now: ArmCounts) -> Comparison:
    """Bet on what happened since the last look; counts of one arm alone wait for the other's."""
    ours, theirs = now.candidate - before.seen.candidate, now.champion - before.seen.champion
    if ours.n <= 0 or theirs.n <= 0:
        return before
    batch = arms.Batch(ours.n, ours.events, theirs.n, theirs.events)
    # an absolute check compares as well, to tell its own fault from one that both versions share
    allowed = excess(check) if check.relative_to_champion else 0.0
    return Comparison(
        seen=now,
        harm=arms.watch(before.harm, batch, allowed),
        # "the champion exceeds the candidate by at least -allowed" is what safety refutes
        safety=arms.add(before.safety, batch.swapped(), -allowed),
    )


def harms(comparison: Comparison, alpha: float) -> bool:
    """Whether the candidate is shown to fail more than the concurrent champion."""
    return arms.log_evidence(comparison.harm.wealth) >= math.log(1 / alpha)


def judge_rate(check: Check, counts: Counts, alpha: float) -> Verdict:
    """A rate of the candidate against an absolute bound."""
    slow_share = METRICS[check.metric].slow_share
    bound = slow_share if slow_share is not None else check.bound or 0.0
    what = _event(check, check.bound)
    rule = f"betting on '{what} at most {bound:.3g}', alpha {alpha:g}"
    if counts.n == 0:
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, "no data", bound=bound)
    sample = betting.of_counts(counts.n, counts.events)
    needed = math.log(1 / alpha)
    harm = betting.log_evidence_above(sample, bound, betting.RATE_BETS)
    safe = betting.log_evidence_below(sample, bound, betting.RATE_BETS)
    lower, upper = betting.bounds(sample, alpha, betting.RATE_BETS)
    outcome: Outcome = "FAIL" if harm >= needed else "PASS" if safe >= needed else "INCONCLUSIVE"
    return Verdict(
        check.name,
        check.kind,
        outcome,
        counts.n,
        rule,
        f"{what} {counts.events} of {counts.n} ({percent(sample.mean)}), bound {percent(bound)}; "
        f"{_odds(harm)}, {1 / alpha:.0f}:1 stops",
        estimate=sample.mean,
        lower=lower,
        upper=upper,
        bound=bound,
        evidence=_exp(harm),
    )


def with_inputs(verdict: Verdict, by_input: Mapping[str, int]) -> Verdict:
    """A verdict on vectors that says which of their inputs differ most often."""
    if not by_input:
        return verdict
    often = ", ".join(f"{name} ({count})" for name, count in by_input.items())
    return replace(verdict, reason=f"{verdict.reason}; most often {often}")


def shared_fault(
    check: Check, verdict: Verdict, champion: Counts, comparison: Comparison, *, outage: bool = False
) -> Verdict:
    """A failed bound that the concurrent champion fails as well, no less than the candidate, is not its fault.

    Args:
        outage: all versions fail now, whatever the champion's whole history says.
    """
    if verdict.outcome != "FAIL" or harms(comparison, check.alpha):
        return verdict
    if not outage and champion.n < check.min_samples:
        return verdict
    theirs = judge_rate(check, champion, check.alpha)
    if not outage and theirs.outcome != "FAIL":
        return verdict
    reason = f"both versions fail it alike, not the candidate's fault ({verdict.reason}; champion: {theirs.reason})"
    return replace(verdict, outcome="INCONCLUSIVE", reason=reason)


def judge_comparison(
    check: Check, comparison: Comparison, now: ArmCounts, alpha: float, *, forgive_a_spell: bool
) -> Verdict:
    """A rate of the candidate against the concurrent champion's.

    Args:
        forgive_a_spell: leave the worst look out as far as one stall of the machine can explain it.
    """
    allowed = excess(check)
    what = _event(check, check.bound)
    rule = f"betting on '{what} at most {allowed:.3g} above the concurrent champion', alpha {alpha:g}"
    ours, theirs = now.candidate, now.champion
    if ours.n == 0 or theirs.n == 0:
        missing = "the candidate" if ours.n == 0 else "the champion"
        return Verdict(
            check.name, check.kind, "INCONCLUSIVE", 0, rule, f"no data of {missing}", bound=allowed
        )
    harm = _harm(comparison.harm, forgive_a_spell)
    half = alpha / 2
    low, high = betting.bounds(betting.of_counts(ours.n, ours.events), half, betting.RATE_BETS, 1e-4)
    their_low, their_high = betting.bounds(
        betting.of_counts(theirs.n, theirs.events), half, betting.RATE_BETS, 1e-4
    )
    return Verdict(
        check.name,
        check.kind,
        _outcome(harm, arms.log_evidence(comparison.safety), alpha),
        ours.n,
        rule,
        f"{what} {ours.events} of {ours.n} ({percent(ours.events / ours.n)}), the champion's "
        f"{theirs.events} of {theirs.n} ({percent(theirs.events / theirs.n)}), excess allowed "
        f"{percent(allowed)}; {_odds(harm)}, {1 / alpha:.0f}:1 stops",
        estimate=ours.events / ours.n - theirs.events / theirs.n,
        lower=low - their_high,
        upper=high - their_low,
        bound=allowed,
        evidence=_exp(harm),
    )


def judge_tail(check: Check, seen: tail.Tail, ours: Histogram, theirs: Histogram, alpha: float) -> Verdict:
    """Slow answers of the candidate where the concurrent champion says what is slow: a quarter beyond its p99."""
    allowed = excess(check)
    claim = f"answers a quarter beyond the champion's p99 at most {allowed:.3g} above its own"
    rule = f"betting on '{claim}', alpha {alpha:g}"
    if seen.threshold_ms is not None and seen.harm == arms.Guard():
        reason = f"slow is beyond {seen.threshold_ms:g} ms from now on: no answer was held to it yet"
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, reason, bound=allowed)
    if seen.threshold_ms is None or ours.n == 0:
        missing = "the candidate" if ours.n == 0 else "the champion"
        reason = (
            f"no data of {missing}" if not ours.n or not theirs.n else f"the champion has {theirs.n} answers"
        )
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, reason, bound=allowed)
    slow, usual = ours.above(seen.threshold_ms), theirs.above(seen.threshold_ms)
    harm = arms.log_evidence_beyond_a_spell(seen.harm)
    return Verdict(
        check.name,
        check.kind,
        _outcome(harm, arms.log_evidence(seen.safety), alpha),
        ours.n,
        rule,
        f"{slow} of {ours.n} answers slower than {seen.threshold_ms:g} ms, the champion's {usual} of {theirs.n}, "
        f"excess allowed {percent(allowed)}; {_odds(harm)}, {1 / alpha:.0f}:1 stops",
        estimate=slow / ours.n - usual / max(theirs.n, 1),
        bound=allowed,
        evidence=_exp(harm),
    )


def judge_distance(check: Check, pairs: Pairs, alpha: float) -> Verdict:
    """The mean distance of the two versions' scores against its bound."""
    bound = check.bound or 0.0
    rule = f"betting on 'mean distance of the scores at most {bound:g}', alpha {alpha:g}"
    if not pairs.distances:
        return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, "no pairs", bound=bound)
    steps = sorted(pairs.distances)
    sample = betting.Sample(
        tuple(step / DISTANCE_STEPS for step in steps), tuple(pairs.distances[step] for step in steps)
    )
    harm = betting.log_evidence_above(sample, bound, betting.RATE_BETS)
    safe = betting.log_evidence_below(sample, bound, betting.RATE_BETS)
    lower, upper = betting.bounds(sample, alpha, betting.RATE_BETS, 1e-4)
    return Verdict(
        check.name,
        check.kind,
        _outcome(harm, safe, alpha),
        sample.size,
        rule,
        f"scores differ by {sample.mean:.4f} in the mean of {sample.size} pairs, bound {bound:g}; {_odds(harm)}, "
        f"{1 / alpha:.0f}:1 stops",
        estimate=sample.mean,
        lower=lower,
        upper=upper,
        bound=bound,
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
    # "better" and "worse" are both false where the versions are equal: they share alpha; of a margin one side is
    # right there
    alpha = check.alpha if check.margin is not None else check.alpha / 2
    mean = math.fsum(values) / n
    lower, upper = _bounds_of_pairs(values, check.method, alpha)
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


@lru_cache(maxsize=32)
def _bounds_of_pairs(values: tuple[float, ...], method: str, alpha: float) -> tuple[float, float]:
    """Remembered, since labels come in batches and looks do not wait for them."""
    if method == "betting":
        lower, upper = betting.bounds(betting.of_values(values, -1, 1), alpha, betting.PAIR_BETS)
        return 2 * lower - 1, 2 * upper - 1
    return asymptotic.bounds(values, alpha)


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


def ratio_log_evidence(counts: tuple[int, ...], weights: tuple[int, ...]) -> float:
    """Evidence of one step against its weights; nothing to test where one arm gets it all."""
    chosen = [(count, weight) for count, weight in zip(counts, weights, strict=True) if weight]
    total = sum(weight for _, weight in chosen)
    if len(chosen) < 2 or sum(count for count, _ in chosen) == 0:
        return 0.0
    return ratio_evidence([count for count, _ in chosen], [weight / total for _, weight in chosen])


def unusable(check: Check, reason: str) -> Verdict:
    """Evidence that cannot be true."""
    return Verdict(check.name, check.kind, "ERROR", 0, "evidence must make sense", reason)


def silent(check: Check, reason: str) -> Verdict:
    """Evidence that did not come."""
    rule = "a source that says nothing decides nothing"
    return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, f"source {check.source}: {reason}")


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _harm(guard: arms.Guard, forgive_a_spell: bool) -> float:
    return arms.log_evidence_beyond_a_spell(guard) if forgive_a_spell else arms.log_evidence(guard.wealth)


def _outcome(harm: float, safe: float, alpha: float) -> Outcome:
    needed = math.log(1 / alpha)
    return "FAIL" if harm >= needed else "PASS" if safe >= needed else "INCONCLUSIVE"


def _event(check: Check, bound: float | None) -> str:
    if METRICS[check.metric].unit == "latency":
        return f"answers slower than {bound:g} ms"
    return METRICS[check.metric].doc


def _odds(log_evidence: float) -> str:
    return f"evidence {_exp(log_evidence):.3g}:1 of more"


def _exp(log_evidence: float) -> float:
    # beyond this the number says nothing more, and JSON has no infinity
    return math.exp(min(log_evidence, 690.0))
