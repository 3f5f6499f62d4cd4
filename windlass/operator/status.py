"""What a Release's `status` says: made of what is known, and written again when it says something new. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.release.decision import Decision
from serving.release.people import account
from serving.release.release import Release
from serving.release.state import FINISHED, ReleaseState
from serving.release.verdict import Verdict
from windlass.operator.conditions import Truth, condition, short, time
from windlass.operator.seen import REFUSED, Seen

Status = dict[str, Any]


#: A status whose numbers alone have changed is written again after so long, in seconds.
REFRESH_S = 30.0


@dataclass(frozen=True)
class View:
    """All that a status is made of.

    Attributes:
        phase: of a release that has not started; a started one's is its state's.
        reason: one word, why it is where it is, where it has not started.
        message: in words.
        state: None before the start.
        decision: the newest look or act; None where none is known, then what the status says already stays.
        trouble: what a person must look at, None where nothing.
        trouble_reason: the same in one word.
        in_force: whether what was decided is what the router does; None where it is not known.
        handled: the newest command that was carried out.
    """

    phase: str = "Pending"
    reason: str = "Waiting"
    message: str = ""
    release: Release | None = None
    state: ReleaseState | None = None
    decision: Decision | None = None
    trouble: str | None = None
    trouble_reason: str = "Trouble"
    in_force: bool | None = None
    handled: str | None = None
    finished_at: datetime | None = None


def of(seen: Seen, view: View, now: datetime) -> Status:
    """The whole status of an object."""
    before, state = seen.status, view.state
    release = view.release if state is None else state.release
    found: Status = {
        "observedGeneration": seen.generation,
        "phase": view.phase if state is None else state.phase,
    }
    if release is not None:
        found["steps"] = account.steps(release)
        found["candidates"] = list(release.candidates)
        if len(release.candidates) == 1:
            found["candidate"] = release.candidate
    if state is not None:
        found["step"] = max(state.step + 1, 0)
        found["champion"] = state.champion
        found |= _traffic(state)
        if state.started_at is not None:
            found["startedAt"] = time(state.started_at)
        if not state.live:
            found["finishedAt"] = before.get("finishedAt") or time(view.finished_at or now)
    decision = view.decision
    if decision is not None:
        found["decision"] = {
            "action": decision.action,
            "reason": short(decision.reason),
            "at": time(decision.at),
        }
    elif before.get("decision"):
        found["decision"] = dict(before["decision"])
    if decision is not None and decision.verdicts:
        found["checks"] = [_check(verdict) for verdict in decision.verdicts]
    elif before.get("checks"):
        found["checks"] = [dict(each) for each in before["checks"]]
    handled = view.handled or before.get("handledCommand")
    if handled:
        found["handledCommand"] = handled
    message = view.message or (decision.reason if decision is not None else "")
    if message:
        found["message"] = short(message)
    found["conditions"] = _conditions(seen, view, found["phase"], message, now)
    return found


def degraded(before: Mapping[str, Any], reason: str, message: str, generation: int, now: datetime) -> Status:
    """A status with what a person must look at, where no state of the release is known."""
    known = {c.get("type"): c for c in before.get("conditions") or ()}
    said: dict[str, tuple[Truth, str, str]] = {
        "Available": ("Unknown", reason, "what was decided last is not known"),
        "Degraded": ("True", reason, message),
    }
    said_of = {kind: condition(known.get(kind), kind, *said[kind], generation, now) for kind in said}
    return {**before, "message": short(message), "conditions": list({**known, **said_of}.values())}


def _traffic(state: ReleaseState) -> Status:
    """Who gets what, as far as it can be said in a few words."""
    traffic = state.traffic
    found: Status = {"weights": dict(traffic.weights)}
    if traffic.segments is not None:
        found["segments"] = {value: dict(weights) for value, weights in traffic.segments.weights.items()}
    if traffic.mirror_to is not None:
        found["copies"] = {"to": traffic.mirror_to, "percent": traffic.mirror_percent}
    if state.dropped:
        found["dropped"] = {version: short(why) for version, why in state.dropped.items()}
    return found


def says_more(new: Status, old: Mapping[str, Any]) -> bool:
    """Whether a status says something that the old one does not, numbers and words aside."""
    return bool(_gist(new) != _gist(old))


def _gist(status: Mapping[str, Any]) -> Any:
    plain = {
        key: value
        for key, value in status.items()
        if key not in ("checks", "decision", "conditions", "message")
    }
    decision = status.get("decision") or {}
    return (
        plain,
        [(c.get("name"), c.get("candidate"), c.get("verdict")) for c in status.get("checks") or ()],
        (decision.get("action"), decision.get("at")) if decision.get("action") != "hold" else None,
        sorted(
            (c.get("type"), c.get("status"), c.get("reason"), c.get("observedGeneration"))
            for c in status.get("conditions") or ()
        ),
    )


def _check(verdict: Verdict) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": verdict.check,
        "kind": verdict.kind,
        "verdict": verdict.outcome,
        "reason": short(verdict.reason),
        "observations": verdict.n,
    }
    return found if verdict.version is None else {**found, "candidate": verdict.version}


# --- conditions


def _conditions(seen: Seen, view: View, phase: str, message: str, now: datetime) -> list[dict[str, Any]]:
    before = {c.get("type"): c for c in seen.status.get("conditions") or ()}
    return [
        condition(before.get(kind), kind, truth, reason, text, seen.generation, now)
        for kind, truth, reason, text in (
            ("Progressing", *_progressing(view, phase, message)),
            ("Available", *_available(view)),
            ("Degraded", *_degraded(view, phase, message)),
        )
    ]


def _progressing(view: View, phase: str, message: str) -> tuple[Truth, str, str]:
    # False of what is over alone: who waits for that must not be told of a queue
    if phase in FINISHED or phase == REFUSED:
        return "False", view.reason if phase == REFUSED else phase, message
    if phase == "Paused":
        return "Unknown", phase, message
    return "True", view.reason if view.state is None else "Judging", message


def _available(view: View) -> tuple[Truth, str, str]:
    if view.state is None:
        return "Unknown", "NotStarted", "this release has not changed the traffic"
    if view.in_force:
        return "True", "InForce", f"the router does what was decided: {dict(view.state.weights)}"
    if view.in_force is None:
        return "Unknown", "NotConfirmed", "what the router does is not known"
    return "False", "NotInForce", f"not in force yet: {dict(view.state.weights)}"


def _degraded(view: View, phase: str, message: str) -> tuple[Truth, str, str]:
    if phase == REFUSED:
        return "True", view.reason, message
    if view.trouble is not None:
        return "True", view.trouble_reason, view.trouble
    if view.state is not None and view.state.live and view.state.alert is not None:
        alert, why = view.state.alert, "" if view.decision is None else view.decision.reason
        # an alert is short so that it is one however often it is found; the look that found it says more
        return "True", "NeedsAPerson", why if why.startswith(alert) else alert
    return "False", "Well", "nothing is in the way"


def verdicts(plain: Sequence[Mapping[str, Any]]) -> tuple[Verdict, ...]:
    """The verdicts of a journal's decision."""
    return tuple(Verdict(**each) for each in plain)
