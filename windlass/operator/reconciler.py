"""What the process asks of whoever looks after a kind of custom resource.

The process watches, leads and schedules; a reconciler says what an event wakes and does the work. `releases.py` is one;
another kind is added by giving the process one more (`__main__.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.release.cluster.api import Kind

Object = dict[str, Any]

#: What is worked on one turn at a time, for example (namespace, model).
Key = tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """A kind whose objects are watched.

    Attributes:
        label: a label selector that they have; None for all of them.
        required: whether the process is of no use where the cluster lacks the kind.
    """

    kind: Kind
    label: str | None = None
    required: bool = True


class Reconciler(Protocol):
    """Looks after one kind of custom resource."""

    @property
    def name(self) -> str:
        """In metrics and logs."""
        ...

    @property
    def watched(self) -> Sequence[Watched]: ...

    def heard(self, kind: Kind, event: str | None, body: Object) -> Iterable[Key]:
        """Take what a watch says ("ADDED", "MODIFIED", "DELETED", None of the first listing); which keys it wakes.

        Called on the event loop, by leader and standby alike: it must be quick and ask nobody.
        """
        ...

    def unfinished(self) -> Iterable[Key]:
        """Keys that may have work to do of which no object will tell.

        Called in a thread whenever this process begins to lead. Whatever it raises is logged, and it is tried again.
        """
        ...

    def turn(self, key: Key) -> float | None:
        """Do what is to be done for `key`; seconds until its next turn, None to sleep until it is woken.

        Called in a thread, by the leader only, never twice at the same time for one key. Whatever it raises is
        logged, and the turn is tried again.
        """
        ...

    def close(self) -> None:
        """Drop what is remembered of the cluster beside the objects: others may lead from here on, and a later turn, if
        there is one, begins anew. Called when no turn runs."""
        ...
