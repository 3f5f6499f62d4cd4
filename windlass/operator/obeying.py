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
    if seen.command == orders.GIVE_UP:
        _give_up(work, controller, seen)
        return None
    teller, acted = work.place.teller, False
    stuck: WindlassError | None = None
    try:
        wanted = orders.parse(seen.command)
        newest = controller.newest(work.model)
        if newest is None:
            raise UsageError(f"{seen.command}: no release of model {work.model} has begun")
        if newest.release.name != seen.name:
            wanted = _of_an_older(work, seen, wanted, newest)
        stuck = None if newest.live else _stuck(work, controller, wanted)
        target = _target(wanted, newest)
        if target is not None and not newest.weights.get(target):
            waits = work.place.answers(newest.release, target)
            if waits is not None:
                trouble = f"{seen.command} waits: {waits.reason}"
                if newest.live:
                    return trouble
                in_force = _in_force(controller, work.model, stuck)
                work.show(seen, _waiting(work, seen, newest, trouble, in_force=in_force))
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
        stuck = None if acted else stuck
        in_force = _said(seen) if newest.live and not acted else _in_force(controller, work.model, stuck)
        work.show(seen, View(state=newest, decision=work.last.get(seen.name), in_force=in_force))
    else:
        teller.handled(seen, work.handled.pop(seen.name))
        if newest is not None and acted:
            _tell_newest(work, seen, newest, in_force=_in_force(controller, work.model, None))
    teller.obeyed(seen)
    return None


def _give_up(work: Work, controller: ReleaseController, seen: Seen) -> None:
    """Leave an end that no router or registry takes to the person who says so: what comes next is not kept waiting."""
    teller, newest = work.place.teller, controller.newest(work.model)
    if newest is None or newest.release.name != seen.name or newest.live:
        name = "none" if newest is None else f"{newest.release.name} ({newest.phase})"
        teller.say(
            seen,
            "CommandRefused",
            f"give-up is for the end of a model's newest release, and that is {name}; abort a live one first",
        )
    elif controller.give_up(work.model, by=seen.by):
        teller.say(
            seen,
            "GivenUp",
            f"{dict(newest.weights)} was decided and is not in force; it is tried no more: {seen.by} sees to it",
        )
    elif (by := controller.given_up_by(work.model)) is not None:
        teller.say(seen, "CommandIgnored", f"give-up: {by} gave it up before")
    else:
        teller.say(seen, "CommandIgnored", "give-up: what was decided is in force")
    work.handled[seen.name] = orders.GIVE_UP
    if newest is not None and newest.release.name == seen.name and controller.given_up_by(work.model):
        work.show(seen, View(state=newest, decision=work.last.get(seen.name)))
    else:
        teller.handled(seen, work.handled.pop(seen.name))
    teller.obeyed(seen)


def _of_an_older(work: Work, seen: Seen, wanted: Wanted, newest: ReleaseState) -> Wanted:
    """The rollback that is told to another release of the model than the newest, whose object may be gone: to the
    version that it names, else to the champion before it, where what it promoted has the traffic.

    Raises:
        UsageError: it is none, or another release is to be told.
    """
    here = (
        f"{seen.command}: the newest release of model {work.model} that has begun is {newest.release.name} "
        f"({newest.phase})"
    )
    if newest.live:
        raise UsageError(f"{here}; tell that one: abort, or rollback:VERSION")
    own = work.place.state(work.model, seen.name)
    if wanted.command != "rollback" or (own is None and seen.over):
        raise UsageError(f"{here}; this one takes no {wanted.command}")
    if wanted.to is not None:
        return wanted
    # where the champion before has it already, an earlier try of this very command is to be confirmed
    if (
        own is None
        or own.phase != "Promoted"
        or not (newest.weights.get(own.champion) or _answers(own, newest))
    ):
        raise UsageError(
            f"{here}, and nothing that release {seen.name} promoted has traffic; use rollback:VERSION"
        )
    return replace(wanted, to=own.champion)


def _answers(own: ReleaseState, newest: ReleaseState) -> bool:
    """Whether what a release gave the traffic to has it now."""
    return any(weight and newest.weights.get(version) for version, weight in own.weights.items())


def _in_force(controller: ReleaseController, model: str, stuck: WindlassError | None) -> bool | None:
    """Whether what the newest release ended with is what the router does; None where a person has given that up."""
    if stuck is not None:
        return False
    return None if controller.given_up_by(model) else True


def _waiting(work: Work, seen: Seen, newest: ReleaseState, trouble: str, *, in_force: bool | None) -> View:
    """What an object says of a command that waits for servers."""
    view = View(trouble=trouble, trouble_reason="CommandWaits")
    if newest.release.name == seen.name:
        return replace(view, state=newest, decision=work.last.get(seen.name), in_force=in_force)
    own, read = work.place.state(work.model, seen.name), work.read(seen)
    if own is not None:
        return replace(view, state=own, in_force=_said(seen))
    release = None if isinstance(read, UsageError) else read
    return replace(
        view, phase=seen.phase or "Pending", reason="CommandWaits", message=trouble, release=release
    )


def _tell_newest(work: Work, seen: Seen, newest: ReleaseState, *, in_force: bool | None) -> None:
    """Say at the newest release, in whose journal it stands, what was told to an older one; and at that one."""
    name = newest.release.name
    message = f"{seen.command}: release {name} is {newest.phase}, {dict(newest.weights)}; its journal has the decision"
    work.place.teller.say(seen, "CommandCarriedOut", message, warning=False)
    told = work.named(name)
    if told is not None and told.over:
        work.show(told, View(state=newest, decision=work.last.get(name), in_force=in_force))


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
    assert seen.command is not None and wanted.command != orders.GIVE_UP  # noqa: S101 - see above
    before = controller.newest(work.model)
    if work.decided.get(seen.name) == seen.command or _decided_before(work, seen, wanted, before):
        if stuck is not None:
            raise _again(stuck)
        return None
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


def _decided_before(work: Work, seen: Seen, wanted: Wanted, newest: ReleaseState | None) -> bool:
    """Whether the journal's newest decision is that very command, and nobody has said yet that it is handled: the
    process that took it did not get any further."""
    if newest is None or seen.status.get("handledCommand") == seen.command:
        return False
    records = reversed(work.place.records(newest.release))
    decision = next((record for record in records if record["kind"] == "decision"), None)
    cause = None if decision is None else decision.get("cause")
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
