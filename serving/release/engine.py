"""The release engine: what to do next, as a pure function of state, evidence and time.

No clock is read, nothing is written and nothing is drawn by chance here; `controller.py` carries a decision out.
The order of the rules is the order of their weight: a failing guardrail stops a candidate at any look, whatever
else holds; nothing advances on evidence that is missing, makes no sense, or comes from arms that did not get
their shares; and only a passed decision promotes. What comes next where nothing is in the way is the strategy's.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from serving.release import strategies
from serving.release.checks import SAMPLE_RATIO
from serving.release.decision import Action, Command, Decision
from serving.release.evidence import Evidence
from serving.release.look import Look, Obstacle, look, shown
from serving.release.state import ReleaseState
from serving.release.strategies.ending import end, without
from serving.release.strategies.holding import hold
from serving.release.traffic import all_to
from serving.release.verdict import Verdict

__all__ = ["Action", "Command", "Decision", "next_step", "obey"]


def next_step(state: ReleaseState, evidence: Evidence, now: datetime) -> Decision:
    """Decide; the same arguments always give the same decision."""
    if not state.live:
        return Decision("hold", f"the release is over: {state.phase}", now, state)
    strategy = strategies.of(state.release)
    if state.phase == "Pending":
        return strategy.begin(replace(state, phase="Progressing", started_at=now), now)
    seen = look(state, evidence, now)
    seen = replace(seen, verdicts=(*seen.verdicts, *_down(seen)))
    failed = _failed(seen, "guardrail")
    if failed:
        return _reject(seen, failed)
    if state.phase == "Paused":
        return seen.decide("hold", "paused by a person; guardrails stay on watch")
    failed = _failed(seen, "decision")
    if failed:
        return _reject(seen, failed)
    if state.dropped_at == now:
        # the same look once more, after a crash: what was taken out then is all that follows from it
        return seen.decide("hold", "a version was taken out at this look", state)
    obstacle = _trouble(seen) or strategy.waiting_for(seen) or _uncounted(state, seen)
    if obstacle is None:
        return strategy.forward(seen)
    seen = _blocked(seen, obstacle)
    return strategy.meanwhile(seen, obstacle) or hold(seen, obstacle)


def obey(
    state: ReleaseState, command: Command, now: datetime, *, by: str = "a person", to: str | None = None
) -> Decision:
    """Carry out what a person wants; what makes no sense in this phase holds and says why.

    `to` names the version that a rollback gives the traffic to (the champion the release began with otherwise), or
    the candidate that is promoted (where there are several).
    """
    if command == "pause" and state.phase == "Progressing":
        return Decision("pause", f"paused by {by}", now, replace(state, phase="Paused", paused_at=now))
    if command == "resume" and state.phase == "Paused":
        pause = now - (state.paused_at or now)
        begun, blocked = (
            None if moment is None else moment + pause
            for moment in (state.step_started_at, state.blocked_since)
        )
        if state.enrolled_until is not None and not state.enrolment_paused:
            # what was over before the pause is not open again
            begun = state.step_started_at
        resumed = replace(
            state, phase="Progressing", paused_at=None, step_started_at=begun, blocked_since=blocked
        )
        return Decision("resume", f"resumed by {by}", now, resumed)
    if command == "abort" and state.live:
        after = replace(state, phase="Aborted", traffic=all_to(state.champion))
        return Decision("abort", f"aborted by {by}", now, after)
    if command == "rollback" and (to is not None or state.live or state.phase == "Promoted"):
        target = to or state.champion
        after = replace(state, phase="RolledBack", traffic=all_to(target))
        # after a promotion the alias has moved as well
        return Decision("roll_back", f"rolled back to version {target} by {by}", now, after, champion=target)
    if command == "promote" and state.phase in ("Progressing", "Paused"):
        left = state.candidates
        winner = to if to is not None else left[0] if len(left) == 1 else None
        if winner not in left:
            names = ", ".join(left)
            return Decision("hold", f"promote needs one of the candidates that are in: {names}", now, state)
        after = replace(state, phase="Promoted", traffic=all_to(winner))
        reason = f"promoted by {by}, without waiting for the checks"
        return Decision("promote", reason, now, after, champion=winner)
    return Decision("hold", f"{command} does nothing to a release that is {state.phase}", now, state)


#: The built-in check that the router takes what it is told, and how often it is asked before the release ends.
BACKEND = "backend"
TRIES = 3


def refused(state: ReleaseState, reason: str, failures: int, now: datetime) -> Decision:
    """What to do about traffic that the router does not take: try again, then give up.

    Args:
        failures: times that it was refused since it was decided.
    """
    verdict = Verdict(
        BACKEND,
        "integrity",
        "ERROR",
        failures,
        f"the router takes what it is told within {TRIES} tries",
        reason,
    )
    if failures < TRIES:
        alert = f"the router refused the traffic {dict(state.weights)}"
        news = alert if alert != state.alert else None
        held = replace(state, alert=alert)
        return Decision("hold", f"{alert}: {reason}", now, held, BACKEND, (verdict,), alert=news)
    gone = replace(state, phase="Aborted", traffic=all_to(state.champion))
    said = f"the router refused the traffic {dict(state.weights)} {failures} times: {reason}"
    return Decision("abort", said, now, gone, BACKEND, (verdict,), alert=said)


#: The built-in check that a candidate with traffic has a server that answers.
SERVERS = "servers"


# --- rules that hold for every strategy


def _down(seen: Look) -> list[Verdict]:
    """A candidate whose servers are all down fails every caller that it is given, whoever counts them; where the
    champion's are down as well it is not the candidate's fault."""
    rule = "a candidate with traffic has a server that answers"
    found: list[Verdict] = []
    if _down_reason(seen, seen.state.champion):
        return found
    for version in seen.state.candidates:
        down = _down_reason(seen, version)
        if down and seen.state.weights.get(version):
            found.append(Verdict(SERVERS, "guardrail", "FAIL", 0, rule, down, version=version))
    return found


def _down_reason(seen: Look, version: str) -> str:
    arm = seen.evidence.arms.get(version)
    return "" if arm is None else arm.down


def _failed(seen: Look, kind: str) -> list[Verdict]:
    return [verdict for verdict in seen.verdicts if verdict.kind == kind and verdict.outcome == "FAIL"]


def _reject(seen: Look, failed: list[Verdict]) -> Decision:
    """End the release where no candidate is left, else take the failing ones out and go on with the rest."""
    worst = failed[0]
    reason = f"{worst.check}: {worst.reason}"
    out = {
        verdict.version: f"{verdict.check}: {verdict.reason}"
        for verdict in reversed(failed)
        if verdict.version
    }
    left = [version for version in seen.state.candidates if version not in out]
    if not left:
        return end(seen, "roll_back", reason, worst.check)
    after = without(seen, out)
    names = ", ".join(f"version {version}" for version in out)
    return seen.decide("drop", f"{names} is out: {reason}", after, check=worst.check, alert=reason)


def _trouble(seen: Look) -> Obstacle | None:
    champion = seen.state.champion
    if seen.state.weights.get(champion) and (down := _down_reason(seen, champion)):
        return Obstacle(SERVERS, f"champion {champion}: {down}", "the champion's servers are down")
    for verdict in seen.verdicts:
        if verdict.outcome == "ERROR":
            reason = f"{verdict.check}: {verdict.reason}"
            return Obstacle(verdict.check, reason, f"{verdict.check}: its evidence cannot be used")
    for name in seen.shared:
        reason = next(v.reason for v in seen.verdicts if v.check == name)
        return Obstacle(name, f"{name}: {reason}", f"{name}: both versions fail alike")
    ratio = seen.verdict(SAMPLE_RATIO)
    if ratio.outcome == "FAIL":
        alert = "the arms did not get their shares of the traffic, no verdict can be trusted"
        counts = f"{shown(seen.state.requests)} requests in all, weights {dict(seen.state.weights)}"
        return Obstacle(SAMPLE_RATIO, f"{alert} ({counts}): {ratio.reason}", alert)
    return _outage(seen)


def _uncounted(before: ReleaseState, seen: Look) -> Obstacle | None:
    """The wire was found to differ from the decided: whether it is obeyed now is known once requests were counted."""
    if before.ratio.base is None or seen.verdict(SAMPLE_RATIO).n or before.rules == 1:
        return None
    if len(seen.state.weights) < 2 or seen.state.traffic.segments is not None:
        return None
    return Obstacle(SAMPLE_RATIO, "no requests were counted since the weights on the wire were repaired")


def _outage(seen: Look) -> Obstacle | None:
    champion, arms = seen.state.champion, seen.state.outage
    if not arms:
        return None
    alert = "both versions fail alike: not the candidate's fault"
    counts = ", ".join(
        f"{'champion' if version == champion else 'candidate'} {arm.events} of {arm.n}"
        for version, arm in arms.items()
    )
    return Obstacle(None, f"{alert} ({counts} of late)", alert)


def _blocked(seen: Look, obstacle: Obstacle) -> Look:
    """Since when there has been no progress: waiting as planned is none of it, a source that is silent is."""
    state = seen.state
    if state.rules == 1:
        return seen
    asked = {check.source for check in state.release.checks}
    blocked = not obstacle.planned or any(source in asked for source in seen.evidence.silent)
    since = (state.blocked_since or seen.now) if blocked else None
    return replace(seen, state=replace(state, blocked_since=since))
