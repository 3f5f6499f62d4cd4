"""What a reward means: the candidate's effect on it against the champion's concurrent units, as a verdict.

The decision metric promotes and rejects, a business guardrail only rejects, and secondary metrics are reported with
the false discoveries among them controlled; the statistics are in `statistics/comparison.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from serving.release.release import Check
from serving.release.statistics import comparison, multiplicity, novelty
from serving.release.statistics.design import Decided, Design, Evidence, Result
from serving.release.statistics.moments import Moments
from serving.release.verdict import Outcome, Verdict

#: The built-in check that an effect does not fade as it stops being new.
NOVELTY = "novelty"


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
    """Keep what the secondary metrics lean to where it is no chance finding (e-BH over all of them)."""
    found = multiplicity.e_bh([verdict.evidence or 0.0 for verdict in verdicts], alpha) if verdicts else ()
    return tuple(
        verdict if place in found else replace(verdict, outcome="INCONCLUSIVE")
        for place, verdict in enumerate(verdicts)
    )


def steadiness(check: Check, candidates: int, ours: Sequence[Moments], theirs: Sequence[Moments]) -> Verdict:
    """Whether the effect lasts: FAIL where it fades as the candidate stops being new."""
    told = [
        (
            ours[place] if place < len(ours) else Moments(),
            theirs[place] if place < len(theirs) else Moments(),
        )
        for place in range(max(len(ours), len(theirs)))
    ]
    found = novelty.check(design(check, candidates), told)
    outcomes: dict[str, Outcome] = {"fading": "FAIL", "steady": "PASS", "growing": "PASS"}
    shown = [f"{period.lift:+.1%}" if period.lift is not None else "?" for period in found.periods]
    return Verdict(
        NOVELTY,
        "integrity",
        outcomes.get(found.verdict, "INCONCLUSIVE"),
        sum(period.n_candidate for period in found.periods),
        f"mixture e-process on the change after the first period, alpha {novelty.ALPHA:g}",
        f"{found.verdict}: effect by period {', '.join(shown) or 'none'}",
        estimate=found.change,
        lower=found.lower,
        upper=found.upper,
        bound=0.0,
    )


def _verdict(check: Check, plan: Design, found: Result) -> Verdict:
    n = min(found.n_candidate, found.n_champion)
    claim = "better" if plan.margin is None else f"no worse than {plan.margin:.3g} of the champion's"
    rule = f"mixture e-process on '{claim}', alpha {plan.alpha:g} in two halves"
    needed = 2 / plan.alpha
    if n == 0 or found.estimate is None:
        reason = "no finished outcomes of both versions"
        return Verdict(check.name, check.kind, "INCONCLUSIVE", n, rule, reason, bound=plan.null)
    outcomes: dict[str, Outcome] = {"better": "PASS", "worse": "FAIL", "none": "INCONCLUSIVE"}
    leaning: Decided = "better" if found.log_better >= found.log_worse else "worse"
    evidence = math.exp(min(max(found.log_better, found.log_worse), 690.0))
    if check.kind == "secondary":
        # told with others: the evidence against "no difference", and the outcome it leans to (see `secondary`)
        evidence = multiplicity.either(found.log_better, found.log_worse)
        found = replace(found, decided=leaning)
    if found.decided == "better" and found.log_worse >= math.log(needed):
        # a verdict that was reached stays, but what came after it must not be promoted
        reason = (
            f"was better once, and now is worse: {check.metric} {found.estimate:+.1%} against the champion"
        )
        return Verdict(
            check.name, check.kind, "INCONCLUSIVE", n, rule, reason, found.estimate, found.lower, found.upper,
            plan.null, evidence,
        )  # fmt: skip
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
