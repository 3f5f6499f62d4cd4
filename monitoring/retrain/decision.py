"""Whether a signal becomes a retraining, decided purely; `monitoring.retrain.journal` acts on it.

Detecting drift is easy; not ringing all the time is hard. One incident makes one run, runs keep a distance
and a budget, nothing is trained while a release is being judged or on data that fails validation, and a
model that retraining does not help is handed to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.retrain.signals import PastTrigger, Signal
from windlass.contract import RetrainPolicy

Rule = Literal[
    "accepted",
    "kind",
    "dataQuality",
    "duplicate",
    "stale",
    "escalated",
    "blackout",
    "concurrency",
    "cooldown",
    "dailyBudget",
    "totalBudget",
]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class TriggerDecision:
    """What became of a signal.

    Attributes:
        reason: a sentence for people.
        rule: the rule that decided.
        trigger: id of the accepted trigger, or of the one that already answers the same cause.
        escalate: a person has to look.
    """

    accepted: bool
    reason: str
    rule: Rule
    trigger: str | None = None
    escalate: bool = False


def decide(
    signal: Signal,
    history: Sequence[PastTrigger],
    policy: RetrainPolicy,
    now: datetime,
    *,
    live_release: bool,
    run_active: int,
    data_quality_failed: bool = False,
    total_budget: int | None = None,
) -> TriggerDecision:
    """Decide about one signal.

    Args:
        history: accepted triggers of the workload, oldest first.
        live_release: a release of the model is being judged.
        run_active: how many runs of the workload are going on (True counts as one).
        data_quality_failed: the newest data fails validation.
        total_budget: most accepted triggers over the whole history; None leaves it open.

    Returns:
        The decision, made by the first rule that holds the signal back.
    """
    held = (
        _kind(signal, policy)
        or _duplicate(signal, history)
        or _quality(signal, data_quality_failed)
        or _stale(signal, history)
        or _escalation(signal, history, policy)
        or _blackout(live_release)
        or _concurrency(policy, run_active)
        or _cooldown(signal, history, policy, now)
        or _budgets(history, policy, now, total_budget)
    )
    if held is not None:
        return held
    return TriggerDecision(True, f"{signal.kind}: nothing holds it back", "accepted")


def _kind(signal: Signal, policy: RetrainPolicy) -> TriggerDecision | None:
    if signal.kind in policy.signals:
        return None
    return TriggerDecision(False, f"{signal.kind} is not among the policy's signals", "kind")


def _duplicate(signal: Signal, history: Sequence[PastTrigger]) -> TriggerDecision | None:
    for past in history:
        if past.cause == signal.cause:
            return TriggerDecision(
                False, f"{signal.cause} is answered by {past.id} already", "duplicate", past.id
            )
    return None


def _quality(signal: Signal, data_quality_failed: bool) -> TriggerDecision | None:
    if signal.kind == "dataQuality":
        reason = "data that fails validation is not trained on; a person repairs the source first"
    elif data_quality_failed:
        reason = "blackout: the newest data fails validation"
    else:
        return None
    return TriggerDecision(False, reason, "dataQuality", escalate=True)


def _stale(signal: Signal, history: Sequence[PastTrigger]) -> TriggerDecision | None:
    # An alert that was delivered late describes a model that has been retrained since.
    newest = max(history, key=lambda past: past.at, default=None)
    if newest is None or signal.at >= newest.signal_at:
        return None
    return TriggerDecision(
        False,
        f"measured at {_text(signal.at)}, before what {newest.id} answers ({_text(newest.signal_at)})",
        "stale",
        newest.id,
    )


def _escalation(
    signal: Signal, history: Sequence[PastTrigger], policy: RetrainPolicy
) -> TriggerDecision | None:
    closed = [past.helped for past in history if past.helped is not None]
    last = closed[-policy.escalate_after :]
    if signal.override or len(last) < policy.escalate_after or any(last):
        return None
    return TriggerDecision(
        False,
        f"the last {policy.escalate_after} retrainings did not help; a person decides, "
        "`windlass retrain WORKLOAD --override` goes on",
        "escalated",
        escalate=True,
    )


def _blackout(live_release: bool) -> TriggerDecision | None:
    if not live_release:
        return None
    return TriggerDecision(False, "blackout: a release of the model is being judged", "blackout")


def _concurrency(policy: RetrainPolicy, run_active: int) -> TriggerDecision | None:
    if int(run_active) < policy.concurrency:
        return None
    return TriggerDecision(
        False, f"{int(run_active)} of at most {policy.concurrency} runs going on already", "concurrency"
    )


def _cooldown(
    signal: Signal, history: Sequence[PastTrigger], policy: RetrainPolicy, now: datetime
) -> TriggerDecision | None:
    if not history or signal.override:
        return None
    # A clock that was set back makes this later than now: then the cool-down holds until it has caught up.
    until = max(past.at for past in history) + policy.cooldown
    if now >= until:
        return None
    return TriggerDecision(False, f"cool-down until {_text(until)}", "cooldown")


def _budgets(
    history: Sequence[PastTrigger], policy: RetrainPolicy, now: datetime, total_budget: int | None
) -> TriggerDecision | None:
    if total_budget is not None and len(history) >= total_budget:
        return TriggerDecision(False, f"total budget of {total_budget} retrainings is used up", "totalBudget")
    recent = sum(1 for past in history if past.at > now - DAY)
    if recent < policy.per_day:
        return None
    return TriggerDecision(
        False, f"{recent} retrainings in 24 h, the policy allows {policy.per_day}", "dailyBudget"
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z")
