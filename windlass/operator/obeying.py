"""Carrying out what a person wants of a Release, told by an annotation."""

from __future__ import annotations

from dataclasses import replace

from serving.release.controller import ReleaseController
from windlass.errors import UsageError
from windlass.operator import orders
from windlass.operator.seen import Seen
from windlass.operator.status import View
from windlass.operator.work import Work


def obey(work: Work, controller: ReleaseController, seen: Seen) -> None:
    """Carry a command out, say what came of it, and take it off; all of it may be done twice."""
    assert seen.command is not None  # noqa: S101 - that is why we are here
    teller = work.place.teller
    try:
        wanted = orders.parse(seen.command)
        newest = controller.newest(work.model)
        if newest is None or newest.release.name != seen.name:
            raise UsageError(
                f"{wanted.command}: this release is not the newest that has begun of model {work.model}"
            )
        if wanted.command == "rollback" and wanted.to is not None:
            waits = work.place.waits(newest.release, (wanted.to,))
            if waits is not None:
                trouble = f"{seen.command} waits: {waits.reason}"
                view = View(state=newest, trouble=trouble, trouble_reason="CommandWaits", in_force=True)
                work.show(seen, replace(view, decision=work.last.get(seen.name)))
                return
        decision = controller.command(work.model, wanted.command, by=seen.by, to=wanted.to)
    except UsageError as error:
        teller.say(seen, "CommandRefused", str(error))
    else:
        if decision.action == "hold":
            teller.say(seen, "CommandIgnored", decision.reason)
    work.handled[seen.name] = seen.command
    newest = controller.newest(work.model)
    if newest is not None and newest.release.name == seen.name:
        work.show(seen, View(state=newest, decision=work.last.get(seen.name), in_force=True))
    else:
        teller.handled(seen, work.handled.pop(seen.name))
    teller.obeyed(seen)
