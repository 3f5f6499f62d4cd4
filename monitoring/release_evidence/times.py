"""Which time of a request or a label a release goes by: the platform's own, or in a replay that of the events.

What a caller writes into a header or a label decides nothing on a platform that runs in the present: whoever dates a
request back would have it finished before its reward can come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring.labels import Label
    from serving.release.envoy.access_log import Access


@dataclass(frozen=True)
class Times:
    """Epoch seconds at which a request was made, and at which something was known of it."""

    of_access: Callable[[Access], float]
    of_label: Callable[[Label], float]

    def forget(self, early: dict[str, Label], until: float) -> int:
        """Leave out the labels that came up to `until` and still wait for their request; how many there were.

        Args:
            early: by request id, the oldest first.
        """
        gone = []
        for name, label in early.items():
            if self.of_label(label) > until:
                break
            gone.append(name)
        for name in gone:
            del early[name]
        return len(gone)


def _arrived(label: Label) -> float:
    # what was kept before arrivals were noted has the caller's word only
    return label.at if label.received is None else label.received


def _replayed(access: Access) -> float:
    return float("-inf") if access.event_at is None else access.event_at  # nothing of the replay


#: The platform's clock runs, or stands: requests come and go in the present either way.
PRESENT = Times(of_access=lambda access: access.at, of_label=_arrived)
#: Everything is dated by the events that are replayed.
REPLAY = Times(of_access=_replayed, of_label=lambda label: label.at)
