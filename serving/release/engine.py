"""The release engine: what to do next, as a pure function of state, evidence and time.

No clock is read, nothing is written and nothing is drawn by chance here; `controller.py` carries a decision out.
The order of the rules is the order of their weight: a failing guardrail stops a release at any look, whatever
else holds; nothing advances on evidence that is missing, makes no sense, or comes from arms that did not get
their shares; and only a passed decision promotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from serving.release import checks, durations
from serving.release.checks import SAMPLE_RATIO, Comparison, Verdict
from serving.release.evidence import Evidence
from serving.release.release import Step
from serving.release.state import Ratio, ReleaseState
from serving.release.tally import NOTHING, ArmCounts, Counts, Tally, tally

Action = Literal["start", "hold", "advance", "promote", "roll_back", "pause", "resume", "abort"]
Command = Literal["pause", "resume", "abort", "rollback", "promote"]

#: Both arms failing at this share of the requests since the last look, on this many of each, is an outage.
OUTAGE_SHARE = 0.2
OUTAGE_REQUESTS = 20


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    Attributes:
        check: name of the check that decided; None where none did.
        weights, mirror_to: what the router shall do from now on.
        champion: the version that shall hold the champion alias; None leaves it.
        requests: requests that the candidate had answered.
        alert: news for a person; None where there are none.
        tally: what was seen; None where no evidence was looked at.
        state: the state after this decision.
    """

    action: Action
    reason: str
    at: datetime
    state: ReleaseState
    check: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    champion: str | None = None
    requests: int = 0
    alert: str | None = None
    tally: Tally | None = None

    @property
    def weights(self) -> Mapping[str, int]:
        return self.state.weights

    @property
    def mirror_to(self) -> str | None:
        return self.state.mirror_to


@dataclass(frozen=True)
class _Look:
    """One look at the evidence: the updated memory, the verdicts, and what happened since the last one."""

    state: ReleaseState
    tally: Tally
    now: datetime
    verdicts: tuple[Verdict, ...]
    new_requests: ArmCounts
    by_name: Mapping[str, Verdict] = field(default_factory=dict)

    def decide(
        self, action: Action, reason: str, state: ReleaseState | None = None, **more: object
    ) -> Decision:
        return Decision(
            action,
            reason,
            self.now,
            state if state is not None else self.state,
            verdicts=self.verdicts,
            requests=self.tally.requests.candidate.n,
            tally=self.tally,
            **more,  # type: ignore[arg-type]
        )


def next_step(state: ReleaseState, evidence: Evidence, now: datetime) -> Decision:
    """Decide; the same arguments always give the same decision."""
    release = state.release
    if not state.live:
        return Decision("hold", f"the release is over: {state.phase}", now, state)
    if state.phase == "Pending":
        return _start(state, now)
    look = _look(state, tally(release, state.champion, evidence), now)
    for verdict in look.verdicts:
        if verdict.kind == "guardrail" and verdict.outcome == "FAIL":
            return _end(look, "roll_back", f"{verdict.check}: {verdict.reason}", verdict.check)
    if state.phase == "Paused":
        return look.decide("hold", "paused by a person; guardrails stay on watch")
    for verdict in look.verdicts:
        if verdict.kind == "decision" and verdict.outcome == "FAIL":
            return _end(look, "roll_back", f"{verdict.check}: {verdict.reason}", verdict.check)
    reason_to_hold = _trouble(look) or _waiting_for(look)
    return _forward(look) if reason_to_hold is None else _hold(look, reason_to_hold)


def obey(
    state: ReleaseState, command: Command, now: datetime, *, by: str = "a person", to: str | None = None
) -> Decision:
    """Carry out what a person wants; what makes no sense in this phase holds and says why.

    `to` names the version that a rollback gives the traffic to; the champion the release began with otherwise.
    """
    release = state.release
    if command == "pause" and state.phase == "Progressing":
        return Decision("pause", f"paused by {by}", now, replace(state, phase="Paused", paused_at=now))
    if command == "resume" and state.phase == "Paused":
        pause = now - (state.paused_at or now)
        begun = None if state.step_started_at is None else state.step_started_at + pause
        resumed = replace(state, phase="Progressing", paused_at=None, step_started_at=begun)
        return Decision("resume", f"resumed by {by}", now, resumed)
    only_champion = {state.champion: 100}
    if command == "abort" and state.live:
        after = replace(state, phase="Aborted", weights=only_champion, mirror_to=None)
        return Decision("abort", f"aborted by {by}", now, after)
    if command == "rollback" and (to is not None or state.live or state.phase == "Promoted"):
        target = to or state.champion
        after = replace(state, phase="RolledBack", weights={target: 100}, mirror_to=None)
        # after a promotion the alias has moved as well
        return Decision("roll_back", f"rolled back to version {target} by {by}", now, after, champion=target)
    if command == "promote" and state.phase in ("Progressing", "Paused"):
        after = replace(state, phase="Promoted", weights={release.candidate: 100}, mirror_to=None)
        return Decision(
            "promote",
            f"promoted by {by}, without waiting for the checks",
            now,
            after,
            champion=release.candidate,
        )
    return Decision("hold", f"{command} does nothing to a release that is {state.phase}", now, state)


# --- the look


def _look(state: ReleaseState, seen: Tally, now: datetime) -> _Look:
    release = state.release
    faults = {**seen.faults}
    before = state.requests
    if seen.requests.candidate.n < before.candidate.n or seen.requests.champion.n < before.champion.n:
        gone = f"the evidence went backwards: {_pair(before)} requests, now {_pair(seen.requests)}"
        faults |= {check.name: gone for check in release.checks if check.kind == "guardrail"}
        seen = replace(seen, requests=before)
    comparisons: dict[str, Comparison] = {}
    verdicts: list[Verdict] = []
    for check in release.checks:
        counts = seen.counts.get(check.name, NOTHING)
        comparison = state.comparisons.get(check.name, Comparison())
        if check.name in faults:
            comparisons[check.name] = comparison
            verdicts.append(checks.error(check, faults[check.name]))
            continue
        if check.relative_to_champion:
            comparison = comparisons[check.name] = checks.compare(check, comparison, counts)
        verdicts.append(checks.judge(check, counts, comparison, seen.pairs.get(check.name, ())))
    ratio, verdict = _ratio(state, seen.requests)
    verdicts.append(verdict)
    after = replace(state, requests=seen.requests, comparisons=comparisons, ratio=ratio)
    new = ArmCounts(
        _minus(seen.requests.candidate, before.candidate), _minus(seen.requests.champion, before.champion)
    )
    return _Look(after, seen, now, tuple(verdicts), new, {v.check: v for v in verdicts})


def _ratio(state: ReleaseState, requests: ArmCounts) -> tuple[Ratio, Verdict]:
    counts = (requests.candidate.n, requests.champion.n)
    ratio = state.ratio
    if ratio.base is None and requests == state.requests:
        pass  # nothing new since the weights changed: the same evidence again must change nothing
    elif ratio.base is None:
        ratio = replace(ratio, base=counts, counts=(0, 0))
    else:
        ratio = replace(ratio, counts=(counts[0] - ratio.base[0], counts[1] - ratio.base[1]))
    weight = state.weights.get(state.release.candidate, 0)
    evidence = ratio.settled + checks.ratio_log_evidence(ratio.counts, weight)
    return ratio, checks.judge_ratio(evidence, sum(ratio.counts))


# --- the rules


@dataclass(frozen=True)
class _Obstacle:
    """Why a release stays where it is; `alert` is the same for as long as the obstacle is."""

    check: str | None
    reason: str
    alert: str | None = None


def _trouble(look: _Look) -> _Obstacle | None:
    for verdict in look.verdicts:
        if verdict.outcome == "ERROR":
            reason = f"{verdict.check}: {verdict.reason}"
            return _Obstacle(verdict.check, reason, f"{verdict.check}: its evidence cannot be used")
    ratio = look.by_name[SAMPLE_RATIO]
    if ratio.outcome == "FAIL":
        alert = "the arms did not get their shares of the traffic, no verdict can be trusted"
        seen = f"{_pair(look.tally.requests)} requests in all, weights {dict(look.state.weights)}"
        return _Obstacle(SAMPLE_RATIO, f"{alert} ({seen}): {ratio.reason}", alert)
    ours, theirs = look.new_requests.candidate, look.new_requests.champion
    if all(arm.n >= OUTAGE_REQUESTS and arm.events >= OUTAGE_SHARE * arm.n for arm in (ours, theirs)):
        alert = "both versions fail alike: not the candidate's fault"
        counts = f"candidate {ours.events} of {ours.n}, champion {theirs.events} of {theirs.n}"
        return _Obstacle(None, f"{alert} ({counts} since the last look)", alert)
    return None


def _waiting_for(look: _Look) -> _Obstacle | None:
    """What is still missing; None where the release may go on."""
    state, step = look.state, _step(look.state)
    answered = look.tally.requests.candidate.n - state.step_base.get("requests", 0)
    if answered < step.min_samples:
        return _Obstacle(None, f"step {state.step + 1} has {answered} of {step.min_samples} requests")
    lasted = look.now - (state.step_started_at or look.now)
    if lasted < step.min_duration:
        so_far = f"{durations.format(lasted)} of {durations.format(step.min_duration)}"
        return _Obstacle(None, f"step {state.step + 1} has lasted {so_far}")
    for check in state.release.checks:
        verdict = look.by_name[check.name]
        if check.kind == "guardrail":
            if verdict.n < check.min_samples:
                return _Obstacle(
                    check.name, f"{check.name} has {verdict.n} of {check.min_samples} observations"
                )
            if verdict.n <= state.step_base.get(check.name, 0):
                return _Obstacle(check.name, f"{check.name} has no data of step {state.step + 1}")
        elif _is_last(state) and verdict.outcome != "PASS":
            return _Obstacle(check.name, f"{check.name} is {verdict.outcome}: {verdict.reason}")
    return None


def _forward(look: _Look) -> Decision:
    state = look.state
    if _is_last(state):
        deciding = next((v for v in look.verdicts if v.kind == "decision"), None)
        if deciding is not None:
            return _end(look, "promote", f"{deciding.check}: {deciding.reason}", deciding.check)
        return _end(look, "promote", "every step is done and no guardrail fails", None)
    after = _enter(state, state.step + 1, look)
    weight = _step(after).weight
    return look.decide("advance", f"step {state.step + 1} is done and no guardrail fails: {weight} %", after)


def _hold(look: _Look, obstacle: _Obstacle) -> Decision:
    state, reason, alert = look.state, obstacle.reason, obstacle.alert
    limit = state.release.inconclusive_after
    if look.now - (state.step_started_at or look.now) >= limit:
        late = f"no progress for {durations.format(limit)}"
        reason = f"{late}: {reason}"
        if state.release.when_inconclusive == "abort":
            return _end(look, "abort", reason, obstacle.check)
        alert = alert or late
    news = alert if alert != state.alert else None
    return look.decide("hold", reason, replace(state, alert=alert), check=obstacle.check, alert=news)


def _start(state: ReleaseState, now: datetime) -> Decision:
    begun = replace(state, phase="Progressing", started_at=now)
    after = _enter(begun, 0, None, now)
    return Decision("start", f"version {state.release.candidate} gets {_step(after).weight} %", now, after)


def _enter(state: ReleaseState, index: int, look: _Look | None, now: datetime | None = None) -> ReleaseState:
    release = state.release
    weight = release.strategy.steps[index].weight
    settled = 0.0
    base: dict[str, int] = {"requests": state.requests.candidate.n}
    if look is not None:
        old = state.weights.get(release.candidate, 0)
        settled = state.ratio.settled + checks.ratio_log_evidence(state.ratio.counts, old)
        base |= {name: verdict.n for name, verdict in look.by_name.items()}
    weights = {state.champion: 100 - weight, release.candidate: weight}
    return replace(
        state,
        step=index,
        weights={version: share for version, share in weights.items() if share},
        mirror_to=release.candidate if release.strategy.mirror else None,
        step_started_at=look.now if look is not None else now,
        step_base=base,
        ratio=Ratio(settled=settled),
        alert=None,
    )


def _end(
    look: _Look, action: Literal["promote", "roll_back", "abort"], reason: str, check: str | None
) -> Decision:
    state = look.state
    if action == "promote":
        winner = state.release.candidate
        after = replace(state, phase="Promoted", weights={winner: 100}, mirror_to=None)
        return look.decide(action, reason, after, check=check, champion=winner)
    phase: Literal["RolledBack", "Aborted"] = "RolledBack" if action == "roll_back" else "Aborted"
    after = replace(state, phase=phase, weights={state.champion: 100}, mirror_to=None)
    return look.decide(action, reason, after, check=check, alert=reason)


def _step(state: ReleaseState) -> Step:
    return state.release.strategy.steps[state.step]


def _is_last(state: ReleaseState) -> bool:
    return state.step == len(state.release.strategy.steps) - 1


def _minus(now: Counts, before: Counts) -> Counts:
    return Counts(now.n - before.n, now.events - before.events)


def _pair(counts: ArmCounts) -> str:
    return f"{counts.candidate.n} and {counts.champion.n}"
