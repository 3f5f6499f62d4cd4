"""The decay test at a look: days consumed, verdict, incident."""

from __future__ import annotations

import math

import numpy as np

from monitoring.detection import decay
from monitoring.detection.decay import Ranking
from monitoring.detection.incidents import Incidents
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import CheckJudgement, DecayJudgement
from monitoring.detection.rows import DAY_S, Matured, days_of
from monitoring.detection.state import DecayState
from monitoring.verdict import Verdict

NAME = "performanceDecay/ranking"
HALF = 0.5
INTERVAL = 2.576
"""Half width of the slope's interval in standard errors: 99 %, for one look; the alarm rests on the e-value alone."""


def judge(
    ranking: Ranking | None,
    matured: Matured | None,
    state: DecayState,
    incidents: Incidents,
    policy: DetectionPolicy,
) -> tuple[DecayJudgement | None, DecayState]:
    """Consume the newly matured days; None where the baseline has no labels."""
    if ranking is None:
        return None, state
    threshold = math.log(policy.days_between_false_decays)
    if matured is None:
        incidents.note(NAME, math.nan)
        return _judgement(ranking, state, incidents, threshold, None, None, consumed=0), state
    chosen = (
        (days_of(matured.at) < int(matured.through // DAY_S))
        & (days_of(matured.at) > state.through)
        & np.isfinite(matured.labels)
        & np.isfinite(matured.scores)
    )
    labels, scores = matured.labels[chosen], matured.scores[chosen]
    daily = decay.day_slopes(ranking, matured.at[chosen], labels, scores)
    after = decay.advance(
        state, ranking, daily, smallest_decay=policy.smallest_decay, log_threshold=threshold
    )
    evidence = decay.log_evidence(after)
    incidents.note(NAME, evidence / threshold + 1e-12 if after.log_wealth else math.nan)
    rate = expected = None
    if len(labels):
        rate = float(labels.mean())
        expected = float((1 / (1 + np.exp(-ranking.log_odds(scores)))).mean())
    return _judgement(ranking, after, incidents, threshold, rate, expected, consumed=len(daily.days)), after


def _judgement(
    ranking: Ranking,
    state: DecayState,
    incidents: Incidents,
    threshold: float,
    rate: float | None,
    expected: float | None,
    *,
    consumed: int,
) -> DecayJudgement:
    evidence = decay.log_evidence(state)
    alarm = incidents.alarm(NAME)
    verdict: Verdict = "FAIL" if alarm else "PASS" if consumed else "INCONCLUSIVE"
    if verdict == "PASS" and evidence > HALF * threshold:
        verdict = "INCONCLUSIVE"
    slope = width = None
    if state.days:
        slope = state.slopes / state.days
        width = INTERVAL * ranking.between / math.sqrt(state.days)
    return DecayJudgement(
        labels=state.labels,
        days=state.days,
        slope=slope,
        lower=None if slope is None or width is None else slope - width,
        upper=None if slope is None or width is None else slope + width,
        log_evidence=evidence if math.isfinite(evidence) else 0.0,
        log_threshold=threshold,
        rate=rate,
        expected_rate=expected,
        verdict=verdict,
        alarm=alarm,
        new=incidents.new(NAME),
        since=incidents.since(NAME),
    )


def check(judgement: DecayJudgement | None) -> CheckJudgement:
    """The check of performance decay."""
    if judgement is None:
        return CheckJudgement(
            "performanceDecay",
            "INCONCLUSIVE",
            "the baseline has no held-out labels to compare with",
            False,
            False,
        )
    if judgement.slope is None:
        reason = "no day with enough labels of both classes has matured"
    else:
        reason = (
            f"calibration slope {judgement.slope:.2f} ({judgement.lower:.2f} to {judgement.upper:.2f}) over "
            f"{judgement.labels} labels of {judgement.days} days; evidence of decay {judgement.log_evidence:.1f}, "
            f"rings from {judgement.log_threshold:.1f}"
        )
        if judgement.verdict == "INCONCLUSIVE" and judgement.rate is None:
            reason = "no newly matured labels; last: " + reason
    return CheckJudgement("performanceDecay", judgement.verdict, reason, judgement.alarm, judgement.new)
