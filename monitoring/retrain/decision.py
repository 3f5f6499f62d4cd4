"""Whether a signal becomes a retraining, decided purely; `monitoring.retrain.journal` acts on it.

Detecting drift is easy; not ringing all the time is hard. One incident makes one run, runs keep a distance
and a budget, nothing is trained while a release is being judged or on data that fails validation, and a
model that retraining does not help is handed to a person.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from monitoring.retrain.signals import PastTrigger, Signal
from windlass.contract import RetrainPolicy

Rule = Literal[
    "accepted",
    "kind",
    "dataQuality",
    "duplicate",
    "stale",
    "escalated",
    "volume",
    "clock",
    "blackout",
    "concurrency",
    "cooldown",
    "dailyBudget",
    "totalBudget",
]

DAY = timedelta(days=1)
CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the wall clock may stand before the journal's newest record: processes ask it at different moments."""
HOLDS: tuple[Rule, ...] = ("dataQuality", "clock", "blackout", "concurrency", "cooldown", "dailyBudget")
"""Rules that pass by themselves: what they hold back is decided again."""


@dataclass(frozen=True)
class TriggerDecision:
    """What became of a signal.

    Attributes:
        reason: a sentence for people.
        rule: the rule that decided.
        trigger: id of the accepted trigger, or of the one that already answers the same cause.
        escalate: a person has to look.
        held: refused for now; it is decided again when what holds it has passed (see `Trigger.reconsider`).
    """

    accepted: bool
    reason: str
    rule: Rule
    trigger: str | None = None
    escalate: bool = False
    held: bool = False


@dataclass(frozen=True)
class Standing:
    """How things stand beside the history, when a signal is decided.

    Attributes:
        live_release: a release of the model is being judged.
        run_active: how many runs of the workload are going on (True counts as one).
        data_quality_failed: the newest data fails validation.
        total_budget: most accepted triggers over the whole history; None leaves it open.
        newest: time of the journal's newest record; None where it is empty.
        ended: when the alert that a signal tells of ended, if it has; None while it burns.
        champion: the version in force; None where it is not known.
        new_rows: rows of the partitions since the newest trigger, this signal's included; None where one is not said.
        trained_rows: rows that the champion was trained on; None where that is not known.
    """

    live_release: bool = False
    run_active: int = 0
    data_quality_failed: bool = False
    total_budget: int | None = None
    newest: datetime | None = None
    ended: datetime | None = None
    champion: str | None = None
    new_rows: float | None = None
    trained_rows: float | None = field(default=None)


def decide(
    signal: Signal,
    history: Sequence[PastTrigger],
    policy: RetrainPolicy,
    now: datetime,
    standing: Standing,
) -> TriggerDecision:
    """Decide about one signal.

    Args:
        history: accepted triggers of the workload, oldest first.

    Returns:
        The decision, made by the first rule that holds the signal back.
    """
    held = (
        _kind(signal, policy)
        or _duplicate(signal, history)
        or _broken(signal)
        or _clock(signal, standing, now)
        or _stale(signal, history, standing)
        or _escalation(signal, history, policy, standing)
        or _volume(signal, policy, standing)
        or _quality(standing)
        or _blackout(standing)
        or _concurrency(policy, standing)
        or _cooldown(signal, history, policy, now)
        or _budgets(history, policy, now, standing)
    )
    if held is None:
        return TriggerDecision(True, f"{signal.kind}: nothing holds it back", "accepted")
    # a person has been told and may ask again: a run that begins days later would surprise
    waits = held.rule in HOLDS and signal.kind not in ("manual", "dataQuality")
    return replace(held, held=waits)


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


def _broken(signal: Signal) -> TriggerDecision | None:
    if signal.kind != "dataQuality":
        return None
    reason = "data that fails validation is not trained on; a person repairs the source first"
    return TriggerDecision(False, reason, "dataQuality", escalate=True)


def _quality(standing: Standing) -> TriggerDecision | None:
    if not standing.data_quality_failed:
        return None
    return TriggerDecision(False, "blackout: the newest data fails validation", "dataQuality", escalate=True)


def _clock(signal: Signal, standing: Standing, now: datetime) -> TriggerDecision | None:
    # Before `stale`: what a wrong clock calls old must not be thrown away for it.
    if standing.newest is None or signal.override or now >= standing.newest - CLOCK_TOLERANCE:
        return None
    return TriggerDecision(
        False,
        f"the clock says {_text(now)}, the journal's newest record is of {_text(standing.newest)}: it was set back, "
        "and nothing starts until it has caught up",
        "clock",
    )


def _stale(signal: Signal, history: Sequence[PastTrigger], standing: Standing) -> TriggerDecision | None:
    if standing.champion is not None and signal.champion not in (None, standing.champion):
        return TriggerDecision(
            False,
            f"it is about version {signal.champion}, and the champion is version {standing.champion}",
            "stale",
        )
    if standing.ended is not None and signal.at <= standing.ended:
        return TriggerDecision(
            False, f"what began at {_text(signal.at)} ended at {_text(standing.ended)}", "stale"
        )
    # An alert that was delivered late describes a model that has been retrained since. One that began before a
    # retraining which left the model as it was still describes it.
    newest = max(
        (past for past in history if past.helped is not False), key=lambda past: past.at, default=None
    )
    if newest is None or signal.at >= newest.signal_at:
        return None
    return TriggerDecision(
        False,
        f"measured at {_text(signal.at)}, before what {newest.id} answers ({_text(newest.signal_at)})",
        "stale",
        newest.id,
    )


def escalated(history: Sequence[PastTrigger], policy: RetrainPolicy, champion: str | None = None) -> bool:
    """Whether the last `escalate_after` retrainings whose outcome is known did not help.

    Args:
        champion: the version in force, where it is known. Another one than the last of them had was put there by a
            person: the person has decided.
    """
    last = [past for past in history if past.helped is not None][-policy.escalate_after :]
    if len(last) < policy.escalate_after or any(past.helped for past in last):
        return False
    return champion is None or last[-1].champion in (None, champion)


def _escalation(
    signal: Signal, history: Sequence[PastTrigger], policy: RetrainPolicy, standing: Standing
) -> TriggerDecision | None:
    if signal.override or not escalated(history, policy, standing.champion):
        return None
    return TriggerDecision(
        False,
        f"the last {policy.escalate_after} retrainings did not help; a person decides, "
        "`windlass retrain WORKLOAD --override` goes on",
        "escalated",
        escalate=True,
    )


def _volume(signal: Signal, policy: RetrainPolicy, standing: Standing) -> TriggerDecision | None:
    if signal.kind != "newData" or policy.new_rows is None:
        return None
    if standing.new_rows is None:
        return TriggerDecision(False, "how many rows are new was not said", "volume")
    if policy.new_rows >= 1:
        needed = math.ceil(policy.new_rows)
    elif standing.trained_rows is None:
        return TriggerDecision(False, "how many rows the champion was trained on is not known", "volume")
    else:
        needed = math.ceil(policy.new_rows * standing.trained_rows)
    if standing.new_rows >= needed:
        return None
    return TriggerDecision(
        False, f"{standing.new_rows:.0f} rows are new, the policy waits for {needed}", "volume"
    )


def _blackout(standing: Standing) -> TriggerDecision | None:
    if not standing.live_release:
        return None
    return TriggerDecision(False, "blackout: a release of the model is being judged", "blackout")


def _concurrency(policy: RetrainPolicy, standing: Standing) -> TriggerDecision | None:
    active = int(standing.run_active)
    if active < policy.concurrency:
        return None
    return TriggerDecision(
        False, f"{active} of at most {policy.concurrency} runs going on already", "concurrency"
    )


def _cooldown(
    signal: Signal, history: Sequence[PastTrigger], policy: RetrainPolicy, now: datetime
) -> TriggerDecision | None:
    if not history or signal.override:
        return None
    # A clock that was set back makes the time passed less than nothing: the cool-down holds until it has caught up.
    passed = min(past.elapsed(now) for past in history)
    if passed >= policy.cooldown:
        return None
    return TriggerDecision(
        False, f"cool-down until {_text(_later(now, policy.cooldown - passed))}", "cooldown"
    )


def _budgets(
    history: Sequence[PastTrigger], policy: RetrainPolicy, now: datetime, standing: Standing
) -> TriggerDecision | None:
    total = standing.total_budget
    if total is not None and len(history) >= total:
        return TriggerDecision(False, f"total budget of {total} retrainings is used up", "totalBudget")
    recent = sum(1 for past in history if past.elapsed(now) < DAY)
    if recent < policy.per_day:
        return None
    return TriggerDecision(
        False, f"{recent} retrainings in 24 h, the policy allows {policy.per_day}", "dailyBudget"
    )


def _later(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


def rows_of(detail: Mapping[str, Any], name: str) -> float | None:
    """A count of rows in a signal's evidence; None where it is none."""
    value = detail.get(name)
    known = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if known and math.isfinite(value) else None  # type: ignore[arg-type]


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z")
