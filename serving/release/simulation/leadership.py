"""Who may act: one leader at a time, told apart by an epoch that rises with every change.

A process that lost its leadership does not know it: it goes on until a write is refused. So each write of journal,
route, alias and mailbox carries the writer's epoch, and an older one is refused. On disk that is the platform's lock
with the engine alone in it; on Kubernetes the resource version of each object.
"""

from __future__ import annotations

from windlass.errors import WindlassError


class FencedError(WindlassError):
    """Somebody else leads now; whatever this process wanted has not happened."""


class Leadership:
    """The lease that all processes share."""

    def __init__(self) -> None:
        self.epoch = 0

    def take(self) -> Lease:
        """Become the leader; whoever was is no longer."""
        self.epoch += 1
        return Lease(self, self.epoch)


class Lease:
    """One process's claim to lead."""

    def __init__(self, leadership: Leadership, epoch: int) -> None:
        self._leadership = leadership
        self.epoch = epoch

    def require(self) -> None:
        """Raises FencedError where a newer leader is."""
        if self.epoch != self._leadership.epoch:
            raise FencedError(
                f"epoch {self.epoch} is over, {self._leadership.epoch} leads; stop this process"
            )
