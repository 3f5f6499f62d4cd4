"""What the process asks of whoever knows whether it leads: `serving.release.cluster.lease.Lease`, for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Leadership(Protocol):
    """Who leads."""

    def leads(self) -> bool:
        """Whether this replica may act, now; may be asked by any thread, before every single act."""
        ...

    def keep(self, stop: threading.Event, changed: Callable[[], None]) -> str | None:
        """Get the lease and keep it until `stop`, then give it back; why it was lost, which ends it as well.

        Args:
            changed: called when it comes or goes.
        """
        ...

    def reached(self) -> bool:
        """Whether the API server has ever answered about the lease."""
        ...
