"""A model whose journals cannot be read: nobody judges its release, which is said, and a person can still end it.

Without its journal no decision can be taken: checks are off, the traffic stays as it is. What a person wants (`abort`,
`rollback`, `rollback:VERSION`, or the deletion of the Release) of the release that is live by its status is told to the
router at once; the command stays on the object, so that it is decided and written down as well once the journal is read
again.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.release.backend import UnconfirmedError, UnreachableError
from serving.release.cluster.store import OvertakenError
from serving.release.release import Release
from serving.release.traffic import all_to
from windlass.errors import WindlassError
from windlass.operator import orders
from windlass.operator.fenced_api import DeposedError
from windlass.operator.seen import Seen
from windlass.operator.work import Work

REASON = "JournalUnreadable"
#: Phases in which traffic is split by what the journal says.
_LIVE = ("Progressing", "Paused")


def is_unreadable(error: Exception) -> bool:
    """Whether a journal was read and not understood; nobody to ask, or somebody else's turn, is something else."""
    if isinstance(error, UnreachableError | DeposedError | OvertakenError | UnconfirmedError):
        return False
    return isinstance(error, WindlassError | KeyError | TypeError | ValueError | AttributeError | IndexError)


def stand_in(work: Work, error: Exception) -> WindlassError:
    """Say of the model's live releases that nobody judges them, and carry out what a person wants of one.

    Returns what is to be raised: the turn is to be tried again.

    Raises:
        UnreachableError: the API server does not answer.
        UnconfirmedError: the router has not said yet whether it takes a deleted release's candidate back.
    """
    why = f"{error}" if isinstance(error, WindlassError) else f"{type(error).__name__}: {error}"
    trouble = (
        f"the journal cannot be read ({why}): no check is judged and the traffic stays as it is; run the operator's "
        "version that wrote it or restore the ReleaseJournal, and abort where the candidate must go now"
    )
    for seen in work.left():
        live = seen.phase in _LIVE
        if not live and seen.command is None:
            continue
        # what was over may be over for long: who is its champion by now, and what has the traffic, the journal knows
        outcome = (
            _carry_out(work, seen) if live else _Outcome(f"{seen.command} waits until the journal is read")
        )
        said = trouble if outcome.words is None else f"{outcome.words}; {trouble}"
        work.place.teller.degraded(seen, REASON, said)
        if seen.deleting and outcome.in_force:
            work.place.teller.free(seen)
    return WindlassError(f"model {work.place.namespace}/{work.model}: {trouble}")


@dataclass(frozen=True)
class _Outcome:
    """What came of what a person wants: in words, None where nobody wants anything; whether the traffic is so."""

    words: str | None = None
    in_force: bool = False


def _carry_out(work: Work, seen: Seen) -> _Outcome:
    """Have the router do what is wanted of a live release; of a command that it took, no more than once: a route that
    a person repairs afterwards is theirs.

    Raises:
        UnreachableError, UnconfirmedError: see `stand_in`.
    """
    told = work.place.told_blindly
    known = told.get(seen.uid)
    if known is not None and known[0] == seen.command and not seen.deleting:
        return _Outcome(known[1])
    told.pop(seen.uid, None)
    wanted = "the deletion" if seen.deleting else seen.command
    try:
        target = _target(seen)
        outcome = _Outcome() if target is None else _tell(work, seen, target)
    except (DeposedError, OvertakenError, UnreachableError, UnconfirmedError):
        raise
    except WindlassError as error:
        return _Outcome(f"{wanted}: {error}")
    if outcome.in_force and outcome.words is not None and seen.command is not None and not seen.deleting:
        told[seen.uid] = (seen.command, outcome.words)
    return outcome


def _target(seen: Seen) -> str | None:
    """The version that is to have all traffic; None where nobody wants that, or it is not known.

    Raises:
        UsageError: the command is none.
    """
    champion = str(seen.status.get("champion", "")) or None
    if seen.deleting:
        return champion
    if seen.command is None:
        return None
    wanted = orders.parse(seen.command)
    if wanted.command == "rollback":
        return wanted.to or champion
    return champion if wanted.command == "abort" else None


def _tell(work: Work, seen: Seen, target: str) -> _Outcome:
    """Give a version all traffic, once its servers answer; those of the live release's champion do.

    Raises:
        WindlassError: the router does not take it.
        UnconfirmedError: of an object that is deleted, which stays until the router says so.
    """
    place, read = work.place, work.read(seen)
    if not isinstance(read, Release):
        raise read
    if target != seen.status.get("champion") and not (seen.status.get("weights") or {}).get(target):
        waits = place.answers(read, target)
        if waits is not None:
            return _Outcome(f"{seen.command} waits: {waits.reason}")
    try:
        place.backends.of(read).set_traffic(work.model, all_to(target))
    except UnconfirmedError:
        if seen.deleting:
            raise
        return _Outcome(f"the router is told to give version {target} all traffic")
    return _Outcome(f"version {target} has all traffic", in_force=True)
