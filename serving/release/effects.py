"""What a reward means: the candidate's effect on it against the champion's concurrent units, as a verdict.

The decision metric promotes and rejects, a business guardrail only rejects, and secondary metrics are reported with
the false discoveries among them controlled; the statistics are in `statistics/comparison.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from serving.release.release import Check
from serving.release.statistics import comparison
from serving.release.statistics.design import Design, Evidence, Result
from serving.release.statistics.moments import Moments
from serving.release.verdict import Outcome, Verdict


def design(check: Check, candidates: int) -> Design:
    """The hypothesis of a check; its alpha is shared by the candidates (Bonferroni), so that none wins by chance."""
    return Design(
        kind=check.value_type,
        direction=check.direction,
        alpha=check.alpha / candidates,
        minimum_detectable_effect=check.minimum_detectable_effect,
        margin=check.margin,
        min_samples=check.min_samples,
        covariate=check.covariate,
    )


def judge(
    check: Check, candidates: int, before: Evidence, ours: Moments, theirs: Moments
) -> tuple[Evidence, Verdict]:
    """Take what is new into the evidence and say what it shows.

    Raises:
        ValueError: moments that no outcomes give.
    """
    plan = design(check, candidates)
    after = comparison.add(plan, before, ours, theirs)
    return after, _verdict(check, plan, comparison.result(plan, after))


def secondary(verdicts: Sequence[Verdict], alpha: float) -> tuple[Verdict, ...]:
    """Mark the secondary metrics whose change is no chance finding (e-BH over all of them)."""
    from serving.release.statistics import multiplicity

    values = [verdict.evidence or 0.0 for verdict in verdicts]
    found = multiplicity.e_bh(values, alpha) if values else ()
    return tuple(
        replace(verdict, outcome=_direction(verdict))
        if place in found
        else replace(verdict, outcome="INCONCLUSIVE")
        for place, verdict in enumerate(verdicts)
    )


def _direction(verdict: Verdict) -> Outcome:
    return "FAIL" if verdict.reason.startswith("worse") else "PASS"


def _verdict(check: Check, plan: Design, found: Result) -> Verdict:
    n = min(found.n_candidate, found.n_champion)
    claim = "better" if plan.margin is None else f"no worse than {plan.margin:.3g} of the champion's"
    rule = f"mixture e-process on '{claim}', alpha {plan.alpha:g} in two halves"
    needed = 2 / plan.alpha
    if n == 0 or found.estimate is None:
        reason = "no finished outcomes of both versions"
        return Verdict(check.name, check.kind, "INCONCLUSIVE", n, rule, reason, bound=plan.null)
    outcomes: dict[str, Outcome] = {"better": "PASS", "worse": "FAIL", "none": "INCONCLUSIVE"}
    leaning = "better" if found.log_better >= found.log_worse else "worse"
    evidence = math.exp(min(max(found.log_better, found.log_worse), 690.0))
    interval = (
        f"between {found.lower:+.1%} and {found.upper:+.1%}"
        if found.lower is not None and found.upper is not None
        else "not bounded yet"
    )
    return Verdict(
        check.name,
        check.kind,
        outcomes[found.decided],
        n,
        rule,
        f"{leaning if found.decided == 'none' else found.decided}: {check.metric} {found.estimate:+.1%} against the "
        f"champion ({found.n_candidate} and {found.n_champion} outcomes), {interval}; evidence {evidence:.3g}:1 of "
        f"{leaning}, {needed:.0f}:1 decides",
        estimate=found.estimate,
        lower=found.lower,
        upper=found.upper,
        bound=plan.null,
        evidence=evidence,
    )
