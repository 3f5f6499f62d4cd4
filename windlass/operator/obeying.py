"""Carrying out what a person wants of a Release, told by an annotation."""

from __future__ import annotations

from dataclasses import replace

from serving.release.backend import UnconfirmedError
from serving.release.cluster.store import OvertakenError
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.state import ReleaseState
from windlass.errors import UsageError, WindlassError
from windlass.operator import orders
from windlass.operator.fenced_api import DeposedError
from windlass.operator.orders import Wanted
from windlass.operator.seen import Seen
from windlass.operator.status import View
from windlass.operator.work import Work


def obey(work: Work, controller: ReleaseController, seen: Seen) -> str | None:
    """Carry a command out, say what came of it, and take it off; all of it may be done twice.

    Returns what the command of a live release waits for, which its look is to say.

    Raises:
        UnconfirmedError: the router has not said yet whether it does it; it stays on until then.
        WindlassError: it is not in force; it stays on and is to be tried again.
    """
    assert seen.command is not None  # noqa: S101 - that is why we are here
    teller, acted = work.place.teller, False
    stuck: WindlassError | None = None
    try:
        wanted = orders.parse(seen.command)
        newest = controller.newest(work.model)
        if newest is None or newest.release.name != seen.name:
            raise UsageError(
                f"{wanted.command}: this release is not the newest that has begun of model {work.model}"
            )
        stuck = None if newest.live else _stuck(work, controller, wanted)
        target = _target(wanted, newest)
        if target is not None and not newest.weights.get(target):
            waits = work.place.answers(newest.release, target)
            if waits is not None:
                trouble = f"{seen.command} waits: {waits.reason}"
                if newest.live:
                    return trouble
                view = View(
                    state=newest, trouble=trouble, trouble_reason="CommandWaits", in_force=stuck is None
                )
                work.show(seen, replace(view, decision=work.last.get(seen.name)))
                return None
        decision = _carry_out(work, controller, seen, wanted, stuck)
    except UsageError as error:
        teller.say(seen, "CommandRefused", str(error))
    else:
        acted = decision is None or decision.acts
        if decision is not None and decision.action == "hold":
            teller.say(seen, "CommandIgnored", decision.reason)
    work.decided.pop(seen.name, None)
    work.handled[seen.name] = seen.command
    newest = controller.newest(work.model)
    if newest is not None and newest.release.name == seen.name:
        # of a live one it is known a moment later, when it is looked at
        in_force = True if acted else _said(seen) if newest.live else stuck is None
        work.show(seen, View(state=newest, decision=work.last.get(seen.name), in_force=in_force))
    else:
        teller.handled(seen, work.handled.pop(seen.name))
    teller.obeyed(seen)
    return None


def _target(wanted: Wanted, newest: ReleaseState) -> str | None:
    """The version that a rollback gives the traffic to, None where that is the live release's champion: it is served,
    and nobody is to be asked how well."""
    if wanted.command != "rollback":
        return None
    return wanted.to or (newest.champion if newest.phase == "Promoted" else None)


def _carry_out(
    work: Work, controller: ReleaseController, seen: Seen, wanted: Wanted, stuck: WindlassError | None
) -> Decision | None:
    """The decision; None of one that an earlier try took, and that is in force now."""
    assert seen.command is not None  # noqa: S101 - see above
    if work.decided.get(seen.name) == seen.command or _decided_before(work, seen, wanted):
        if stuck is not None:
            raise _again(stuck)
        return None
    before = controller.newest(work.model)
    try:
        decision = controller.command(work.model, wanted.command, by=seen.by, to=wanted.to)
    except WindlassError as error:
        if controller.newest(work.model) == before or isinstance(error, DeposedError | OvertakenError):
            raise
        # what a router or a registry refuses of a decision that is in the journal is no refusal of the command
        work.decided[seen.name] = seen.command
        if isinstance(error, UnconfirmedError):
            raise
        raise WindlassError(str(error)) from error
    if decision.action == "hold" and stuck is not None:
        # a process that crashed may have decided that very command
        raise _again(stuck)
    return decision


def _again(stuck: WindlassError) -> WindlassError:
    """What is raised of a decision that is taken and not in force; a router that has not spoken yet is asked again."""
    return stuck if isinstance(stuck, UnconfirmedError) else WindlassError(str(stuck))


def _decided_before(work: Work, seen: Seen, wanted: Wanted) -> bool:
    """Whether the journal's newest decision is that very command, and nobody has said yet that it is handled: the
    process that took it did not get any further."""
    read = work.read(seen)
    if isinstance(read, UsageError) or seen.status.get("handledCommand") == seen.command:
        return False
    newest = next((r for r in reversed(work.place.records(read)) if r["kind"] == "decision"), None)
    cause = None if newest is None else newest.get("cause")
    return cause == {"command": wanted.command, "by": seen.by, "to": wanted.to}


def _stuck(work: Work, controller: ReleaseController, wanted: Wanted) -> WindlassError | None:
    """Why what was decided at the end of the newest release is not in force; None where it is.

    A rollback waits for nobody's word on what it takes back.
    """
    try:
        controller.settle(work.model)
    except (DeposedError, OvertakenError):
        raise
    except UnconfirmedError as error:
        if wanted.command != "rollback":
            raise
        return error
    except WindlassError as error:
        return error
    return None


def _said(seen: Seen) -> bool | None:
    """What the status says already of whether the router does what was decided."""
    for condition in seen.status.get("conditions") or ():
        if condition.get("type") == "Available":
            return {"True": True, "False": False}.get(condition.get("status"))
    return None
