"""A model whose journals cannot be read: nobody judges its release, which is said, and a person can still end it.

Without its journal no decision can be taken: checks are off, the traffic stays as it is. What a person wants (`abort`,
`rollback`, `rollback:VERSION`, or the deletion of the Release) is told to the router at once; the command stays on the
object, so that it is decided and written down as well once the journal is read again.
"""

from __future__ import annotations

from serving.release.backend import UnconfirmedError, UnreachableError
from serving.release.cluster.store import OvertakenError
from serving.release.release import Release
from serving.release.traffic import all_to
from windlass.errors import UsageError, WindlassError
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
    """
    why = f"{error}" if isinstance(error, WindlassError) else f"{type(error).__name__}: {error}"
    trouble = (
        f"the journal cannot be read ({why}): no check is judged and the traffic stays as it is; run the operator's "
        "version that wrote it or restore the ReleaseJournal, and abort where the candidate must go now"
    )
    for seen in work.left():
        if seen.phase not in _LIVE and seen.command is None:
            continue
        target = _target(seen)
        told = None if target is None else _tell(work, seen, target)
        work.place.teller.degraded(seen, REASON, trouble if told is None else f"{told}; {trouble}")
        if seen.deleting and target is not None:
            work.place.teller.free(seen)
    return WindlassError(f"model {work.place.namespace}/{work.model}: {trouble}")


def _target(seen: Seen) -> str | None:
    """The version that is to have all traffic; None where nobody wants that, or it is not known."""
    champion = str(seen.status.get("champion", "")) or None
    if seen.deleting:
        return champion
    if seen.command is None:
        return None
    try:
        wanted = orders.parse(seen.command)
    except UsageError:
        return None
    if wanted.command == "rollback":
        return wanted.to or champion
    return champion if wanted.command == "abort" else None


def _tell(work: Work, seen: Seen, target: str) -> str:
    """Give a version all traffic; what came of it in words.

    Raises:
        WindlassError: the router does not take it; an object that is deleted stays until it does.
    """
    read = work.read(seen)
    if not isinstance(read, Release):
        raise WindlassError(f"release {seen.namespace}/{seen.name}: {read}")
    try:
        work.place.backends.of(read).set_traffic(work.model, all_to(target))
    except UnconfirmedError:
        if seen.deleting:
            raise
        return f"the router is told to give version {target} all traffic"
    return f"version {target} has all traffic"
